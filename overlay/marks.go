package overlay

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"docker2013/container"
	"docker2013/durable"
)

// originXattr says of a directory what it was copied up from; empty: not known.
var originXattr = container.OverlayXattrs + "origin"

// FromAUFS translates AUFS's marks in the branch rw into overlayfs's, in place.
// AUFS's own files (.wh..wh.plnk and the like) go. Times of directories stay.
//
// In each directory the new marks are on disk before the first old one goes, and
// while it runs the branch says that it has both kinds: after a crash no deletion
// is lost, and running it again finishes it. On a finished branch it does nothing.
func FromAUFS(rw string) error {
	marks, err := container.MarksOf(&container.Filesystem{RWPath: rw})
	if err == nil && marks == container.OverlayMarks {
		return nil
	}
	if err == nil {
		err = container.SetMarks(rw, container.AUFSMarks|container.OverlayMarks)
	}
	if err == nil {
		err = translateDir(rw, true)
	}
	if err == nil {
		err = container.SetMarks(rw, container.OverlayMarks)
	}
	if err != nil {
		return fmt.Errorf("translate marks of %s: %w", rw, err)
	}
	return nil
}

func translateDir(path string, root bool) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close() // only read
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	l, err := (container.AUFSMarks | container.OverlayMarks).ReadDir(dir)
	if err != nil {
		return err
	}
	for i := range l.Entries {
		e := &l.Entries[i]
		if !e.IsDir() {
			continue
		}
		sub := filepath.Join(path, e.Name)
		if e.Replaces {
			if err := errors.Join(makeOpaque(sub), durable.SyncDir(sub)); err != nil {
				return err
			}
		}
		if err := translateDir(sub, false); err != nil {
			return err
		}
	}
	if len(l.Files) == 0 {
		return nil
	}
	if l.Opaque && !root {
		if err := makeOpaque(path); err != nil {
			return err
		}
	}
	if err := makeWhiteouts(path, l.Gone); err != nil {
		return err
	}
	if err := dir.Sync(); err != nil {
		return err
	}
	for _, name := range l.Files {
		if err := os.RemoveAll(filepath.Join(path, name)); err != nil {
			return err
		}
	}
	return setStat(path, &st)
}

// makeWhiteouts marks names in the directory as deleted, unless they are already.
//
// A directory that only one branch has is listed as it is, whiteouts and all: ls
// shows a name and then can't find it. Unless the directory could be a copy of a
// lower one (ovl_get_inode in fs/overlayfs/inode.c), so it says that it is.
func makeWhiteouts(dir string, names []string) error {
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := unix.Mknod(path, unix.S_IFCHR, 0); err != nil && !errors.Is(err, unix.EEXIST) {
			return &fs.PathError{Op: "make whiteout", Path: path, Err: err}
		}
	}
	if len(names) == 0 {
		return nil
	}
	err := unix.Setxattr(dir, originXattr, nil, unix.XATTR_CREATE)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return &fs.PathError{Op: "mark as copied", Path: dir, Err: err}
	}
	return nil
}

// makeOpaque marks the directory as hiding those of the layers below.
func makeOpaque(dir string) error {
	if err := unix.Setxattr(dir, container.OpaqueXattr, []byte("y"), 0); err != nil {
		return &fs.PathError{Op: "make opaque", Path: dir, Err: err}
	}
	return nil
}
