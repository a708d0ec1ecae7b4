package evidence

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"docker2013/trace"
)

// A tree is cut after treeLines entries; what is left out is counted up to
// treeLook entries in all. Folders deeper than treeDepth aren't entered.
const (
	treeLines = 40
	treeLook  = 4000
	treeDepth = 32
)

// Tree is a folder's contents, a line an entry, each folder's sorted by name
// and indented below it. The marks that union file systems leave are explained:
//
//	etc/  opaque: hides what the layers have here
//	  .wh.hosts  AUFS whiteout: hosts deleted
//	  hosts  whiteout: deleted
//	  mtab -> /proc/mounts
//
// It doesn't enter other file systems mounted below dir.
func Tree(dir string) trace.Evidence {
	ev := trace.Evidence{Kind: "tree", From: dir}
	// Paths that go through root can't leave it, even when a container that
	// still runs swaps a folder for a link while we look.
	root, err := os.OpenRoot(dir)
	if err != nil {
		ev.Text = unreadable(err)
		return ev
	}
	defer root.Close() // only read from: nothing to lose
	info, err := root.Lstat(".")
	if err != nil {
		ev.Text = unreadable(err)
		return ev
	}
	w := walker{root: root, device: info.Sys().(*syscall.Stat_t).Dev}
	top, err := w.read(".")
	if err != nil {
		ev.Text = unreadable(err)
		return ev
	}
	w.list(top, 0)
	ev.Text = w.text()
	return ev
}

// walker walks one tree, depth first.
type walker struct {
	root   *os.Root
	device uint64 // of the root: others aren't entered
	lines  strings.Builder
	seen   int // entries looked at, written or not
}

func (w *walker) text() string {
	switch {
	case w.seen == 0:
		return "(empty)\n"
	case w.seen > treeLook:
		fmt.Fprintf(&w.lines, "… and more than %d more\n", treeLook-treeLines)
	case w.seen > treeLines:
		fmt.Fprintf(&w.lines, "… and %d more\n", w.seen-treeLines)
	}
	return w.lines.String()
}

// folder is what was read of one folder.
type folder struct {
	name    string   // its path below the root
	entries []string // names, sorted
	opaque  bool     // overlayfs hides what the layers have in it
}

// read reads a folder, no more of it than is still to be looked at. It is
// closed again before any folder below is opened: depth costs no descriptors.
func (w *walker) read(name string) (folder, error) {
	// O_DIRECTORY: should it have become a named pipe, this doesn't wait.
	dir, err := w.root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return folder{}, err
	}
	defer dir.Close() // only read from: nothing to lose
	names, err := dir.Readdirnames(treeLook + 1 - w.seen)
	if err != nil && err != io.EOF {
		return folder{}, err
	}
	slices.Sort(names)
	var value [1]byte
	n, err := unix.Fgetxattr(int(dir.Fd()), "trusted.overlay.opaque", value[:])
	if err != nil { // a daemon in a user namespace has the users' own
		n, err = unix.Fgetxattr(int(dir.Fd()), "user.overlay.opaque", value[:])
	}
	return folder{name, names, err == nil && n == 1 && value[0] == 'y'}, nil
}

// list visits what is in a folder.
func (w *walker) list(f folder, depth int) {
	for _, entry := range f.entries {
		if w.seen++; w.seen > treeLook {
			return
		}
		w.visit(path.Join(f.name, entry), depth)
	}
}

// visit writes the line of one entry, and of what is below it. An entry that
// vanishes meanwhile has been counted and gets no line.
func (w *walker) visit(name string, depth int) {
	info, err := w.root.Lstat(name)
	if err != nil {
		return
	}
	base := path.Base(name)
	switch {
	case !info.IsDir():
		w.line(depth, base, w.mark(name, info))
		return
	case info.Sys().(*syscall.Stat_t).Dev != w.device:
		w.line(depth, base+"/", "  another file system is mounted here")
		return
	case depth == treeDepth:
		w.line(depth, base+"/", "  …")
		return
	}
	f, err := w.read(name)
	switch {
	case err != nil:
		w.line(depth, base+"/", "  "+unreadable(err))
		return
	case f.opaque:
		w.line(depth, base+"/", "  opaque: hides what the layers have here")
	default:
		w.line(depth, base+"/", "")
	}
	w.list(f, depth+1)
}

func (w *walker) line(depth int, name, note string) {
	if w.seen <= treeLines {
		// A newline in a name must not look like another entry.
		text := strings.ReplaceAll(name+note, "\n", `\x0a`)
		fmt.Fprintf(&w.lines, "%s%s\n", strings.Repeat("  ", depth), printable(text))
	}
}

// mark says what an entry that isn't a folder stands for.
func (w *walker) mark(name string, info fs.FileInfo) string {
	stat := info.Sys().(*syscall.Stat_t)
	major, minor := unix.Major(stat.Rdev), unix.Minor(stat.Rdev)
	base := path.Base(name)
	switch kind := info.Mode().Type(); {
	case kind == fs.ModeSymlink:
		target, err := w.root.Readlink(name)
		if err != nil {
			return ""
		}
		return " -> " + target
	case kind == fs.ModeDevice|fs.ModeCharDevice && stat.Rdev == 0:
		return "  whiteout: deleted" // Documentation/filesystems/overlayfs.rst
	case kind == fs.ModeDevice|fs.ModeCharDevice:
		return fmt.Sprintf("  character device %d:%d", major, minor)
	case kind == fs.ModeDevice:
		return fmt.Sprintf("  block device %d:%d", major, minor)
	case kind == fs.ModeNamedPipe:
		return "  named pipe"
	case kind == fs.ModeSocket:
		return "  socket"
	case base == ".wh..wh..opq":
		return "  AUFS: this folder is opaque"
	case strings.HasPrefix(base, ".wh..wh."):
		return "  AUFS's own"
	case strings.HasPrefix(base, ".wh."):
		return "  AUFS whiteout: " + strings.TrimPrefix(base, ".wh.") + " deleted"
	}
	return ""
}
