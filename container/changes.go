package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A branch lies on top of others and must be able to say "this is gone". AUFS
// and overlayfs say it differently, with marks of two kinds:
//
//	                            AUFS                     overlayfs
//	whiteout: NAME is deleted   empty file .wh.NAME      character device 0:0 NAME
//	opaque: the directory hides file .wh..wh..opq in it  trusted.overlay.opaque = "y"
//	its like in lower layers
//
// A layer of the image store always has AUFS's marks. A read-write branch has
// those of the union that wrote it.
//
// Names that begin with .wh..wh. are AUFS's own and never show. A mark and an
// entry of the same name can meet in layers made by other tools; as in the OCI
// image format the mark then only counts for the layers below. Neither union
// asks whether a branch's own root is opaque, so it never is.
const (
	// WhiteoutPrefix begins the name of every mark of AUFS.
	WhiteoutPrefix = ".wh."
	// OpaqueMark is AUFS's mark of an opaque directory.
	OpaqueMark = ".wh..wh..opq"

	// ownPrefix begins the names that AUFS keeps for itself.
	ownPrefix = ".wh..wh."
)

// Marks says which kinds of marks a tree is read by. None: it is a plain tree,
// every name stands for itself. Both: a translation was interrupted half-way.
type Marks uint8

// The two kinds.
const (
	AUFSMarks Marks = 1 << iota
	OverlayMarks
)

// marksNames are the values of MarksXattr, and those of Filesystem.Union. A record
// of 2013 has no Union.
var marksNames = map[string]Marks{
	"":             AUFSMarks,
	"aufs":         AUFSMarks,
	"aufs-fuse":    AUFSMarks,
	"overlay":      OverlayMarks,
	"aufs,overlay": AUFSMarks | OverlayMarks,
}

// MarksOf says which marks RWPath has: what a translation noted there, else
// those of the union in the record. A branch that doesn't exist has none.
func MarksOf(fsys *Filesystem) (Marks, error) {
	name := fsys.Union
	value := make([]byte, 32)
	n, err := unix.Getxattr(fsys.RWPath, MarksXattr, value)
	switch {
	case err == nil:
		name = string(value[:n])
	case errors.Is(err, unix.ENOENT):
		return 0, nil
	case !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP):
		return 0, fmt.Errorf("marks of %s: %w", fsys.RWPath, err)
	}
	marks, ok := marksNames[name]
	if !ok {
		return 0, fmt.Errorf("marks of %s: unknown union %q", fsys.RWPath, name)
	}
	return marks, nil
}

// SetMarks notes which marks the branch rw has. A translation notes both kinds
// before its first change and the new kind after its last, so that whoever
// reads the branch after a crash in between sees every deletion.
func SetMarks(rw string, marks Marks) error {
	for _, name := range []string{"aufs", "overlay", "aufs,overlay"} {
		if marksNames[name] == marks {
			if err := unix.Setxattr(rw, MarksXattr, []byte(name), 0); err != nil {
				return fmt.Errorf("note marks of %s: %w", rw, err)
			}
			return nil
		}
	}
	return fmt.Errorf("note marks of %s: no name for %d", rw, marks)
}

// Entry is a name in a directory.
type Entry struct {
	Name string
	Stat unix.Stat_t // as by lstat
	// Replaces: the name is marked as deleted too. A directory is opaque then.
	Replaces bool
}

// IsDir reports whether the entry is a directory itself, not a symlink to one.
func (e *Entry) IsDir() bool { return isDir(&e.Stat) }

// Listing is one directory, read through its marks. All lists are sorted.
type Listing struct {
	Entries []Entry
	Gone    []string // names that are deleted from the layers below; no entries
	Opaque  bool     // hides the same directory of the layers below
	Files   []string // the names of AUFS's marks as they stand in the directory
}

