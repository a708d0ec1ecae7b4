package container

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What a layer can't hold.
var (
	// ErrReservedName: overlayfs lets a container make a file named .wh.NAME,
	// which in a layer would mean that NAME is deleted. AUFS refuses such names.
	ErrReservedName = errors.New("the name is reserved: in a layer it marks a deletion")
	// ErrNameTooLong: a name of more than 251 bytes is deleted, and with .wh.
	// before it no file system takes it.
	ErrNameTooLong = errors.New("the name is too long for a mark of its deletion")
)

// WriteLayer writes the branch RWPath to w as a layer: a tar stream whose marks
// are AUFS's, whatever the branch's are.
//
// The same branch always gives the same bytes: a directory comes before what is
// in it, names are sorted, the first entry is "./", owners are numbers and times
// have nanoseconds (pax records where ustar can't say it). Extended attributes
// are those of [Xattrs]. A file of several names is written once and then linked.
// Sockets are left out, tar has no type for them; holes are written as zeros.
//
// The container may be running: what vanishes meanwhile is left out, what grows
// is cut at the size it had. Every other failure is returned, and then what was
// written to w is no layer. The end of ctx ends it.
func WriteLayer(ctx context.Context, fsys *Filesystem, w io.Writer) error {
	marks, err := MarksOf(fsys)
	if err == nil {
		err = writeTar(ctx, fsys.RWPath, marks, w)
	}
	if err != nil {
		return fmt.Errorf("write layer: %w", err)
	}
	return nil
}

// WriteTree writes the plain tree below dir, a mounted root file system, to w as
// a tar stream like WriteLayer's. It doesn't enter other mounts: of a directory
// that something is mounted on the entry is written, of a file not even that.
func WriteTree(ctx context.Context, dir string, w io.Writer) error {
	if err := writeTar(ctx, dir, 0, w); err != nil {
		return fmt.Errorf("write tar of %s: %w", dir, err)
	}
	return nil
}

// WriteEntry writes one entry of an open directory, with all below it, to w as a
// tar stream like WriteTree's, in which it is called name; "" gives a directory's
// content alone, below "./". entry is one name, or "." for the directory itself;
// anything that would lead out of the directory is fs.ErrInvalid.
func WriteEntry(ctx context.Context, dir *os.File, entry, name string, w io.Writer) error {
	err := fs.ErrInvalid
	if entry != ".." && !strings.Contains(entry, "/") {
		err = writeEntry(ctx, dir, entry, name, w)
	}
	if err != nil {
		return fmt.Errorf("write tar of %s: %w", entry, err)
	}
	return nil
}

func writeEntry(ctx context.Context, dir *os.File, entry, name string, w io.Writer) error {
	fd, err := unix.Openat(int(dir.Fd()), entry, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), entry)
	defer f.Close() // a name for it only
	e := Entry{Name: entry}
	if err := unix.Fstat(fd, &e.Stat); err != nil {
		return err
	}
	return pack(ctx, f, 0, w, func(p *packer) error {
		if name != "" {
			return p.entry(dir, &e, name)
		}
		root, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil {
			return err
		}
		defer root.Close()
		return p.dir(root, "", false)
	})
}

// chunk is how much is copied between two looks at the context.
const chunk = 256 << 10

func writeTar(ctx context.Context, dir string, marks Marks, w io.Writer) error {
	root, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return pack(ctx, root, marks, w, func(p *packer) error { return p.dir(root, "", false) })
}

// pack writes an archive of what is on the mount of root.
func pack(ctx context.Context, root *os.File, marks Marks, w io.Writer, write func(*packer) error) (err error) {
	// tar.Writer writes headers of 512 bytes, one by one.
	buffered := bufio.NewWriterSize(w, chunk)
	p := &packer{
		ctx: ctx, tw: tar.NewWriter(buffered), marks: marks,
		written: map[inode]string{}, buf: make([]byte, chunk),
	}
	if p.mount, err = mountID(root); err != nil {
		return err
	}
	if err := write(p); err != nil {
		return err
	}
	if err := p.tw.Close(); err != nil {
		return err
	}
	return buffered.Flush()
}

// packer writes one tree. Names in the archive are relative, "" is the root;
// names of directories end in a slash.
type packer struct {
	ctx     context.Context
	tw      *tar.Writer
	marks   Marks
	mount   uint64           // the tree's mount
	written map[inode]string // files of more than one name: the first one written
	buf     []byte
}

type inode struct{ dev, ino uint64 }

