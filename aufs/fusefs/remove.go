package fusefs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Unlink removes a name that is no directory.
func (u *FS) Unlink(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	u.tree.Lock()
	defer u.tree.Unlock()
	return fuse.ToStatus(u.remove(in.NodeId, name, false))
}

// Rmdir removes a directory that shows nothing, though it may have whiteouts and
// the branches below may have something.
func (u *FS) Rmdir(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	u.tree.Lock()
	defer u.tree.Unlock()
	return fuse.ToStatus(u.remove(in.NodeId, name, true))
}

func (u *FS) remove(dirID uint64, name string, wantDir bool) error {
	if reserved(name) {
		return unix.EPERM
	}
	dir := u.node(dirID)
	if dir.removed() {
		return unix.ENOENT
	}
	f, err := u.find(dir, name)
	if err != nil {
		return err
	}
	switch {
	case isDir(&f.st) && !wantDir:
		return unix.EISDIR
	case !isDir(&f.st) && wantDir:
		return unix.ENOTDIR
	}
	if wantDir {
		if err := u.checkEmpty(dir, name, f); err != nil {
			return err
		}
	}
	gone, err := u.leave(dir, name, f)
	if err != nil {
		return err
	}
	undo, err := u.cover(dir, name)
	if err == nil && f.top == rw {
		if err = u.takeAway(join(dir.path(), name), wantDir); err != nil {
			undo()
		}
	}
	if err != nil {
		gone.stay()
		return err
	}
	gone.away()
	return nil
}

// cover makes the whiteout that a name needs to be gone, if a branch below has it;
// while the read-write branch has the name too, nothing changes yet. undo takes it
// away again.
func (u *FS) cover(dir *node, name string) (undo func(), err error) {
	switch _, err := u.findBelow(dir, name); {
	case err == unix.ENOENT:
		return func() {}, nil
	case err != nil:
		return nil, err
	}
	if len(name) > unix.NAME_MAX-len(whPrefix) {
		return nil, unix.ENAMETOOLONG
	}
	if err := u.raise(dir); err != nil {
		return nil, err
	}
	path := dir.path()
	if had, err := u.rw().isWhiteout(path, name); had || err != nil {
		return func() {}, err
	}
	if err := u.whiteout(path, name); err != nil {
		return nil, err
	}
	return func() { _ = u.unwhiteout(path, name) }, nil
}

// takeAway removes a path of the read-write branch. A directory may have marks in
// it: it goes out of sight by one rename, and then piece by piece.
func (u *FS) takeAway(path string, dir bool) error {
	fd := u.rw().fd
	if !dir {
		return unix.Unlinkat(fd, path, 0)
	}
	err := unix.Unlinkat(fd, path, unix.AT_REMOVEDIR)
	if err != unix.ENOTEMPTY && err != unix.EEXIST {
		return err
	}
	tmp := u.workName()
	if err := unix.Renameat(fd, path, fd, tmp); err != nil {
		return err
	}
	return u.purge(tmp) // what stays, the next mount removes
}

// purge removes a directory of the read-write branch with all that is in it.
func (u *FS) purge(path string) error {
	fd := u.rw().fd
	names, err := u.rw().names(path)
	if err != nil {
		return err
	}
	for _, name := range names {
		sub := join(path, name)
		err := unix.Unlinkat(fd, sub, 0)
		if err == unix.EISDIR {
			err = u.purge(sub)
		}
		if err != nil {
			return err
		}
	}
	return unix.Unlinkat(fd, path, unix.AT_REMOVEDIR)
}

// checkEmpty fails with ENOTEMPTY if the directory shows something.
func (u *FS) checkEmpty(dir *node, name string, f *found) error {
	list, err := u.merge(join(dir.path(), name), f.at)
	if err == nil && len(list) > 0 {
		err = unix.ENOTEMPTY
	}
	return err
}

// leaving is a node that is about to lose a name. Somebody may have it open, so it is
// opened as a path while there still is one.
type leaving struct {
	u   *FS
	n   *node // nil: the kernel hasn't got it, or knows it by another name
	pin int
}

func (u *FS) leave(dir *node, name string, f *found) (leaving, error) {
	n := u.known(dir, name, f)
	if n == nil || n.parent != dir || n.name != name {
		return leaving{}, nil
	}
	pin, err := u.hold(n)
	return leaving{u, n, pin}, err
}

func (l leaving) stay() {
	if l.n != nil {
		_ = unix.Close(l.pin)
	}
}

func (l leaving) away() {
	if l.n == nil {
		return
	}
	l.u.nodes.Lock()
	defer l.u.nodes.Unlock()
	l.n.pin = l.pin
	l.u.nodes.unname(l.n)
	if l.u.nodes.byID[l.n.id] != l.n { // forgotten meanwhile
		unpin(l.n)
	}
}
