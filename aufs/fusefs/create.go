package fusefs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// maker makes a new file at a path of the read-write branch.
type maker struct {
	in    *fuse.InHeader // whose it is to be
	mode  uint32         // with its type; of a symlink 0o777
	umask uint32
	at    func(path string, mode uint32) error
}

// make makes a new name in a directory of the union. If it was deleted before, its
// whiteout goes last, so that a crash shows the name as gone or as new. tree is held
// for writing.
func (u *FS) make(dirID uint64, name string, m maker, out *fuse.EntryOut) (*node, error) {
	dir, err := u.vacancy(dirID, name)
	if err != nil {
		return nil, err
	}
	path := join(dir.path(), name)
	covered := len(dir.at) > 1
	if covered {
		if covered, err = u.rw().isWhiteout(dir.path(), name); err != nil {
			return nil, err
		}
	}
	st, err := u.makeAt(dir, path, m, covered)
	if err == nil && covered {
		err = u.unwhiteout(dir.path(), name)
	}
	if err != nil {
		return nil, err
	}
	n := u.enter(dir, name, &found{st: *st, top: rw, at: []int{rw}})
	u.reply(n, st, out)
	return n, nil
}

// vacancy is a directory that can be written to and doesn't show a name. tree is held
// for writing.
func (u *FS) vacancy(dirID uint64, name string) (*node, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	dir := u.node(dirID)
	if dir.removed() {
		return nil, unix.ENOENT
	}
	if _, err := u.find(dir, name); err == nil {
		return nil, unix.EEXIST
	} else if err != unix.ENOENT {
		return nil, err
	}
	return dir, u.raise(dir)
}

// makeAt makes the file with its owner, group and mode. A directory that takes the
// place of a deleted one must hide it.
func (u *FS) makeAt(dir *node, path string, m maker, covered bool) (*unix.Stat_t, error) {
	mode, gid, err := u.inherit(dir, m)
	if err != nil {
		return nil, err
	}
	uid := int(m.in.Uid)
	var st unix.Stat_t
	if err := m.at(path, mode); err != nil {
		return nil, err
	}
	err = func() error {
		fd := u.rw().fd
		if covered && mode&unix.S_IFMT == unix.S_IFDIR {
			if err := u.makeOpaque(path); err != nil {
				return err
			}
		}
		if err := u.rw().lstat(path, &st); err != nil {
			return err
		}
		if int(st.Uid) == uid && int(st.Gid) == gid && (st.Mode^mode)&0o7000 == 0 {
			return nil
		}
		if err := unix.Fchownat(fd, path, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if mode&0o7000 != 0 { // chown(2) takes setuid and setgid away
			if err := unix.Fchmodat(fd, path, st.Mode&0o777|mode&0o7000, 0); err != nil {
				return err
			}
		}
		return u.rw().lstat(path, &st)
	}()
	if err != nil {
		u.unmake(path)
		return nil, err
	}
	return &st, nil
}

// inherit is the mode and group that a new file gets from its directory.
func (u *FS) inherit(dir *node, m maker) (mode uint32, gid int, err error) {
	var st unix.Stat_t
	if err := u.rw().lstat(dir.path(), &st); err != nil {
		return 0, 0, err
	}
	mode, gid = m.mode, int(m.in.Gid)
	if !u.hasDefaultACL(dir) { // which has the umask's say
		mode &^= m.umask
	}
	if st.Mode&unix.S_ISGID != 0 {
		gid = int(st.Gid)
		if mode&unix.S_IFMT == unix.S_IFDIR {
			mode |= unix.S_ISGID
		}
	}
	return mode, gid, nil
}

// unmake takes back what was just made.
func (u *FS) unmake(path string) {
	fd := u.rw().fd
	if unix.Unlinkat(fd, path, 0) == unix.EISDIR {
		_ = unix.Unlinkat(fd, join(path, opaqueMark), 0)
		_ = unix.Unlinkat(fd, path, unix.AT_REMOVEDIR)
	}
}

// hasDefaultACL tells whether new files in a directory get an access list, which
// the branch's own file system gives them.
func (u *FS) hasDefaultACL(dir *node) bool {
	n, err := unix.Lgetxattr(proc(u.rw().fd)+"/"+dir.path(), "system.posix_acl_default", nil)
	return err == nil && n > 0
}

// Mkdir makes a directory.
func (u *FS) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	u.tree.Lock()
	defer u.tree.Unlock()
	_, err := u.make(in.NodeId, name, maker{
		in: &in.InHeader, mode: in.Mode&0o7777 | unix.S_IFDIR, umask: in.Umask,
		at: func(path string, mode uint32) error { return unix.Mkdirat(u.rw().fd, path, mode&0o7777) },
	}, out)
	return fuse.ToStatus(err)
}

