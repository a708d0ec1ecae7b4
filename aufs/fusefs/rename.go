package fusefs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Rename moves a name. A file of a layer is copied up first. A directory of which a
// layer has a part stays where it is: EXDEV, and mv copies it (AUFS answers so too,
// as its whole content would have to be copied at once).
func (u *FS) Rename(_ <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	if in.Flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 {
		return fuse.EINVAL
	}
	exchange := in.Flags&unix.RENAME_EXCHANGE != 0
	var err error
	if exchange {
		err = u.immovable(in.Newdir, to)
	}
	if err == nil {
		err = u.immovable(in.NodeId, from)
	}
	if err == nil {
		err = u.copyUpName(in.NodeId, from)
	}
	if err == nil && exchange {
		err = u.copyUpName(in.Newdir, to)
	}
	if err != nil {
		return fuse.ToStatus(err)
	}
	u.tree.Lock()
	defer u.tree.Unlock()
	a, err := u.spot(in.NodeId, from)
	if err != nil {
		return fuse.ToStatus(err)
	}
	b, err := u.spot(in.Newdir, to)
	switch {
	case err == unix.ENOENT && b.dir != nil && !exchange:
		err = checkName(to)
	case err == nil && in.Flags&unix.RENAME_NOREPLACE != 0:
		err = unix.EEXIST
	}
	if err == nil {
		if exchange {
			err = u.exchange(a, b)
		} else {
			err = u.move(a, b)
		}
	}
	return fuse.ToStatus(err)
}

// immovable fails with EXDEV for a directory that can't be renamed, before anything
// is copied up for it.
func (u *FS) immovable(dirID uint64, name string) error {
	if reserved(name) {
		return unix.EPERM
	}
	u.tree.RLock()
	defer u.tree.RUnlock()
	s, err := u.spot(dirID, name)
	if err == nil && isDir(&s.st) {
		err = s.movable()
	}
	return err
}

// copyUpName copies up the file of a name; directories are left to Rename.
func (u *FS) copyUpName(dirID uint64, name string) error {
	u.tree.RLock()
	dir := u.node(dirID)
	if dir.removed() {
		u.tree.RUnlock()
		return unix.ENOENT
	}
	f, err := u.find(dir, name)
	if err != nil || f.top == rw || isDir(&f.st) {
		u.tree.RUnlock()
		return err
	}
	n := u.enter(dir, name, f)
	u.tree.RUnlock()
	defer u.Forget(n.id, 1)
	return u.copyUp(n, true)
}

// spot is a name in a directory of the union.
type spot struct {
	dir  *node
	name string
	*found
}

func (s spot) path() string { return join(s.dir.path(), s.name) }

// spot looks a name up. With ENOENT the directory is there.
func (u *FS) spot(dirID uint64, name string) (spot, error) {
	dir := u.node(dirID)
	if dir.removed() {
		return spot{}, unix.ENOENT
	}
	f, err := u.find(dir, name)
	return spot{dir, name, f}, err
}

// movable: the read-write branch has it, alone.
func (s spot) movable() error {
	if s.top != rw || isDir(&s.st) && len(s.at) > 1 {
		return unix.EXDEV
	}
	return nil
}

// move renames a to b, which may exist. The whiteout of a is made before, that of b
// removed after: the one rename(2) in between is what happens.
func (u *FS) move(a, b spot) error {
	if err := a.movable(); err != nil {
		return err
	}
	if b.found != nil {
		if err := u.replaceable(a, b); err != nil {
			return err
		}
	}
	if err := u.raise(b.dir); err != nil {
		return err
	}
	if err := u.hideBelow(a, b); err != nil {
		return err
	}
	var gone leaving
	if b.found != nil {
		var err error
		if gone, err = u.leave(b.dir, b.name, b.found); err != nil {
			return err
		}
	}
	undo, err := u.cover(a.dir, a.name)
	if err == nil && b.found != nil && isDir(&b.st) {
		// rename(2) takes no directory with marks in it for an empty one.
		if _, err = u.cover(b.dir, b.name); err == nil && b.top == rw {
			err = u.takeAway(b.path(), true)
		}
	}
	fd := u.rw().fd
	if err == nil {
		err = unix.Renameat(fd, a.path(), fd, b.path())
	}
	if err != nil {
		if undo != nil {
			undo()
		}
		gone.stay()
		return err
	}
	gone.away()
	u.renamed(a, b)
	if len(b.dir.at) > 1 {
		return u.unwhiteout(b.dir.path(), b.name)
	}
	return nil
}

// replaceable: rename(2)'s rules of what may take the place of what.
func (u *FS) replaceable(a, b spot) error {
	switch {
	case isDir(&a.st) && !isDir(&b.st):
		return unix.ENOTDIR
	case !isDir(&a.st) && isDir(&b.st):
		return unix.EISDIR
	case isDir(&b.st):
		return u.checkEmpty(b.dir, b.name, b.found)
	}
	return nil
}

// hideBelow makes the directory a opaque if at b it would merge with another one.
// Where it still is, that says nothing: no layer has a part of it.
func (u *FS) hideBelow(a, b spot) error {
	if !isDir(&a.st) {
		return nil
	}
	below, err := u.findBelow(b.dir, b.name)
	if err == unix.ENOENT || err == nil && !isDir(&below.st) {
		return nil
	}
	if err != nil {
		return err
	}
	return u.keepTimes(a.path(), func() error { return u.makeOpaque(a.path()) })
}

// renamed tells the node.
func (u *FS) renamed(a, b spot) {
	t := &u.nodes
	t.Lock()
	defer t.Unlock()
	n := t.known(a.dir, a.name, a.found)
	if n == nil || n.parent != a.dir || n.name != a.name {
		return
	}
	t.move(n, b.dir, b.name)
}

// move gives a node another name instead of its own.
func (t *nodes) move(n, dir *node, name string) {
	dir.kids++ // so that neither goes
	t.unname(n)
	dir.kids--
	t.name(n, dir, name)
}

// exchange swaps a and b, which both exist.
func (u *FS) exchange(a, b spot) error {
	for _, s := range []spot{a, b} {
		if err := s.movable(); err != nil {
			return err
		}
	}
	if err := u.hideBelow(a, b); err != nil {
		return err
	}
	if err := u.hideBelow(b, a); err != nil {
		return err
	}
	fd := u.rw().fd
	if err := unix.Renameat2(fd, a.path(), fd, b.path(), unix.RENAME_EXCHANGE); err != nil {
		return err
	}
	t := &u.nodes
	t.Lock()
	defer t.Unlock()
	na, nb := t.known(a.dir, a.name, a.found), t.known(b.dir, b.name, b.found)
	isA := na != nil && na.parent == a.dir && na.name == a.name
	isB := nb != nil && nb.parent == b.dir && nb.name == b.name
	a.dir.kids, b.dir.kids = a.dir.kids+1, b.dir.kids+1 // so that neither goes
	if isA {
		t.unname(na)
	}
	if isB {
		t.unname(nb)
		t.name(nb, a.dir, a.name)
	}
	if isA {
		t.name(na, b.dir, b.name)
	}
	a.dir.kids, b.dir.kids = a.dir.kids-1, b.dir.kids-1
	return nil
}