// ReadDir reads the open directory dir through its marks. It follows no symlink
// and leaves out what vanishes meanwhile: the branch of a running container can
// change at any time.
func (m Marks) ReadDir(dir *os.File) (Listing, error) {
	names, err := dir.Readdirnames(-1)
	if err != nil && !errors.Is(err, unix.ENOENT) { // it was removed, so it is empty
		return Listing{}, err
	}
	slices.Sort(names)

	var l Listing
	for _, name := range names {
		if m&AUFSMarks != 0 && strings.HasPrefix(name, WhiteoutPrefix) {
			l.Files = append(l.Files, name)
			if gone, ok := whiteout(name); ok {
				l.Gone = append(l.Gone, gone)
			}
			l.Opaque = l.Opaque || name == OpaqueMark
			continue
		}
		e := Entry{Name: name}
		err := unix.Fstatat(int(dir.Fd()), name, &e.Stat, unix.AT_SYMLINK_NOFOLLOW)
		switch {
		case errors.Is(err, unix.ENOENT):
		case err != nil:
			return Listing{}, &fs.PathError{Op: "lstat", Path: filepath.Join(dir.Name(), name), Err: err}
		case m&OverlayMarks != 0 && e.Stat.Mode&unix.S_IFMT == unix.S_IFCHR && e.Stat.Rdev == 0:
			l.Gone = append(l.Gone, name)
		default:
			l.Entries = append(l.Entries, e)
		}
	}
	if m&OverlayMarks != 0 && opaqueXattr(dir) {
		l.Opaque = true
	}
	l.settle()
	return l, nil
}

// settle sorts Gone and takes out what is an entry as well.
func (l *Listing) settle() {
	slices.Sort(l.Gone)
	l.Gone = slices.DeleteFunc(slices.Compact(l.Gone), func(name string) bool {
		i, both := slices.BinarySearchFunc(l.Entries, name,
			func(e Entry, name string) int { return strings.Compare(e.Name, name) })
		if both {
			l.Entries[i].Replaces = true
		}
		return both
	})
}

// whiteout is the name that a mark of AUFS deletes. The 2013 code cut the prefix
// off with a set of characters, strings.TrimLeft(file, ".wh."), and so listed
// the deletion of /etc/hosts as "D /etc/osts" (docker@bba4e36807:filesystem.go:177).
func whiteout(mark string) (name string, ok bool) {
	if strings.HasPrefix(mark, ownPrefix) {
		return "", false
	}
	name, ok = strings.CutPrefix(mark, WhiteoutPrefix)
	return name, ok && name != "" && name != "." && name != ".."
}

func opaqueXattr(dir *os.File) bool {
	var value [1]byte
	n, err := unix.Fgetxattr(int(dir.Fd()), OpaqueXattr, value[:])
	return err == nil && n == 1 && value[0] == 'y'
}

// Changes compares the branch RWPath with the image that its layers make, by
// the rules of 2013 (docker@bba4e36807:filesystem.go:145): a whiteout is D, a
// path that the image has is C, any other A; a directory is left out if its
// size, mode and time are still the image's. (Size too: a long directory can
// be C only because its copy lists fewer names.)
//
// The image is what shows through all its layers: a path that one of them has
// and a higher one deletes isn't in it, so adding it again is A. In a directory
// that hides the image's (it was deleted and made again) D lists what is gone.
// Below a path that is D, or that was a directory and isn't any more, nothing
// is listed. Paths are as they are on disk: they can hold any byte but NUL, a
// newline as well, and whoever prints them quotes them. Sorted bytewise.
//
// A branch that doesn't exist has no changes. No symlink is followed.
func Changes(fsys *Filesystem) ([]Change, error) {
	marks, err := MarksOf(fsys)
	if err != nil {
		return nil, err
	}
	rw, err := os.Open(fsys.RWPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list changes: %w", err)
	}
	defer rw.Close()
	for _, layer := range fsys.Layers {
		if _, err := os.Stat(layer); err != nil {
			return nil, fmt.Errorf("list changes: layer: %w", err)
		}
	}

	d := differ{marks: marks}
	if err := d.dir(rw, "", fsys.Layers, false); err != nil {
		return nil, fmt.Errorf("list changes: %w", err)
	}
	slices.SortFunc(d.changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return d.changes, nil
}

type differ struct {
	marks   Marks
	changes []Change
}

func (d *differ) add(kind ChangeKind, path string) {
	d.changes = append(d.changes, Change{Kind: kind, Path: path})
}

// dir lists the changes below the branch's directory rw, which is at the path
// at in the container ("" is its root) and hides the image's or merges with it.
func (d *differ) dir(rw *os.File, at string, below image, hides bool) error {
	l, err := d.marks.ReadDir(rw)
	if err != nil {
		return err
	}
	for _, name := range l.Gone {
		d.add(Deleted, at+"/"+name)
	}
	if hides {
		if err := d.hidden(&l, at, below); err != nil {
			return err
		}
	}
	for i := range l.Entries {
		if err := d.entry(rw, &l.Entries[i], at+"/"+l.Entries[i].Name, below, hides); err != nil {
			return err
		}
	}
	return nil
}

// entry lists one entry of the branch and what is below it.
func (d *differ) entry(parent *os.File, e *Entry, at string, below image, hides bool) error {
	old, oldDir, err := below.entry(e.Name)
	if err != nil {
		return err
	}
	if !e.IsDir() {
		if old == nil {
			d.add(Added, at)
		} else {
			d.add(Modified, at)
		}
		return nil
	}

	rw, err := openDir(parent, e.Name)
	if vanished(err) {
		return nil // replaced since it was listed
	}
	if err != nil {
		return err
	}
	defer rw.Close()
	opaque := e.Replaces || d.marks&OverlayMarks != 0 && opaqueXattr(rw)
	if d.marks&AUFSMarks != 0 && !opaque {
		opaque = unix.Faccessat(int(rw.Fd()), OpaqueMark, unix.F_OK, unix.AT_SYMLINK_NOFOLLOW) == nil
	}
	switch {
	case old == nil:
		d.add(Added, at)
	case opaque || !sameDir(old, &e.Stat):
		d.add(Modified, at)
	}
	return d.dir(rw, at, oldDir, hides || opaque)
}

// hidden lists what the image has in a directory that the branch hides and that
// the branch didn't make again.
func (d *differ) hidden(l *Listing, at string, below image) error {
	have := map[string]bool{}
	for i := range l.Entries {
		have[l.Entries[i].Name] = true
	}
	for _, name := range l.Gone {
		have[name] = true // listed already
	}
	names, err := below.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !have[name] {
			d.add(Deleted, at+"/"+name)
		}
	}
	return nil
}