// Mknod makes a device, a pipe, a socket or an empty file.
func (u *FS) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	u.tree.Lock()
	defer u.tree.Unlock()
	_, err := u.make(in.NodeId, name, maker{
		in: &in.InHeader, mode: in.Mode, umask: in.Umask,
		at: func(path string, mode uint32) error { return unix.Mknodat(u.rw().fd, path, mode, int(in.Rdev)) },
	}, out)
	return fuse.ToStatus(err)
}

// Symlink makes a symlink.
func (u *FS) Symlink(_ <-chan struct{}, in *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	u.tree.Lock()
	defer u.tree.Unlock()
	_, err := u.make(in.NodeId, name, maker{
		in: in, mode: unix.S_IFLNK | 0o777,
		at: func(path string, _ uint32) error { return unix.Symlinkat(target, u.rw().fd, path) },
	}, out)
	return fuse.ToStatus(err)
}

// Create makes a file and opens it.
func (u *FS) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	u.tree.Lock()
	defer u.tree.Unlock()
	fd := -1
	n, err := u.make(in.NodeId, name, maker{
		in: &in.InHeader, mode: in.Mode&0o7777 | unix.S_IFREG, umask: in.Umask,
		at: func(path string, mode uint32) (err error) {
			flags := openFlags(in.Flags) | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW
			fd, err = unix.Openat(u.rw().fd, path, flags, mode&0o7777)
			return err
		},
	}, &out.EntryOut)
	if err != nil {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		return fuse.ToStatus(err)
	}
	return fuse.ToStatus(u.opened(n, fd, in.Flags, &out.OpenOut))
}

// Tmpfile makes a file without a name (O_TMPFILE); Link may give it one.
func (u *FS) Tmpfile(_ <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	u.tree.Lock()
	defer u.tree.Unlock()
	dir := u.node(in.NodeId)
	if err := u.raise(dir); err != nil {
		return fuse.ToStatus(err)
	}
	fd := -1
	var st unix.Stat_t
	mode, gid, err := u.inherit(dir, maker{in: &in.InHeader, mode: in.Mode & 0o7777, umask: in.Umask})
	if err == nil {
		fd, err = u.rw().open(dir.path(), openFlags(in.Flags)|unix.O_TMPFILE|int(in.Flags)&unix.O_EXCL)
	}
	if err == nil {
		err = unix.Fchown(fd, int(in.Uid), gid)
	}
	if err == nil {
		err = unix.Fchmod(fd, mode)
	}
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	pin := -1
	if err == nil {
		pin, err = unix.Open(proc(fd), unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		return fuse.ToStatus(err)
	}
	n := u.enterNameless(&st, pin)
	u.reply(n, &st, &out.EntryOut)
	return fuse.ToStatus(u.opened(n, fd, in.Flags, &out.OpenOut))
}

// Link gives a file one more name; a layer's file is copied up for that.
func (u *FS) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	n := u.node(in.Oldnodeid)
	if err := u.copyUp(n, true); err != nil {
		return fuse.ToStatus(err)
	}
	u.tree.Lock()
	defer u.tree.Unlock()
	src, err := u.hold(n)
	if err != nil {
		return fuse.ToStatus(err)
	}
	defer unix.Close(src)
	return fuse.ToStatus(u.link(n, src, in.NodeId, name, out))
}

func (u *FS) link(n *node, src int, dirID uint64, name string, out *fuse.EntryOut) error {
	dir, err := u.vacancy(dirID, name)
	if err != nil {
		return err
	}
	path := join(dir.path(), name)
	if err := unix.Linkat(unix.AT_FDCWD, proc(src), u.rw().fd, path, unix.AT_SYMLINK_FOLLOW); err != nil {
		return err
	}
	if len(dir.at) > 1 {
		if err := u.unwhiteout(dir.path(), name); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := u.rw().lstat(path, &st); err != nil {
		return err
	}
	u.nodes.Lock()
	u.nodes.link(n, st.Ino)
	u.nodes.Unlock()
	u.reply(u.enter(dir, name, &found{st: st, top: rw, at: []int{rw}}), &st, out)
	return nil
}
