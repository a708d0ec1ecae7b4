package fusefs

import (
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// GetAttr is stat(2).
func (u *FS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	u.tree.RLock()
	defer u.tree.RUnlock()
	return u.attributes(u.node(in.NodeId), out)
}

func (u *FS) attributes(n *node, out *fuse.AttrOut) fuse.Status {
	var st unix.Stat_t
	if err := u.stat(n, &st); err != nil {
		return fuse.ToStatus(err)
	}
	out.SetTimeout(forever)
	fill(&out.Attr, n, &st)
	return fuse.OK
}

// SetAttr is chmod(2), chown(2), truncate(2) and utimensat(2), after copy-up.
func (u *FS) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := u.node(in.NodeId)
	size, resize := in.GetSize()
	uid, setUID := in.GetUID()
	gid, setGID := in.GetGID()
	const others = fuse.FATTR_SIZE | fuse.FATTR_MODE | fuse.FATTR_ATIME | fuse.FATTR_MTIME
	nothing := !setUID && !setGID && in.Valid&others == 0
	if nothing { // chown(-1, -1): it takes setuid away, as any chown(2), but whose right is that?
		if err := u.mayDropSetID(n, in.Caller.Uid); err != nil {
			return fuse.ToStatus(err)
		}
	}
	if err := u.copyUp(n, !resize || size > 0); err != nil {
		return fuse.ToStatus(err)
	}
	u.tree.RLock()
	defer u.tree.RUnlock()
	fd, err := u.hold(n)
	if err != nil {
		return fuse.ToStatus(err)
	}
	defer unix.Close(fd)
	path := proc(fd)
	if resize {
		if err := u.truncate(path, int64(size), in.Valid&fuse.FATTR_KILL_SUIDGID != 0); err != nil {
			return fuse.ToStatus(err)
		}
	}
	if setUID || setGID || nothing { // -1 where it isn't set
		if err := unix.Chown(path, int(int32(uid)), int(int32(gid))); err != nil {
			return fuse.ToStatus(err)
		}
	}
	if mode, ok := in.GetMode(); ok { // after the owner: chown(2) takes setuid away
		if err := unix.Chmod(path, mode); err != nil {
			return fuse.ToStatus(err)
		}
	}
	if in.Valid&(fuse.FATTR_ATIME|fuse.FATTR_MTIME) != 0 {
		times := []unix.Timespec{
			timespec(in.Valid, fuse.FATTR_ATIME, fuse.FATTR_ATIME_NOW, in.Atime, in.Atimensec),
			timespec(in.Valid, fuse.FATTR_MTIME, fuse.FATTR_MTIME_NOW, in.Mtime, in.Mtimensec),
		}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, times, 0); err != nil {
			return fuse.ToStatus(err)
		}
	}
	return u.attributes(n, out)
}

// mayDropSetID: the kernel has checked all other rights.
func (u *FS) mayDropSetID(n *node, uid uint32) error {
	u.tree.RLock()
	defer u.tree.RUnlock()
	var st unix.Stat_t
	if err := u.stat(n, &st); err != nil {
		return err
	}
	if uid != 0 && uid != st.Uid && !isDir(&st) && st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
		return unix.EPERM
	}
	return nil
}

func timespec(valid, set, now uint32, sec uint64, nsec uint32) unix.Timespec {
	switch {
	case valid&now != 0:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	case valid&set != 0:
		return unix.Timespec{Sec: int64(sec), Nsec: int64(nsec)}
	}
	return unix.Timespec{Nsec: unix.UTIME_OMIT}
}

func (u *FS) truncate(path string, size int64, dropID bool) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if dropID {
		dropSetID(fd)
	}
	return unix.Ftruncate(fd, size)
}

// Readlink reads a symlink.
func (u *FS) Readlink(_ <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	u.tree.RLock()
	defer u.tree.RUnlock()
	fd, err := u.hold(u.node(in.NodeId))
	if err != nil {
		return nil, fuse.ToStatus(err)
	}
	defer unix.Close(fd)
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", target)
	return target[:max(n, 0)], fuse.ToStatus(err)
}

// GetXAttr reads an extended attribute.
func (u *FS) GetXAttr(_ <-chan struct{}, in *fuse.InHeader, name string, dest []byte) (n uint32, _ fuse.Status) {
	if hiddenXattr(name) {
		return 0, fuse.ENODATA
	}
	err := u.withProc(u.node(in.NodeId), func(path string) error {
		size, err := unix.Getxattr(path, name, dest)
		n = uint32(max(size, 0))
		return err
	})
	return n, fuse.ToStatus(err)
}

// ListXAttr lists the names of all of them.
func (u *FS) ListXAttr(_ <-chan struct{}, in *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	var shown []byte
	err := u.withProc(u.node(in.NodeId), func(path string) error {
		all, err := growing(func(buf []byte) (int, error) { return unix.Listxattr(path, buf) })
		for name := range strings.SplitAfterSeq(string(all), "\x00") {
			if !hiddenXattr(strings.TrimSuffix(name, "\x00")) {
				shown = append(shown, name...)
			}
		}
		return err
	})
	if err == nil && len(shown) > len(dest) {
		err = unix.ERANGE
	}
	copy(dest, shown)
	return uint32(len(shown)), fuse.ToStatus(err)
}

// SetXAttr sets an extended attribute, after copy-up.
func (u *FS) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	return u.changeXattr(in.NodeId, name, func(path string) error {
		return unix.Setxattr(path, name, value, int(in.Flags))
	})
}

// RemoveXAttr removes one, after copy-up, if it is there.
func (u *FS) RemoveXAttr(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	err := u.withProc(u.node(in.NodeId), func(path string) error {
		_, err := unix.Getxattr(path, name, nil)
		return err
	})
	if err != nil {
		return fuse.ToStatus(err)
	}
	return u.changeXattr(in.NodeId, name, func(path string) error { return unix.Removexattr(path, name) })
}

func (u *FS) changeXattr(id uint64, name string, change func(path string) error) fuse.Status {
	if hiddenXattr(name) {
		return fuse.EPERM
	}
	n := u.node(id)
	if err := u.copyUp(n, true); err != nil {
		return fuse.ToStatus(err)
	}
	return fuse.ToStatus(u.withProc(n, change))
}

// withProc calls f with a path that leads to a node's file, a symlink's too.
func (u *FS) withProc(n *node, f func(path string) error) error {
	u.tree.RLock()
	defer u.tree.RUnlock()
	fd, err := u.hold(n)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return f(proc(fd))
}

// StatFs tells of the read-write branch's file system: what is written goes there.
func (u *FS) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	var st syscall.Statfs_t
	if err := syscall.Fstatfs(u.rw().fd, &st); err != nil {
		return fuse.ToStatus(err)
	}
	out.FromStatfsT(&st)
	out.NameLen = maxName
	return fuse.OK
}
