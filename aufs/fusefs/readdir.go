package fusefs

import (
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// entry is a name that a directory of the union shows.
type entry struct {
	name   string
	mode   uint32 // its type
	ino    uint64
	branch int // the uppermost that has it
}

// openDir is a directory that somebody reads: what it showed when he began, so that
// everything that stays comes once, whatever comes and goes meanwhile.
type openDir struct {
	sync.Mutex
	node    *node
	entries []entry
}

// merge lists a directory, from the top branch down: a name counts unless a branch
// above has it, or its whiteout. Sorted by branch, then as the branch has them.
func (u *FS) merge(path string, at []int) ([]entry, error) {
	var list []entry
	seen := map[string]bool{} // or deleted
	for i, index := range at {
		entries, marks, err := u.readBranch(path, index)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if !seen[e.name] {
				list = append(list, e)
			}
		}
		if i == len(at)-1 {
			break
		}
		for _, e := range entries {
			seen[e.name] = true
		}
		for _, mark := range marks {
			seen[mark[len(whPrefix):]] = true
		}
	}
	return list, nil
}

// readBranch reads one branch's directory: its entries, and the names of its marks.
func (u *FS) readBranch(path string, index int) (entries []entry, marks []string, err error) {
	b := u.branches[index]
	fd, err := b.open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(fd)
	var dir unix.Stat_t
	if err := unix.Fstat(fd, &dir); err != nil {
		return nil, nil, err
	}
	err = readDir(fd, func(e fuse.DirEntry) error {
		if reserved(e.Name) {
			marks = append(marks, e.Name)
			return nil
		}
		if e.Mode == 0 { // a file system that doesn't say
			var st unix.Stat_t
			if err := b.lstat(join(path, e.Name), &st); err != nil {
				return err
			}
			e.Mode = st.Mode & unix.S_IFMT
		}
		entries = append(entries, entry{e.Name, e.Mode, e.Ino, index})
		return nil
	})
	u.nodes.Lock()
	defer u.nodes.Unlock()
	for i := range entries {
		entries[i].ino = u.nodes.number(index, &unix.Stat_t{Dev: dir.Dev, Ino: entries[i].ino})
	}
	return entries, marks, err
}

// names lists one directory of a branch as it is.
func (b *branch) names(path string) ([]string, error) {
	fd, err := b.open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var names []string
	err = readDir(fd, func(e fuse.DirEntry) error {
		names = append(names, e.Name)
		return nil
	})
	return names, err
}

// readDir gives all entries of an open directory but . and ..
func readDir(fd int, give func(fuse.DirEntry) error) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return err
		}
		for at := 0; at < n; {
			var e fuse.DirEntry
			at += e.Parse(buf[at:n])
			if e.Name == "." || e.Name == ".." {
				continue
			}
			if err := give(e); err != nil {
				return err
			}
		}
	}
}

// OpenDir begins to read a directory.
func (u *FS) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.Fh = u.dirs.add(&openDir{node: u.node(in.NodeId)})
	return fuse.OK
}

// ReleaseDir ends it.
func (u *FS) ReleaseDir(in *fuse.ReleaseIn) { u.dirs.remove(in.Fh) }

// begin lists the directory when it is read from the start, again after rewinddir(3).
func (u *FS) begin(d *openDir, offset uint64) error {
	if offset > 0 {
		return nil
	}
	d.entries = nil
	if d.node.removed() {
		return nil
	}
	list, err := u.merge(d.node.path(), d.node.at)
	if err != nil {
		return err
	}
	parent := d.node.parent
	if parent == nil {
		parent = d.node // the root's is above the mount, which the kernel knows
	}
	d.entries = append(d.entries,
		entry{name: ".", mode: unix.S_IFDIR, ino: d.node.ino},
		entry{name: "..", mode: unix.S_IFDIR, ino: parent.ino})
	d.entries = append(d.entries, list...)
	u.nodes.Lock()
	defer u.nodes.Unlock()
	for i := range d.entries {
		if n := d.node.children[d.entries[i].name]; n != nil {
			d.entries[i].ino = n.ino // it may have kept another at copy-up
		}
	}
	return nil
}

// ReadDir gives names, types and inode numbers.
func (u *FS) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	u.tree.RLock()
	defer u.tree.RUnlock()
	d := u.dirs.get(in.Fh)
	d.Lock()
	defer d.Unlock()
	if err := u.begin(d, in.Offset); err != nil {
		return fuse.ToStatus(err)
	}
	for i := in.Offset; i < uint64(len(d.entries)); i++ {
		e := &d.entries[i]
		if !out.AddDirEntry(fuse.DirEntry{Name: e.name, Mode: e.mode, Ino: e.ino, Off: i + 1}) {
			break
		}
	}
	return fuse.OK
}

// ReadDirPlus gives what ReadDir would, and a Lookup of each name that is new to the
// kernel.
func (u *FS) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	u.tree.RLock()
	defer u.tree.RUnlock()
	d := u.dirs.get(in.Fh)
	d.Lock()
	defer d.Unlock()
	if err := u.begin(d, in.Offset); err != nil {
		return fuse.ToStatus(err)
	}
	for i := in.Offset; i < uint64(len(d.entries)); i++ {
		e := &d.entries[i]
		var f *found
		if i > 1 && !d.node.removed() && !u.knows(d.node, e.name) { // not . and ..
			var err error
			if f, err = u.findAgain(d.node, e); err == unix.ENOENT {
				continue // gone meanwhile
			} else if err != nil {
				return fuse.ToStatus(err)
			}
		}
		plus := out.AddDirLookupEntry(fuse.DirEntry{Name: e.name, Mode: e.mode, Ino: e.ino, Off: i + 1})
		if plus == nil {
			break
		}
		if f != nil {
			u.reply(u.enter(d.node, e.name, f), &f.st, plus)
		}
	}
	return fuse.OK
}

// knows tells whether the kernel has a name already, so that it needn't be told more.
func (u *FS) knows(dir *node, name string) bool {
	u.nodes.Lock()
	defer u.nodes.Unlock()
	return dir.children[name] != nil
}

// findAgain finds a name that was listed. What is no directory is where it was,
// or it was copied up, or it is gone.
func (u *FS) findAgain(dir *node, e *entry) (*found, error) {
	if e.mode != unix.S_IFDIR && (e.branch == rw || dir.top != rw) {
		f := &found{top: e.branch, at: []int{e.branch}}
		err := u.branches[e.branch].lstat(join(dir.path(), e.name), &f.st)
		if err == nil && !isDir(&f.st) {
			return f, nil
		}
	}
	return u.find(dir, e.name)
}

// FsyncDir brings a directory's names to disk.
func (u *FS) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	u.tree.RLock()
	n := u.node(in.NodeId)
	if n.top != rw {
		u.tree.RUnlock()
		return fuse.OK
	}
	fd, err := u.open(n, unix.O_RDONLY|unix.O_DIRECTORY)
	u.tree.RUnlock()
	if err != nil {
		return fuse.ToStatus(err)
	}
	defer unix.Close(fd)
	return fuse.ToStatus(unix.Fsync(fd))
}
