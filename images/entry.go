package images

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
)

// entry writes one entry of the tar.
func (u *unpacker) entry(hdr *tar.Header) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil // a remark on the whole archive, as git makes
	}
	name, err := cleanName(hdr.Name)
	if err != nil {
		return err
	}
	if err := checkHeader(name, hdr); err != nil {
		return err
	}
	if err := u.count(); err != nil {
		return err
	}
	if err := u.enter(path.Dir(name)); err != nil {
		return err
	}
	p := place{int(u.parent.Fd()), path.Base(name)}
	if hdr.Typeflag == tar.TypeReg && hdr.Size <= smallFile && !isSparse(hdr) {
		return u.smallFile(p, hdr)
	}
	if err := u.wait(); err != nil {
		return err
	}
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		return u.largeFile(p, hdr)
	case tar.TypeDir:
		u.folders = append(u.folders, folder{name, times(hdr)})
		return p.folder(hdr)
	case tar.TypeLink:
		return u.link(p, hdr)
	case tar.TypeSymlink:
		err = p.create(func() error { return unix.Symlinkat(hdr.Linkname, p.dir, p.base) })
	case tar.TypeFifo:
		err = p.create(func() error { return unix.Mknodat(p.dir, p.base, unix.S_IFIFO, 0) })
	case tar.TypeChar, tar.TypeBlock:
		err = u.device(p, hdr)
	default:
		err = fmt.Errorf("%w: an entry of type %q", errors.ErrUnsupported, hdr.Typeflag)
	}
	if err != nil {
		return err
	}
	return p.attributes(nil, hdr)
}

// smallFile reads the file's content and leaves the rest to a writer.
func (u *unpacker) smallFile(p place, hdr *tar.Header) error {
	if err := u.reserve(hdr.Size); err != nil {
		return err
	}
	if _, busy := u.writing.LoadOrStore(p.base, true); busy { // a name that comes twice
		if err := u.wait(); err != nil {
			return err
		}
		u.writing.Store(p.base, true)
	}
	buf := <-u.buffers
	data := buf[:hdr.Size]
	if _, err := io.ReadFull(u.tar, data); err != nil {
		return err
	}
	u.writers.Go(func() {
		err := p.file(hdr, func(f *os.File) error { _, err := f.Write(data); return err })
		if err != nil {
			u.stream.stop(fmt.Errorf("%q: %w", hdr.Name, err))
		}
		u.writing.Delete(p.base)
		u.buffers <- buf
	})
	return nil
}

// wait ends when the writers have written all they were given. Its error is
// theirs, if one failed.
func (u *unpacker) wait() error {
	u.writers.Wait()
	return context.Cause(u.stream.ctx)
}

func (u *unpacker) largeFile(p place, hdr *tar.Header) error {
	if err := u.reserve(hdr.Size); err != nil {
		return err
	}
	return p.file(hdr, func(f *os.File) error {
		if isSparse(hdr) {
			return u.writeHoles(f, hdr.Size)
		}
		_, err := io.CopyBuffer(onlyWriter{f}, u.tar, u.buf)
		return err
	})
}

// onlyWriter hides a file's other methods, so that io.CopyBuffer uses the
// buffer that it is given.
type onlyWriter struct{ io.Writer }

// isSparse tells whether the tar lists a file's holes, in GNU's old format or
// in PAX records. archive/tar then reads the holes as zeros.
func isSparse(hdr *tar.Header) bool {
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return hdr.Typeflag == tar.TypeGNUSparse
}

// writeHoles writes a sparse file: blocks of zeros become holes again.
func (u *unpacker) writeHoles(f *os.File, size int64) error {
	const block = 4096
	var zeros [block]byte
	for offset := int64(0); ; {
		if err := context.Cause(u.stream.ctx); err != nil { // reading a hole asks no stream
			return err
		}
		n, err := fill(u.buf, u.tar)
		for data := u.buf[:n]; len(data) > 0; {
			part := data[:min(block, len(data))]
			if !bytes.Equal(part, zeros[:len(part)]) {
				if _, err := f.WriteAt(part, offset); err != nil {
					return err
				}
			}
			offset += int64(len(part))
			data = data[len(part):]
		}
		if err == io.EOF {
			return f.Truncate(size)
		}
		if err != nil {
			return err
		}
	}
}

// link makes a hard link to a file that an earlier entry made.
func (u *unpacker) link(p place, hdr *tar.Header) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("link to %q: %w", hdr.Linkname, err)
		}
	}()
	name, err := cleanName(hdr.Linkname)
	if err != nil {
		return err
	}
	dir, err := pathrs.OpenatInRoot(u.root, path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	target := place{int(dir.Fd()), path.Base(name)}
	st, err := target.stat()
	if err != nil {
		return err
	}
	if t := st.Mode & unix.S_IFMT; (t == unix.S_IFCHR || t == unix.S_IFBLK) && !u.devices {
		return errDevice
	}
	if isMark(p.base) && st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errMark
	}
	// A file that tar was told to store twice is a link to itself.
	if old, err := p.stat(); err == nil && old.Dev == st.Dev && old.Ino == st.Ino {
		return nil
	}
	return p.create(func() error { return unix.Linkat(target.dir, target.base, p.dir, p.base, 0) })
}

// device makes a device, where those belong.
func (u *unpacker) device(p place, hdr *tar.Header) error {
	if err := checkDevice(hdr); err != nil {
		return err
	}
	if !u.devices {
		return errDevice
	}
	mode := uint32(unix.S_IFCHR)
	if hdr.Typeflag == tar.TypeBlock {
		mode = unix.S_IFBLK
	}
	dev := unix.Mkdev(uint32(hdr.Devmajor), uint32(hdr.Devminor))
	return p.create(func() error { return unix.Mknodat(p.dir, p.base, mode, int(dev)) })
}
