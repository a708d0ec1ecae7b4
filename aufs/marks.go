package aufs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"docker2013/container"
)

// FromOverlay translates overlayfs's marks in the branch rw into AUFS's, in
// place. Times of directories stay. A name that AUFS couldn't hold (it begins
// with .wh., or is deleted and too long to be marked so) is an error, and then
// nothing is changed.
//
// In each directory the new marks are on disk before the first old one goes, and
// while it runs the branch says that it has both kinds: after a crash no deletion
// is lost, and running it again finishes it. On a finished branch it does nothing.
func FromOverlay(rw string) error {
	marks, err := container.MarksOf(&container.Filesystem{RWPath: rw, Union: "overlay"})
	if err == nil && marks == container.AUFSMarks {
		return nil
	}
	if err == nil && marks == container.OverlayMarks {
		err = check(rw)
	}
	if err == nil {
		err = container.SetMarks(rw, container.AUFSMarks|container.OverlayMarks)
	}
	if err == nil {
		err = translateDir(rw)
	}
	if err == nil {
		err = container.SetMarks(rw, container.AUFSMarks)
	}
	if err != nil {
		return fmt.Errorf("translate marks of %s: %w", rw, err)
	}
	return nil
}

// check looks for names that a branch of AUFS can't hold.
func check(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close() // only read
	l, err := container.OverlayMarks.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, name := range l.Gone {
		if len(container.WhiteoutPrefix+name) > unix.NAME_MAX {
			return fmt.Errorf("%s: %w", filepath.Join(path, name), container.ErrNameTooLong)
		}
	}
	for i := range l.Entries {
		e := &l.Entries[i]
		sub := filepath.Join(path, e.Name)
		if strings.HasPrefix(e.Name, container.WhiteoutPrefix) {
			return fmt.Errorf("%s: %w", sub, container.ErrReservedName)
		}
		if e.IsDir() {
			if err := check(sub); err != nil {
				return err
			}
		}
	}
	return nil
}

func translateDir(path string) error {
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
		if l.Entries[i].IsDir() {
			if err := translateDir(filepath.Join(path, l.Entries[i].Name)); err != nil {
				return err
			}
		}
	}

	var marks []string
	for _, name := range l.Gone {
		marks = append(marks, container.WhiteoutPrefix+name)
	}
	if l.Opaque {
		marks = append(marks, container.OpaqueMark)
	}
	if len(marks) == 0 {
		return nil
	}
	for _, mark := range marks {
		if err := makeMark(filepath.Join(path, mark)); err != nil {
			return err
		}
	}
	if err := dir.Sync(); err != nil {
		return err
	}
	for _, name := range l.Gone {
		if err := os.Remove(filepath.Join(path, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err // ENOENT: an earlier run removed it
		}
	}
	if l.Opaque {
		err := unix.Removexattr(path, container.OpaqueXattr)
		if err != nil && !errors.Is(err, unix.ENODATA) {
			return &fs.PathError{Op: "unmark", Path: path, Err: err}
		}
	}
	err = unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{st.Atim, st.Mtim}, 0)
	if err != nil {
		return &fs.PathError{Op: "set times", Path: path, Err: err}
	}
	return nil
}

// makeMark makes an empty file, with the mode that AUFS gives its marks. One
// that is there is left from an earlier run.
func makeMark(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o444)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}
