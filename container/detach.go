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
// unions.
func Mounted(rootfs string) (bool, error) {
	var dir, parent unix.Stat_t
	err := unix.Lstat(rootfs, &dir)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err == nil {
		err = unix.Lstat(filepath.Dir(rootfs), &parent)
	}
	if err != nil {
		return false, &fs.PathError{Op: "lstat", Path: rootfs, Err: err}
	}
	return dir.Dev != parent.Dev, nil
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