// dir writes the open directory dir and all below it.
func (p *packer) dir(dir *os.File, name string, opaque bool) error {
	if err := p.dirEntry(dir, name); err != nil {
		return fmt.Errorf("/%s: %w", name, err)
	}
	if mount, err := mountID(dir); err != nil || mount != p.mount {
		return err
	}
	l, err := p.marks.ReadDir(dir)
	if err != nil {
		return err
	}
	// Marks first: who unpacks top-down deletes before he adds.
	if opaque || l.Opaque && name != "" {
		if err := p.mark(name + OpaqueMark); err != nil {
			return err
		}
	}
	for _, gone := range l.Gone {
		if len(WhiteoutPrefix+gone) > unix.NAME_MAX {
			return fmt.Errorf("/%s%s: %w", name, gone, ErrNameTooLong)
		}
		if err := p.mark(name + WhiteoutPrefix + gone); err != nil {
			return err
		}
	}
	for i := range l.Entries {
		if err := p.entry(dir, &l.Entries[i], name+l.Entries[i].Name); err != nil {
			return err
		}
	}
	return nil
}

func (p *packer) dirEntry(dir *os.File, name string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return err
	}
	if name == "" {
		name = "./"
	}
	hdr := header(name, &st)
	hdr.Typeflag = tar.TypeDir
	var err error
	if hdr.PAXRecords, err = records(Xattrs(dir)); err != nil {
		return err
	}
	return p.tw.WriteHeader(hdr)
}

// entry writes one entry of parent, with all below it.
func (p *packer) entry(parent *os.File, e *Entry, name string) error {
	if err := context.Cause(p.ctx); err != nil {
		return err
	}
	if p.marks == OverlayMarks && strings.HasPrefix(e.Name, WhiteoutPrefix) {
		return fmt.Errorf("/%s: %w", name, ErrReservedName)
	}
	// By now the name can stand for something else. O_NONBLOCK: a pipe.
	write, flags := p.special, unix.O_PATH
	switch e.Stat.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		return nil
	case unix.S_IFDIR:
		write, flags = nil, unix.O_RDONLY|unix.O_DIRECTORY
	case unix.S_IFREG:
		write, flags = p.file, unix.O_RDONLY|unix.O_NONBLOCK
	}
	fd, err := unix.Openat(int(parent.Fd()), e.Name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if vanished(err) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "open", Path: "/" + name, Err: err}
	}
	f := os.NewFile(uintptr(fd), "/"+name)
	defer f.Close() // only read
	if write == nil {
		return p.dir(f, name+"/", e.Replaces)
	}
	if err := write(f, name); err != nil {
		return fmt.Errorf("/%s: %w", name, err)
	}
	return nil
}

// vanished tells that an entry was removed, or became another kind of file,
// between its listing and its opening.
func vanished(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) ||
		errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO)
}

// file writes a regular file.
func (p *packer) file(f *os.File, name string) error {
	hdr, st, err := p.header(f, name)
	if hdr == nil || err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil // it is one no more
	}
	if hdr.PAXRecords, err = records(Xattrs(f)); err != nil {
		return err
	}
	hdr.Typeflag, hdr.Size = tar.TypeReg, st.Size
	if linked, err := p.link(hdr, st); linked || err != nil {
		return err
	}
	if err := p.tw.WriteHeader(hdr); err != nil {
		return err
	}
	n, err := io.CopyBuffer(p.tw, &reader{ctx: p.ctx, r: io.LimitReader(f, st.Size)}, p.buf)
	if err == nil && n < st.Size {
		err = fmt.Errorf("it shrank from %d to %d bytes while it was read", st.Size, n)
	}
	return err
}

// special writes what has no content: symlinks, devices, pipes. f is open as a
// path only (O_PATH), for to open a device is to use it.
func (p *packer) special(f *os.File, name string) error {
	hdr, st, err := p.header(f, name)
	if hdr == nil || err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		n, err := unix.Readlinkat(int(f.Fd()), "", p.buf)
		if err != nil {
			return err
		}
		hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, string(p.buf[:n])
	case unix.S_IFIFO:
		hdr.Typeflag = tar.TypeFifo
	case unix.S_IFCHR:
		hdr.Typeflag = tar.TypeChar
	case unix.S_IFBLK:
		hdr.Typeflag = tar.TypeBlock
	default:
		return nil // it is none of them any more
	}
	if hdr.Typeflag == tar.TypeChar || hdr.Typeflag == tar.TypeBlock {
		hdr.Devmajor, hdr.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	if hdr.PAXRecords, err = records(pathXattrs(f)); err != nil {
		return err
	}
	if linked, err := p.link(hdr, st); linked || err != nil {
		return err
	}
	return p.tw.WriteHeader(hdr)
}

