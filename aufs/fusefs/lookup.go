package fusefs

import (
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// forever is how long the kernel may believe what it was told, also that a name isn't
// there: layers don't change, the read-write branch is locked by us, so all changes
// come through the kernel. Of the one that it can't know, copy-up, it is told (risen).
const forever = 365 * 24 * time.Hour

// found is what a name stands for in the union.
type found struct {
	st  unix.Stat_t // of the uppermost
	top int         // the branch that has that
	// at are the branches whose directories merge here, top first; of anything that
	// is no directory, the one that has it.
	at []int
}

// find looks a name up in a directory of the union, from the top branch down.
// ENOENT: it isn't there.
func (u *FS) find(dir *node, name string) (*found, error) {
	return u.findIn(dir.path(), dir.at, name)
}

// findBelow is find without the read-write branch: what would show if nothing were
// there and no whiteout.
func (u *FS) findBelow(dir *node, name string) (*found, error) {
	at := dir.at
	if dir.top == rw {
		at = at[1:]
	}
	return u.findIn(dir.path(), at, name)
}

func (u *FS) findIn(dir string, at []int, name string) (*found, error) {
	var f found
	path := join(dir, name)
	for i, index := range at {
		b := u.branches[index]
		lowest := i == len(at)-1
		var st unix.Stat_t
		switch err := b.lstat(path, &st); {
		case err == nil:
			if f.at == nil {
				f.st, f.top = st, index
			} else if !isDir(&st) {
				return &f, nil // a directory hides a file
			}
			f.at = append(f.at, index)
			if !isDir(&st) || lowest {
				return &f, nil // a file hides everything
			}
			if opaque, err := b.isOpaque(path); opaque || err != nil {
				return &f, err
			}
		case err != unix.ENOENT && err != unix.ENAMETOOLONG:
			return nil, err
		}
		if lowest {
			break
		}
		if gone, err := b.isWhiteout(dir, name); err != nil {
			return nil, err
		} else if gone {
			break
		}
	}
	if f.at == nil {
		return nil, unix.ENOENT
	}
	return &f, nil
}

// Lookup finds a name, for the kernel.
func (u *FS) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if reserved(name) {
		return fuse.EPERM
	}
	u.tree.RLock()
	defer u.tree.RUnlock()
	dir := u.node(in.NodeId)
	if dir.removed() {
		return fuse.ENOENT
	}
	f, err := u.find(dir, name)
	if err == unix.ENOENT {
		out.SetEntryTimeout(forever)
		return fuse.OK // node 0: there is none, and that may be remembered
	}
	if err != nil {
		return fuse.ToStatus(err)
	}
	u.reply(u.enter(dir, name, f), &f.st, out)
	return fuse.OK
}

// reply tells the kernel of a node that it was given.
func (u *FS) reply(n *node, st *unix.Stat_t, out *fuse.EntryOut) {
	out.NodeId, out.Generation = n.id, 1
	out.SetEntryTimeout(forever)
	out.SetAttrTimeout(forever)
	fill(&out.Attr, n, st)
}

// fill gives a file's attributes as the union shows them.
func fill(out *fuse.Attr, n *node, st *unix.Stat_t) {
	*out = fuse.Attr{
		Ino: n.ino, Size: uint64(st.Size), Blocks: uint64(st.Blocks), Blksize: uint32(st.Blksize),
		Mode: st.Mode, Nlink: uint32(st.Nlink), Rdev: uint32(st.Rdev),
		Owner: fuse.Owner{Uid: st.Uid, Gid: st.Gid},
		Atime: uint64(st.Atim.Sec), Atimensec: uint32(st.Atim.Nsec),
		Mtime: uint64(st.Mtim.Sec), Mtimensec: uint32(st.Mtim.Nsec),
		Ctime: uint64(st.Ctim.Sec), Ctimensec: uint32(st.Ctim.Nsec),
	}
	if n.removed() && n.top != rw {
		out.Nlink = 0 // the layer's, which the union doesn't show any more
	}
	if isDir(st) && len(n.at) > 1 {
		out.Nlink = 1 // nobody counts the subdirectories of a merged directory
	}
}
