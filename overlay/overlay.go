// Package overlay is the modern union mount: overlayfs, in every kernel since
// 3.18, behind the interface that the AUFS of 2013 is behind too.
//
// The layers of the image store are in AUFS's format and never changed. Overlayfs
// marks deletions in another way, so marks are translated:
//
//	on the way in   a layer with marks is mounted as its twin, see lower.go
//	on the way out  container.WriteLayer writes AUFS's marks
//	across a change of union
//	                FromAUFS translates a read-write branch in place
//
// # On disk
//
//	DIR/                   mode 0700, on the file system of the layers
//	    LAYER/layer        a symlink to the layer
//	    LAYER/fs/          the layer's twin; absent: it has no marks and is used itself
//	    tmp-RANDOM/        one that is being made or removed; New removes them
//	RWPath/../work/        overlayfs's workdir, there only while it is mounted
//
// All of DIR can be made again from the layers.
//
// # The options, and why
//
//	redirect_dir=nofollow  a renamed directory is copied, not marked with where it
//	                       came from; and such a mark in an image leads nowhere
//	metacopy=off           a file in the upperdir is a whole file
//	index=off              no state beside the upperdir that a layer couldn't hold
//	xino=off               inode numbers as the file system has them
//
// With them the upperdir is a plain tree with whiteouts and opaque directories,
// the two things that AUFS has as well. The price is AUFS's too: rename(2) of a
// directory of the image fails with EXDEV (mv then copies), and of a file with
// several names only the one that is written to is copied up.
//
// A caller mounts, unmounts and resets one Filesystem from one goroutine at a
// time, and calls Close at the end.
package overlay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"docker2013/container"
	"docker2013/trace"
)

// Name is what Filesystem.Union records.
const Name = "overlay"

// Union mounts with overlayfs. It implements container.Union.
type Union struct {
	lowers   lowers
	releases releases
}

var _ container.Union = (*Union)(nil)

// New takes dir for the twins of layers, creates it if need be, and removes what
// an earlier process left half done there. dir must be on the layers' file system.
func New(dir string) (*Union, error) {
	u := &Union{lowers: lowers{dir: dir}}
	if err := u.lowers.open(); err != nil {
		return nil, fmt.Errorf("overlay: %w", err)
	}
	return u, nil
}

// Close waits until the kernel has let go of everything that was unmounted. The
// union can be used further.
func (u *Union) Close() error {
	u.releases.releaseAll()
	return nil
}

// Name is "overlay".
func (u *Union) Name() string { return Name }

// Prepare makes what Mount needs for a layer, so that the first Mount needn't:
// it reads all of the layer's directories, once. Idempotent.
func (u *Union) Prepare(ctx context.Context, layer string) error {
	_, err := u.lowers.lower(ctx, layer)
	return err
}

// Forget removes a layer's twin. Idempotent. Nothing may be mounted with it.
func (u *Union) Forget(layer string) error {
	if err := u.lowers.forget(layer); err != nil {
		return fmt.Errorf("overlay: forget layer: %w", err)
	}
	return nil
}

// Mount mounts the layers and RWPath at RootFS, see container.Union. RWPath is
// created if it isn't there, with owner and mode of the image's root directory.
func (u *Union) Mount(ctx context.Context, fsys *container.Filesystem) error {
	span := trace.Step(ctx, "union.mount", "union", Name,
		"rootfs", fsys.RootFS, "rw", fsys.RWPath, "layers", len(fsys.Layers))
	if err := u.mount(ctx, span, fsys); err != nil {
		return span.End(fmt.Errorf("overlay: mount %s: %w", fsys.RootFS, err))
	}
	return span.End(nil)
}