// header begins the header of an open file; nil if it is on another mount.
func (p *packer) header(f *os.File, name string) (*tar.Header, *unix.Stat_t, error) {
	if mount, err := mountID(f); err != nil || mount != p.mount {
		return nil, nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, nil, err
	}
	return header(name, &st), &st, nil
}

// link writes a further name of a file that is in the archive already.
func (p *packer) link(hdr *tar.Header, st *unix.Stat_t) (bool, error) {
	if st.Nlink < 2 {
		return false, nil
	}
	id := inode{st.Dev, st.Ino}
	first, ok := p.written[id]
	if !ok {
		p.written[id] = hdr.Name
		return false, nil
	}
	hdr.Typeflag, hdr.Linkname, hdr.Size = tar.TypeLink, first, 0
	return true, p.tw.WriteHeader(hdr)
}

// mark writes a mark of AUFS. The unions share one inode among many marks, so
// its owner and times say nothing and are made the same for all.
func (p *packer) mark(name string) error {
	return p.tw.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Mode: 0o444, ModTime: time.Unix(0, 0), Format: tar.FormatPAX,
	})
}

func header(name string, st *unix.Stat_t) *tar.Header {
	return &tar.Header{
		Format: tar.FormatPAX, Name: name,
		Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()),
	}
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// mountID identifies the mount that the open file is on; 0 before Linux 5.8.
func mountID(f *os.File) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return 0, &fs.PathError{Op: "statx", Path: f.Name(), Err: err}
	}
	if st.Mask&unix.STATX_MNT_ID == 0 {
		return 0, nil
	}
	return st.Mnt_id, nil
}

// Xattrs reads the extended attributes of an open file that belong in a layer:
// all but those that speak of this host or of the union, not of the file.
func Xattrs(f *os.File) (map[string]string, error) {
	fd := int(f.Fd())
	return xattrs(
		func(dest []byte) (int, error) { return unix.Flistxattr(fd, dest) },
		func(name string, dest []byte) (int, error) { return unix.Fgetxattr(fd, name, dest) })
}

// pathXattrs is Xattrs of a file that is open as a path only: the kernel's calls
// refuse such a descriptor, but not its path in /proc.
func pathXattrs(f *os.File) (map[string]string, error) {
	path := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	return xattrs(
		func(dest []byte) (int, error) { return unix.Listxattr(path, dest) },
		func(name string, dest []byte) (int, error) { return unix.Getxattr(path, name, dest) })
}

func xattrs(list func([]byte) (int, error), get func(string, []byte) (int, error)) (map[string]string, error) {
	names, err := read(list)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	kept := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if !inLayer(name) {
			continue
		}
		value, err := read(func(dest []byte) (int, error) { return get(name, dest) })
		switch {
		case err == nil:
			kept[name] = string(value)
		case !errors.Is(err, unix.ENODATA): // removed meanwhile
			return nil, err
		}
	}
	return kept, nil
}

// read calls get with a buffer that is large enough, see xattr(7).
func read(get func([]byte) (int, error)) ([]byte, error) {
	buf := make([]byte, 256)
	for {
		n, err := get(buf)
		switch {
		case err == nil:
			return buf[:n], nil
		case errors.Is(err, unix.ENOTSUP):
			return nil, nil
		case !errors.Is(err, unix.ERANGE) || len(buf) > 1<<16:
			return nil, err
		}
		buf = make([]byte, 4*len(buf))
	}
}

// inLayer leaves out the marks of overlayfs and ours, and what a security module
// of this host has put on the file.
func inLayer(xattr string) bool {
	switch {
	case strings.HasPrefix(xattr, "trusted.overlay."), strings.HasPrefix(xattr, "user.overlay."), xattr == MarksXattr:
		return false
	case strings.HasPrefix(xattr, "security."):
		return xattr == "security.capability"
	case strings.HasPrefix(xattr, "system."):
		return strings.HasPrefix(xattr, "system.posix_acl_")
	}
	return true
}

// records are the pax records of extended attributes, as star and GNU tar write
// them. A key can't hold "=", so like GNU tar it is written "%3D".
func records(xattrs map[string]string, err error) (map[string]string, error) {
	if len(xattrs) == 0 {
		return nil, err
	}
	escape := strings.NewReplacer("%", "%25", "=", "%3D")
	records := map[string]string{}
	for name, value := range xattrs {
		records["SCHILY.xattr."+escape.Replace(name)] = value
	}
	return records, err
}
