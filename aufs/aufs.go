// Package aufs is the union mount of January 2013: AUFS, branches stacked by one
// option of mount(2),
//
//	mount("none", rootfs, "aufs", 0, "br:RW=rw:LAYER=ro:LAYER=ro:")
//
// top layer first (docker@bba4e36807:filesystem.go:34). AUFS never became a part
// of Linux; some distributions patched it in, until about 2020. Where the kernel
// has none New says so, and [Fuse] mounts the same branches with the file system in
// fusefs, by a process of its own.
//
// The layers of the image store are in AUFS's own format, so it mounts them as
// they are, and its read-write branch becomes a layer as it is. Only a branch
// that overlayfs has written must be translated, see FromOverlay.
//
// A caller mounts, unmounts and resets one Filesystem from one goroutine at a
// time.
package aufs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"docker2013/container"
	"docker2013/trace"
)

// Name is what Filesystem.Union records; a record of 2013 says nothing instead.
const Name = "aufs"

// ErrNoAUFS: the kernel has no AUFS.
var ErrNoAUFS = errors.New("this kernel has no aufs")

// Union mounts with AUFS. It implements container.Union.
type Union struct{}

var _ container.Union = (*Union)(nil)

// New fails with ErrNoAUFS where the kernel has none, or hasn't loaded it: then
// `modprobe aufs` may help.
func New() (*Union, error) {
	f, err := os.Open("/proc/filesystems")
	if err != nil {
		return nil, fmt.Errorf("aufs: %w", err)
	}
	defer f.Close() // only read
	has, err := listed(f, "aufs")
	if err != nil {
		return nil, fmt.Errorf("aufs: read /proc/filesystems: %w", err)
	}
	if !has {
		return nil, ErrNoAUFS
	}
	return &Union{}, nil
}

// listed looks for a file system in the lines of /proc/filesystems: "nodev" or
// nothing, a tab, the name.
func listed(filesystems io.Reader, name string) (bool, error) {
	lines := bufio.NewScanner(filesystems)
	for lines.Scan() {
		if _, found, _ := strings.Cut(lines.Text(), "\t"); found == name {
			return true, nil
		}
	}
	return false, lines.Err()
}

// Name is "aufs".
func (*Union) Name() string { return Name }

// Mount mounts RWPath and the layers at RootFS, see container.Union. RWPath is
// created if it isn't there.
func (u *Union) Mount(ctx context.Context, fsys *container.Filesystem) error {
	span := trace.Step(ctx, "union.mount", "union", Name,
		"rootfs", fsys.RootFS, "rw", fsys.RWPath, "layers", len(fsys.Layers))
	if err := u.mount(span, fsys); err != nil {
		return span.End(fmt.Errorf("aufs: mount %s: %w", fsys.RootFS, err))
	}
	return span.End(nil)
}

func (u *Union) mount(span *trace.Span, fsys *container.Filesystem) error {
	if mounted, err := u.Mounted(fsys); err != nil {
		return err
	} else if mounted {
		return container.ErrMounted
	}
	data, err := branches(fsys.RWPath, fsys.Layers)
	if err != nil {
		return err
	}
	span.Set("data", data)
	if limit := os.Getpagesize() - 1; len(data) > limit {
		return fmt.Errorf("%d layers make %d bytes of options, mount(2) takes %d",
			len(fsys.Layers), len(data), limit)
	}
	if err := prepare(fsys); err != nil {
		return err
	}
	if err := unix.Mount("none", fsys.RootFS, "aufs", 0, data); err != nil {
		return errors.Join(err, os.Remove(fsys.RootFS))
	}
	fsys.Union = Name
	return nil
}

// prepare makes the directories to mount, and the marks in RWPath AUFS's.
func prepare(fsys *container.Filesystem) error {
	if err := os.Mkdir(fsys.RWPath, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	marks, err := container.MarksOf(fsys)
	if err != nil {
		return err
	}
	if marks != container.AUFSMarks {
		if err := FromOverlay(fsys.RWPath); err != nil {
			return err
		}
	}
	if err := os.Mkdir(fsys.RootFS, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// branches is AUFS's option string. A layer that is in the stack twice is given
// once, as AUFS insists: the upper one says all that the lower one could.
//
// mount(2) takes one page of it: 42 layers of full-length ids, which later was
// Docker's famous limit. In user space there is none. AUFS has no way to write a path
// with : , or = in it.
func branches(rw string, layers []string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "br:%s=rw:", rw)
	for i, layer := range layers {
		if !slices.Contains(layers[:i], layer) {
			fmt.Fprintf(&b, "%s=ro:", layer)
		}
	}
	for _, path := range append([]string{rw}, layers...) {
		if strings.ContainsAny(path, ":,=") {
			return "", fmt.Errorf("aufs takes no path with one of : , = in it: %q", path)
		}
	}
	return b.String(), nil
}

// Unmount unmounts RootFS and removes it, see container.Union. If it stays in use
// the error is EBUSY, and it is still mounted.
func (u *Union) Unmount(ctx context.Context, fsys *container.Filesystem) error {
	span := trace.Step(ctx, "union.umount", "union", Name,
		"rootfs", fsys.RootFS, "rw", fsys.RWPath, "layers", len(fsys.Layers))
	if err := u.unmount(ctx, fsys); err != nil {
		return span.End(fmt.Errorf("aufs: unmount %s: %w", fsys.RootFS, err))
	}
	return span.End(nil)
}

func (u *Union) unmount(ctx context.Context, fsys *container.Filesystem) error {
	if mounted, err := u.Mounted(fsys); err != nil {
		return err
	} else if !mounted {
		return container.ErrNotMounted
	}
	if err := container.Detach(ctx, fsys.RootFS); err != nil {
		return err
	}
	// Never RemoveAll: were it still mounted, all of rw/ would go.
	return os.Remove(fsys.RootFS)
}

// Mounted reports whether RootFS is a mount, see container.Mounted.
func (*Union) Mounted(fsys *container.Filesystem) (bool, error) {
	return container.Mounted(fsys.RootFS)
}

// Changes lists the changes in RWPath, see container.Changes.
func (*Union) Changes(fsys *container.Filesystem) ([]container.Change, error) {
	return container.Changes(fsys)
}

// WriteLayer writes RWPath as a layer, see container.WriteLayer.
func (*Union) WriteLayer(ctx context.Context, fsys *container.Filesystem, w io.Writer) error {
	return container.WriteLayer(ctx, fsys, w)
}

// Reset empties RWPath. It fails with ErrMounted while the union is mounted.
func (u *Union) Reset(fsys *container.Filesystem) error {
	mounted, err := u.Mounted(fsys)
	if err == nil && mounted {
		err = container.ErrMounted
	}
	if err == nil {
		err = os.RemoveAll(fsys.RWPath)
	}
	if err == nil {
		err = os.Mkdir(fsys.RWPath, 0o755)
	}
	if err != nil {
		return fmt.Errorf("aufs: reset %s: %w", fsys.RWPath, err)
	}
	return nil
}

// Forget does nothing: AUFS needs nothing beside a layer.
func (*Union) Forget(string) error { return nil }

// Prepare does nothing: AUFS takes layers as they are.
func (*Union) Prepare(context.Context, string) error { return nil }

// Close does nothing: an unmount is over when it returns.
func (*Union) Close() error { return nil }
