package images

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strings"
	"sync"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
)

// unpacker writes the entries of a tar stream into a folder and nowhere else.
//
// An entry's parent folder is opened by pathrs-lite, which has the kernel
// resolve the path as if the layer were the root of the file system (openat2(2),
// RESOLVE_IN_ROOT): symbolic links on the way, absolute ones and ".." included,
// lead to places inside. The entry itself is made by system calls that get that
// folder's descriptor and one last name, and follow no link: see place.
//
// Entries are made one after the other, but for small files that are neighbours
// in one folder: these are handed to several writers, because the kernel spends
// more time on creating a small file than the stream on delivering it. Whatever
// else comes waits for the writers first.
type unpacker struct {
	stream *stream
	tar    *tar.Reader
	root   *os.File
	dev    string // the real path of the layer's dev/
	limits limits // what is left of them

	parent     *os.File // the folder of the latest entry, O_PATH
	parentName string   // as the tar names it
	devices    bool     // whether parent is dev/ or below it

	writers sync.WaitGroup
	writing sync.Map    // the names that writers are at, in parent
	buffers chan []byte // one for each writer

	folders []folder
	buf     []byte
}

// folder is one whose time can only be set once all is in it.
type folder struct {
	name  string
	times fileTimes
}

// limits bound what a layer may unpack to.
type limits struct {
	bytes   int64 // of all files together, holes included
	entries int64 // files, folders, links and the rest
	stream  int64 // bytes of the tar itself, uncompressed
}

const (
	blockSize  = 512       // tar's unit
	smallFile  = 128 << 10 // the most that a writer gets
	maxWriters = 4
)

// unpack writes the layer's files into dir, which for a layer must be empty and
// nobody else's, and reads the stream to its end.
func unpack(s *stream, dir string, limits limits) error {
	root, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	where, err := os.Readlink(fdPath(root))
	if err != nil {
		return err
	}
	writers := min(runtime.GOMAXPROCS(0), maxWriters)
	u := &unpacker{
		stream: s, tar: tar.NewReader(s), root: root, dev: where + "/dev", limits: limits,
		buffers: make(chan []byte, writers), buf: make([]byte, smallFile),
	}
	for range writers {
		u.buffers <- make([]byte, smallFile)
	}
	defer func() {
		u.writers.Wait()
		if u.parent != nil {
			u.parent.Close()
		}
	}()
	return u.run()
}

func (u *unpacker) run() error {
	for first := true; ; first = false {
		start := u.stream.consumed
		hdr, err := u.tar.Next()
		switch {
		case err != nil && u.stream.failed != nil:
			return u.stream.failed
		case u.stream.consumed == 0:
			return fmt.Errorf("%w: it is empty", ErrNotArchive)
		case first && (u.stream.consumed < blockSize || errors.Is(err, tar.ErrHeader)):
			return ErrNotArchive
		case err == io.EOF && u.stream.consumed-start < blockSize:
			// archive/tar can do without the blocks of zeros at the end. We
			// can't: only they tell a whole stream from one that was cut
			// between two files.
			return fmt.Errorf("the tar stream has no end: %w", io.ErrUnexpectedEOF)
		case err == io.EOF:
			return u.finish()
		case err != nil:
			return err
		}
		if err := u.entry(hdr); err != nil {
			if cause := context.Cause(u.stream.ctx); cause != nil { // another entry's, or the caller's
				return cause
			}
			return fmt.Errorf("%q: %w", hdr.Name, err)
		}
		// What entry left unread must not count as read by the next Next.
		if _, err := io.CopyBuffer(io.Discard, u.tar, u.buf); err != nil {
			return err
		}
	}
}

// finish sets the folders' times and reads what follows the archive: padding,
// over which the layer's id is taken too.
func (u *unpacker) finish() error {
	if err := u.wait(); err != nil {
		return err
	}
	for _, f := range u.folders {
		if err := u.enter(path.Dir(f.name)); err != nil {
			return fmt.Errorf("%q: %w", f.name, err)
		}
		p := place{int(u.parent.Fd()), path.Base(f.name)}
		st, err := p.stat()
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR { // unless a later entry replaced it
			err = p.setTimes(f.times)
		}
		if err != nil {
			return fmt.Errorf("%q: %w", f.name, err)
		}
	}
	_, err := io.CopyBuffer(io.Discard, u.stream, u.buf)
	return err
}

// enter makes dir, as the tar names it, the parent, and creates what the tar
// has no entries for.
func (u *unpacker) enter(dir string) error {
	if u.parent != nil && u.parentName == dir {
		return nil
	}
	if err := u.wait(); err != nil {
		return err
	}
	f, err := u.open(dir)
	if err != nil {
		return err
	}
	if u.parent != nil {
		u.parent.Close() // O_PATH: there is nothing that could fail to be written
	}
	u.parent, u.parentName = f, dir
	// Where links led to counts, not the name. A path too long for the kernel
	// to tell is an error: nobody could follow it.
	where, err := os.Readlink(fdPath(f))
	u.devices = where == u.dev || strings.HasPrefix(where, u.dev+"/")
	return err
}

// open opens a folder of the layer, creating what is missing.
func (u *unpacker) open(dir string) (*os.File, error) {
	f, err := pathrs.OpenatInRoot(u.root, dir)
	if !errors.Is(err, unix.ENOENT) || dir == "." {
		return f, err
	}
	parent, err := u.open(path.Dir(dir))
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if err := u.count(); err != nil {
		return nil, err
	}
	fd, base := int(parent.Fd()), path.Base(dir)
	switch err := unix.Mkdirat(fd, base, 0o755); {
	case errors.Is(err, unix.EEXIST):
		return nil, fmt.Errorf("%s is a link that leads to nothing in the layer: put the folder it means into the tar before", dir)
	case err != nil:
		return nil, fmt.Errorf("mkdirat: %w", err)
	}
	if err := unix.Fchmodat(fd, base, 0o755, 0); err != nil { // the umask has no say
		return nil, fmt.Errorf("fchmodat: %w", err)
	}
	return pathrs.OpenatInRoot(u.root, dir)
}

// count takes one file off the limit, reserve takes n bytes.
func (u *unpacker) count() error {
	if u.limits.entries--; u.limits.entries < 0 {
		return fmt.Errorf("%w: too many files", ErrTooBig)
	}
	return nil
}

func (u *unpacker) reserve(n int64) error {
	if u.limits.bytes -= n; u.limits.bytes < 0 {
		return fmt.Errorf("%w: too many bytes", ErrTooBig)
	}
	return nil
}

func fdPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }
