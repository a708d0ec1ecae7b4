package fusefs

import (
	"fmt"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"docker2013/container"
)

// copyUp makes sure that a node is in the read-write branch: before its content,
// mode, owner, times, attributes or number of names change. content false: it is
// about to be truncated, so what is in it needn't be copied.
//
// Until the rename in place everything is as it was, also when the disk is full.
func (u *FS) copyUp(n *node, content bool) error {
	n.copying.Lock()
	defer n.copying.Unlock()
	u.tree.RLock()
	if n.top == rw {
		u.tree.RUnlock()
		return nil
	}
	if n.at != nil {
		u.tree.RUnlock()
		u.tree.Lock()
		defer u.tree.Unlock()
		return u.raise(n)
	}
	src, err := u.hold(n)
	u.tree.RUnlock()
	if err != nil {
		return err
	}
	defer unix.Close(src)
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	tmp, err := u.duplicate(src, content) // no lock: it can take its time
	if err != nil {
		return err
	}
	u.tree.Lock()
	defer u.tree.Unlock()
	if err := u.place(n, tmp, st.Nlink > 1); err != nil {
		_ = unix.Unlinkat(u.rw().fd, tmp, 0)
		return err
	}
	return nil
}

// place puts the copy of a node in its place; the original had several names or not.
// tree is held for writing.
func (u *FS) place(n *node, tmp string, tied bool) error {
	fd := u.rw().fd
	var st unix.Stat_t
	if err := u.rw().lstat(tmp, &st); err != nil {
		return err
	}
	var copies []int // descriptors of the copy, for who reads the original
	defer func() {
		for _, c := range copies {
			_ = unix.Close(c)
		}
	}()
	followers := u.followers(n)
	for range followers {
		c, err := u.rw().open(tmp, unix.O_RDONLY)
		if err != nil {
			return err
		}
		copies = append(copies, c)
	}
	if n.removed() { // meanwhile; who has it open goes on with the copy
		pin, err := u.rw().open(tmp, unix.O_PATH)
		if err == nil {
			err = unix.Unlinkat(fd, tmp, 0)
		}
		if err != nil {
			return err
		}
		unpin(n)
		n.pin = pin
	} else {
		if err := u.raise(n.parent); err != nil {
			return err
		}
		err := u.keepTimes(n.parent.path(), func() error {
			return unix.Renameat2(fd, tmp, fd, n.path(), unix.RENAME_NOREPLACE)
		})
		if err != nil {
			return err
		}
	}
	for i, h := range followers {
		if err := unix.Dup3(copies[i], h.fd, unix.O_CLOEXEC); err != nil {
			return err
		}
	}
	n.top = rw
	u.risen(n, &st, tied)
	return nil
}

// raise makes sure that a directory is in the read-write branch, and those it is in.
// tree is held for writing.
func (u *FS) raise(dir *node) error {
	if dir.removed() {
		return unix.ENOENT
	}
	if dir.top == rw {
		return nil
	}
	if err := u.raise(dir.parent); err != nil {
		return err
	}
	src, err := u.hold(dir)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	tmp, err := u.duplicate(src, false)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	fd := u.rw().fd
	err = u.rw().lstat(tmp, &st)
	if err == nil {
		err = u.keepTimes(dir.parent.path(), func() error {
			return unix.Renameat2(fd, tmp, fd, dir.path(), unix.RENAME_NOREPLACE)
		})
	}
	if err != nil {
		_ = unix.Unlinkat(fd, tmp, unix.AT_REMOVEDIR)
		return err
	}
	dir.top, dir.at = rw, append([]int{rw}, dir.at...)
	u.risen(dir, &st, false)
	return nil
}

// risen notes which number the copy of a node goes on to show, and that the kernel
// knows old attributes of it and of its directory. One of several names in a layer has
// parted from the others, so it gets a number of its own.
func (u *FS) risen(n *node, copied *unix.Stat_t, tied bool) {
	const attributes, all = -1, 0 // of what the kernel keeps; all: a listing has numbers too
	what := int64(attributes)
	u.nodes.Lock()
	if tied {
		n.ino = u.nodes.number(rw, copied)
		what = all
	} else {
		u.nodes.origins[copied.Ino] = n.ino
	}
	u.nodes.Unlock()
	u.server.InodeNotify(n.id, attributes, 0)
	if n.parent != nil {
		u.server.InodeNotify(n.parent.id, what, 0)
	}
}

// keepTimes restores a directory's times after f: that something in it was copied
// up is no change of it. (AUFS's au_dtime.)
func (u *FS) keepTimes(dir string, f func() error) error {
	var st unix.Stat_t
	if err := u.rw().lstat(dir, &st); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	return unix.UtimesNanoAt(u.rw().fd, dir, times, unix.AT_SYMLINK_NOFOLLOW)
}