func (u *Union) mount(ctx context.Context, span *trace.Span, fsys *container.Filesystem) (err error) {
	if mounted, err := u.Mounted(fsys); err != nil {
		return err
	} else if mounted {
		return container.ErrMounted
	}
	// An unmount of this branch may not be over for the kernel, and overlayfs
	// promises nothing to two mounts with one upperdir.
	if err := u.releases.wait(ctx, fsys.RWPath); err != nil {
		return err
	}
	lower, err := u.lowerdirs(ctx, fsys.Layers)
	if err != nil {
		return err
	}
	if err := makeRW(fsys); err != nil {
		return err
	}
	marks, err := container.MarksOf(fsys)
	if err != nil {
		return err
	}
	if marks != container.OverlayMarks {
		if err := FromAUFS(fsys.RWPath); err != nil {
			return err
		}
	}

	// rootfs last: it says to everybody that something is mounted.
	work := workdir(fsys)
	defer func() {
		if err != nil {
			_, _ = os.Remove(fsys.RootFS), os.RemoveAll(work) // empty, or not ours
		}
	}()
	for _, dir := range []string{work, fsys.RootFS} {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	m := mount{lower: lower, upper: fsys.RWPath, work: work}
	data := m.data()
	span.Set("data", data)
	if fsys.IDs != nil && fsys.IDs.First != 0 { // else they are the daemon's own, in a user namespace
		span.Set("ids", fsys.IDs.String())
		err = m.mapped(fsys.RootFS, data, *fsys.IDs)
	} else {
		err = m.at(fsys.RootFS, data)
	}
	if err != nil {
		return err
	}
	fsys.Union = Name
	return nil
}

// lowerdirs are the directories to mount for the layers. A layer that is in the
// stack twice (two commits without a change in between) is mounted once, which
// overlayfs insists on: the upper one says all that the lower one could.
func (u *Union) lowerdirs(ctx context.Context, layers []string) ([]string, error) {
	var dirs []string
	for _, layer := range layers {
		dir, err := u.lowers.lower(ctx, layer)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs, nil
}

// Unmount unmounts RootFS and removes it and the workdir, see container.Union.
// If it stays in use the error is EBUSY, and it is still mounted. The kernel may
// go on writing to disk for a while, see releases.
func (u *Union) Unmount(ctx context.Context, fsys *container.Filesystem) error {
	span := trace.Step(ctx, "union.umount", "union", Name,
		"rootfs", fsys.RootFS, "rw", fsys.RWPath, "layers", len(fsys.Layers))
	if err := u.unmount(ctx, fsys); err != nil {
		return span.End(fmt.Errorf("overlay: unmount %s: %w", fsys.RootFS, err))
	}
	return span.End(nil)
}

func (u *Union) unmount(ctx context.Context, fsys *container.Filesystem) error {
	if mounted, err := u.Mounted(fsys); err != nil {
		return err
	} else if !mounted {
		return container.ErrNotMounted
	}
	held := hold(fsys.RootFS)
	err := container.Detach(ctx, fsys.RootFS)
	if err != nil {
		held.release()
		return err
	}
	u.releases.start(fsys.RWPath, held)
	// Never RemoveAll on rootfs: were it still mounted, all of rw/ would go.
	if err := unix.Rmdir(fsys.RootFS); err != nil {
		return &fs.PathError{Op: "rmdir", Path: fsys.RootFS, Err: err}
	}
	return removeWork(workdir(fsys))
}

// Mounted reports whether RootFS is a mount, see container.Mounted.
func (u *Union) Mounted(fsys *container.Filesystem) (bool, error) {
	return container.Mounted(fsys.RootFS)
}

// Changes lists the changes in RWPath, see container.Changes.
func (u *Union) Changes(fsys *container.Filesystem) ([]container.Change, error) {
	return container.Changes(fsys)
}

// WriteLayer writes RWPath as a layer, see container.WriteLayer.
func (u *Union) WriteLayer(ctx context.Context, fsys *container.Filesystem, w io.Writer) error {
	return container.WriteLayer(ctx, fsys, w)
}

// Reset empties RWPath. It fails with ErrMounted while the union is mounted.
func (u *Union) Reset(fsys *container.Filesystem) error {
	mounted, err := u.Mounted(fsys)
	if err == nil && mounted {
		err = container.ErrMounted
	}
	if err == nil {
		err = u.releases.wait(context.Background(), fsys.RWPath)
	}
	if err == nil {
		err = os.RemoveAll(fsys.RWPath)
	}
	if err == nil {
		err = makeRW(fsys)
	}
	if err != nil {
		return fmt.Errorf("overlay: reset %s: %w", fsys.RWPath, err)
	}
	return nil
}

// makeRW creates RWPath if it isn't there. Its root directory will be the
// container's, so it is like the image's. A record of another union is corrected
// by a note in it.
func makeRW(fsys *container.Filesystem) error {
	rw := fsys.RWPath
	if err := os.Mkdir(rw, 0o755); errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	if len(fsys.Layers) > 0 {
		var root unix.Stat_t
		if err := unix.Stat(fsys.Layers[0], &root); err != nil {
			return &fs.PathError{Op: "stat", Path: fsys.Layers[0], Err: err}
		}
		if err := setStat(rw, &root); err != nil {
			return err
		}
	}
	if fsys.Union == Name {
		return nil
	}
	return container.SetMarks(rw, container.OverlayMarks)
}

// workdir is overlayfs's own directory, on the upperdir's file system.
func workdir(fsys *container.Filesystem) string {
	return filepath.Join(filepath.Dir(fsys.RWPath), "work")
}

// removeWork removes the workdir; the kernel has left an empty directory in it.
func removeWork(work string) error {
	if unix.Rmdir(filepath.Join(work, "work")) == nil && unix.Rmdir(work) == nil {
		return nil
	}
	return os.RemoveAll(work)
}
