package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Mounted reports whether rootfs and its parent are on different devices, which
// is what "mounted" meant in 2013 (docker@bba4e36807:filesystem.go:70). For
// unions. It asks the kernel alone: the process of a file system in user space can
// be dead or stopped, and the answer is the same.
func Mounted(rootfs string) (bool, error) {
	var dir, parent unix.Statx_t
	const flags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT | unix.AT_STATX_DONT_SYNC
	err := unix.Statx(unix.AT_FDCWD, rootfs, flags, 0, &dir)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err == nil {
		err = unix.Statx(unix.AT_FDCWD, filepath.Dir(rootfs), flags, 0, &parent)
	}
	if err != nil {
		return false, &fs.PathError{Op: "statx", Path: rootfs, Err: err}
	}
	return dir.Dev_major != parent.Dev_major || dir.Dev_minor != parent.Dev_minor, nil
}

// Detach retries while something of the mount is in use, as 2013 did because
// "AUFS let go late" (docker@bba4e36807:filesystem.go:56), with its bounds. A
// process that was killed, too, closes its files a moment after it is gone.
const (
	detachTries = 1000
	detachPause = 10 * time.Millisecond
)

// Detach unmounts rootfs. If it stays in use the error is EBUSY, and it is still
// mounted. For unions.
func Detach(ctx context.Context, rootfs string) error {
	for try := 1; ; try++ {
		err := unix.Unmount(rootfs, unix.UMOUNT_NOFOLLOW)
		if !errors.Is(err, unix.EBUSY) || try == detachTries {
			return err
		}
		select {
		case <-time.After(detachPause):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", err, context.Cause(ctx))
		}
	}
}
