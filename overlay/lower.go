package overlay

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"docker2013/container"
	"docker2013/durable"
)

// lowers finds the lowerdir of each layer and keeps what it has found on disk,
// so that a mount costs two system calls a layer and not a walk through it.
//
//	no marks in it  the layer itself
//	marks           its twin: the same files, hard-linked, in directories of its
//	                own, where whiteouts and opaque directories are overlayfs's
//
// A hard link is one more name: stat(2) in a container shows a link count of 2
// for the files of a twin.
type lowers struct {
	dir string
	mu  sync.Mutex // held while an answer is made or taken back
}

// temporary begins the name of an answer in the making, or being removed.
const temporary = "tmp-"

// open creates the directory and removes leftovers: what was half done, and what
// belongs to a layer that is no more.
func (l *lowers) open() error {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(l.dir, e.Name())
		layer, err := os.Readlink(filepath.Join(path, "layer"))
		if err == nil && !strings.HasPrefix(e.Name(), temporary) && exists(layer) {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

// lower gives the lowerdir of a layer.
func (l *lowers) lower(ctx context.Context, layer string) (string, error) {
	layer = filepath.Clean(layer)
	if dir, err := l.find(layer); dir != "" || err != nil {
		return dir, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if dir, err := l.find(layer); dir != "" || err != nil {
		return dir, err // somebody else just made it
	}
	if err := l.make(ctx, layer); err != nil {
		return "", fmt.Errorf("prepare layer %s: %w", layer, err)
	}
	return l.find(layer)
}

// find gives the known lowerdir of a layer, "" if there is no answer yet.
func (l *lowers) find(layer string) (string, error) {
	entry := filepath.Join(l.dir, filepath.Base(layer))
	of, err := os.Readlink(filepath.Join(entry, "layer"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", err
	case of == layer:
		if twin := filepath.Join(entry, "fs"); exists(twin) {
			return twin, nil
		}
		return layer, nil
	case exists(of):
		return "", fmt.Errorf("layers %s and %s have the same name", layer, of)
	}
	return "", nil // the store was moved: the answer is the old place's
}

// make finds the answer and publishes it; l.mu is held.
func (l *lowers) make(ctx context.Context, layer string) (err error) {
	if err := l.remove(layer); err != nil {
		return err
	}
	marked, err := hasMarks(ctx, layer)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(l.dir, temporary)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	if marked {
		if err := makeTwin(ctx, layer, filepath.Join(tmp, "fs")); err != nil {
			return err
		}
	}
	if err := os.Symlink(layer, filepath.Join(tmp, "layer")); err != nil {
		return err
	}
	// After a power failure the symlink without the twin would say "no marks".
	if marked {
		if err := durable.SyncDir(tmp); err != nil {
			return err
		}
	}
	return os.Rename(tmp, filepath.Join(l.dir, filepath.Base(layer)))
}

// forget removes the answer for a layer.
func (l *lowers) forget(layer string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.remove(filepath.Clean(layer))
}

// remove renames first: half a twin must not be found. l.mu is held.
func (l *lowers) remove(layer string) error {
	entry := filepath.Join(l.dir, filepath.Base(layer))
	if !exists(entry) {
		return nil
	}
	tmp := filepath.Join(l.dir, temporary+rand.Text())
	return errors.Join(os.Rename(entry, tmp), os.RemoveAll(tmp))
}

// hasMarks reports whether overlayfs would see the layer differently from AUFS:
// there is a mark of AUFS in it, or an attribute of overlayfs on a directory,
// which an image can bring along and which must not count.
func hasMarks(ctx context.Context, layer string) (bool, error) {
	if fi, err := os.Stat(layer); err != nil {
		return false, err
	} else if !fi.IsDir() {
		return false, unix.ENOTDIR
	}
	found := false
	err := filepath.WalkDir(layer, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		if path != layer && strings.HasPrefix(d.Name(), container.WhiteoutPrefix) {
			found = true
			return fs.SkipAll
		}
		if !d.IsDir() {
			return nil
		}
		names, err := listXattrs(path)
		if err != nil {
			return &fs.PathError{Op: "listxattr", Path: path, Err: err}
		}
		if strings.Contains("\x00"+names, "\x00"+container.OverlayXattrs) {
			found = true
			return fs.SkipAll
		}
		return nil
	})
	return found, err
}

// listXattrs gives the names of a directory's extended attributes, each ended by
// a NUL. Layers don't change, so the size asked for first is right.
func listXattrs(path string) (string, error) {
	size, err := unix.Llistxattr(path, nil)
	if size <= 0 {
		if errors.Is(err, unix.ENOTSUP) {
			err = nil
		}
		return "", err
	}
	buf := make([]byte, size)
	size, err = unix.Llistxattr(path, buf)
	return string(buf[:max(size, 0)]), err
}

// makeTwin makes the directory to as the twin of the directory from, durably.
func makeTwin(ctx context.Context, from, to string) error {
	return twinDir(ctx, from, to, false, true)
}

func twinDir(ctx context.Context, from, to string, opaque, root bool) (err error) {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	dir, err := os.Open(from)
	if err != nil {
		return err
	}
	defer dir.Close() // only read
	l, err := container.AUFSMarks.ReadDir(dir)
	if err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	for i := range l.Entries {
		e := &l.Entries[i]
		from, to := filepath.Join(from, e.Name), filepath.Join(to, e.Name)
		if e.IsDir() {
			err = twinDir(ctx, from, to, e.Replaces, false)
		} else {
			err = os.Link(from, to)
		}
		if err != nil {
			return err
		}
	}
	if err := makeWhiteouts(to, l.Gone); err != nil {
		return err
	}
	if opaque || l.Opaque && !root {
		if err := makeOpaque(to); err != nil {
			return err
		}
	}
	return copyDirAttributes(dir, to)
}

// copyDirAttributes makes the finished directory to like from. Times are last:
// everything else changes them.
func copyDirAttributes(from *os.File, to string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return &fs.PathError{Op: "stat", Path: from.Name(), Err: err}
	}
	xattrs, err := container.Xattrs(from)
	if err != nil {
		return &fs.PathError{Op: "read attributes", Path: from.Name(), Err: err}
	}
	for name, value := range xattrs {
		if err := unix.Setxattr(to, name, []byte(value), 0); err != nil {
			return &fs.PathError{Op: "set " + name, Path: to, Err: err}
		}
	}
	if err := setStat(to, &st); err != nil {
		return err
	}
	return durable.SyncDir(to)
}

// setStat gives the directory the owner, mode and times in st.
func setStat(dir string, st *unix.Stat_t) error {
	err := unix.Chown(dir, int(st.Uid), int(st.Gid))
	if err == nil {
		err = unix.Chmod(dir, st.Mode&0o7777)
	}
	if err == nil {
		err = unix.UtimesNanoAt(unix.AT_FDCWD, dir, []unix.Timespec{st.Atim, st.Mtim}, 0)
	}
	if err != nil {
		return &fs.PathError{Op: "set attributes", Path: dir, Err: err}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