// sameDir is the rule of docker@bba4e36807:filesystem.go:193.
func sameDir(a, b *unix.Stat_t) bool {
	return isDir(a) && isDir(b) && a.Size == b.Size && a.Mode == b.Mode && a.Mtim == b.Mtim
}

// image is one directory of an image: the directories of its layers, in AUFS's
// format, that show there; top layer first. Layers don't change, so paths do.
type image []string

// entry is what the image has by that name, nil: nothing. If that is a
// directory, dir is the image's directory there.
func (im image) entry(name string) (found *unix.Stat_t, dir image, err error) {
	for _, layer := range im {
		path := filepath.Join(layer, name)
		st, err := lstat(path)
		if err != nil {
			return nil, nil, err
		}
		if st != nil {
			if found == nil {
				found = st
			}
			if !isDir(st) {
				break // a file hides what is below, a directory above hides a file
			}
			dir = append(dir, path)
			if opaque, err := lstat(filepath.Join(path, OpaqueMark)); opaque != nil || err != nil {
				return found, dir, err
			}
		}
		if gone, err := lstat(filepath.Join(layer, WhiteoutPrefix+name)); gone != nil || err != nil {
			return found, dir, err
		}
	}
	return found, dir, nil
}

// names lists the directory.
func (im image) names() ([]string, error) {
	var names []string
	gone := map[string]bool{}
	for _, layer := range im {
		f, err := os.Open(layer)
		if err != nil {
			return nil, err
		}
		l, err := AUFSMarks.ReadDir(f)
		f.Close() // only read
		if err != nil {
			return nil, err
		}
		for _, e := range l.Entries {
			if !gone[e.Name] {
				names = append(names, e.Name)
			}
			gone[e.Name] = gone[e.Name] || e.Replaces
		}
		for _, name := range l.Gone {
			gone[name] = true
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// lstat is nil where there is nothing. A name too long for a mark has none.
func lstat(path string) (*unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	switch {
	case err == nil:
		return &st, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENAMETOOLONG):
		return nil, nil
	}
	return nil, &fs.PathError{Op: "lstat", Path: path, Err: err}
}

func isDir(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

// openDir opens a directory inside another one. It follows no symlink, so it
// can't be led out.
func openDir(parent *os.File, name string) (*os.File, error) {
	path := filepath.Join(parent.Name(), name)
	fd, err := unix.Openat(int(parent.Fd()), name,
		unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}