// duplicate copies what src is open on, as a path only, to a new name in the work
// directory and returns that: content, owner, mode, attributes, times, in the order
// in which none undoes another. What a file has is on disk then.
func (u *FS) duplicate(src int, content bool) (tmp string, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return "", err
	}
	fd := u.rw().fd
	tmp = u.workName()
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		err = u.duplicateFile(src, tmp, &st, content)
	case unix.S_IFDIR:
		err = unix.Mkdirat(fd, tmp, 0o700)
	case unix.S_IFLNK:
		target := make([]byte, unix.PathMax)
		var n int
		if n, err = unix.Readlinkat(src, "", target); err == nil {
			err = unix.Symlinkat(string(target[:n]), fd, tmp)
		}
	default:
		err = unix.Mknodat(fd, tmp, st.Mode, int(st.Rdev))
	}
	if err != nil {
		return "", err
	}
	if err := u.likeness(src, tmp, &st); err != nil {
		flags := 0
		if isDir(&st) {
			flags = unix.AT_REMOVEDIR
		}
		_ = unix.Unlinkat(fd, tmp, flags)
		return "", err
	}
	return tmp, nil
}

// likeness gives the copy everything but the content.
func (u *FS) likeness(src int, tmp string, st *unix.Stat_t) error {
	fd := u.rw().fd
	const itself = unix.AT_SYMLINK_NOFOLLOW
	if err := unix.Fchownat(fd, tmp, int(st.Uid), int(st.Gid), itself); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(fd, tmp, st.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	if err := copyXattrs(proc(src), proc(fd)+"/"+tmp); err != nil {
		return err
	}
	return unix.UtimesNanoAt(fd, tmp, []unix.Timespec{st.Atim, st.Mtim}, itself)
}

func (u *FS) duplicateFile(src int, tmp string, st *unix.Stat_t, content bool) error {
	// That a layer was read is not noted in it, if it is ours.
	in, err := unix.Open(proc(src), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOATIME, 0)
	if err == unix.EPERM {
		in, err = unix.Open(proc(src), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return err
	}
	defer unix.Close(in)
	out, err := unix.Openat(u.rw().fd, tmp, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	if content {
		err = copyContent(in, out, st.Size)
		if err == nil && st.Size > 0 {
			// The layer's file is hidden by the copy: on disk first, then in place.
			err = unix.Fdatasync(out)
		}
	}
	if e := unix.Close(out); err == nil {
		err = e
	}
	if err != nil {
		_ = unix.Unlinkat(u.rw().fd, tmp, 0)
	}
	return err
}

// copyContent copies size bytes, inside the kernel, and leaves holes holes.
func copyContent(in, out int, size int64) error {
	if err := unix.Ftruncate(out, size); err != nil {
		return err
	}
	for pos := int64(0); pos < size; {
		data, err := unix.Seek(in, pos, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return nil // the rest is a hole
		}
		end := size
		if err == nil {
			end, err = unix.Seek(in, data, unix.SEEK_HOLE)
		}
		if err == unix.EINVAL { // no file system of holes
			data, end, err = pos, size, nil
		}
		if err != nil {
			return err
		}
		if err := copyRange(in, out, data, end); err != nil {
			return err
		}
		pos = end
	}
	return nil
}

func copyRange(in, out int, from, to int64) error {
	for from < to {
		r, w := from, from
		n, err := unix.CopyFileRange(in, &r, out, &w, int(min(to-from, 1<<30)), 0)
		switch err {
		case nil:
		case unix.EINTR:
			continue
		case unix.EXDEV, unix.ENOSYS, unix.EOPNOTSUPP, unix.EINVAL:
			return copyByHand(in, out, from, to)
		default:
			return err
		}
		if n == 0 { // it is shorter than it said
			return unix.EIO
		}
		from += int64(n)
	}
	return nil
}

func copyByHand(in, out int, from, to int64) error {
	buf := make([]byte, 128<<10)
	for from < to {
		n, err := unix.Pread(in, buf[:min(to-from, int64(len(buf)))], from)
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 {
			err = unix.EIO
		}
		if err != nil {
			return err
		}
		for done := 0; done < n; {
			m, err := unix.Pwrite(out, buf[done:n], from+int64(done))
			if err != nil && err != unix.EINTR {
				return err
			}
			done += max(m, 0)
		}
		from += int64(n)
	}
	return nil
}

// copyXattrs copies all attributes but those that speak of a union, not of a file.
func copyXattrs(from, to string) error {
	names, err := growing(func(buf []byte) (int, error) { return unix.Listxattr(from, buf) })
	if err == unix.ENOTSUP {
		return nil
	}
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(string(names), "\x00") {
		if name == "" || hiddenXattr(name) || strings.HasPrefix(name, container.OverlayXattrs) {
			continue
		}
		value, err := growing(func(buf []byte) (int, error) { return unix.Getxattr(from, name, buf) })
		if err == nil {
			err = unix.Lsetxattr(to, name, value, 0)
		}
		if err != nil && err != unix.ENODATA {
			return err
		}
	}
	return nil
}

// growing calls get with a buffer that is large enough, see xattr(7).
func growing(get func([]byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := get(buf)
		if err == unix.ERANGE && size <= 1<<16 {
			continue
		}
		return buf[:max(n, 0)], err
	}
}

// hiddenXattr is our own note on the root of the read-write branch.
func hiddenXattr(name string) bool { return name == container.MarksXattr }

var workCount atomic.Uint64

// workName is a new name in the work directory.
func (u *FS) workName() string {
	return fmt.Sprintf("%s/%x", workDir, workCount.Add(1))
}

// proc is a path that leads to what fd is open on, even if only as a path.
func proc(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }
