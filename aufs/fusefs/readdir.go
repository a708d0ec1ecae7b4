package fusefs

import (
	"cmp"
	"hash/maphash"
	"slices"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// entry is a name that a directory of the union shows.
type entry struct {
	position uint64
	name     string
	mode     uint32 // its type
	ino      uint64
	at       []int // the branch that has it; of a directory those that may merge
}

// position is where a name stands in a listing of its directory: by its hash, as on
// ext4. What stays has the same one in every listing, so it comes once, whatever
// comes and goes while somebody reads; no listing must be kept for him. Before all
// come . and .. at 1 and 2.
func position(name string) uint64 { return max(maphash.String(seed, name)>>1, 3) }

var seed = maphash.MakeSeed()

func byPosition(a, b entry) int { return cmp.Compare(a.position, b.position) }

// merge lists a directory, from the top branch down: a name counts unless a branch
// above has it, or its whiteout. Which of the directories in it are opaque isn't
// looked at.
func (u *FS) merge(path string, at []int) ([]entry, error) {
	var list []entry
	seen := map[string]int{} // which of the list it is, or hidden
	const hidden = -1
	for i, index := range at {
		entries, marks, err := u.readBranch(path, index)
		if err != nil {
			return nil, err
		}
		if len(at) == 1 {
			return entries, nil
		}
		for _, e := range entries {
			above, ok := seen[e.name]
			switch {
			case !ok:
				seen[e.name] = len(list)
				list = append(list, e)
			case above == hidden:
			case e.mode == unix.S_IFDIR && list[above].mode == unix.S_IFDIR:
				list[above].at = append(list[above].at, index)
			default:
				seen[e.name] = hidden
			}
		}
		if i == len(at)-1 {
			break
		}
		for _, mark := range marks {
			seen[mark[len(whPrefix):]] = hidden
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
	here := []int{index}
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
		entries = append(entries, entry{position(e.Name), e.Name, e.Mode, e.Ino, here})
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

// OpenDir: a directory needs no handle. With ENOSYS the kernel doesn't ask again (Linux
// 5.1), and keeps what it reads in its page cache until a name comes or goes.
func (u *FS) OpenDir(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if u.server.KernelSettings().Flags64()&fuse.CAP_NO_OPENDIR_SUPPORT != 0 {
		return fuse.ENOSYS
	}
	out.OpenFlags = fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE
	return fuse.OK
}

// list is what a directory shows after a position. The listing is made when somebody
// begins to read, and goes when somebody has reached its end; who is between makes
// another one.
func (u *FS) list(n *node, after uint64) ([]entry, error) {
	listing := n.listing.Load()
	if after == 0 || listing == nil {
		all, err := u.show(n)
		if err != nil {
			return nil, err
		}
		listing = &all
		n.listing.Store(listing)
	}
	next, _ := slices.BinarySearchFunc(*listing, entry{position: after + 1}, byPosition)
	if next == len(*listing) {
		n.listing.Store(nil)
	}
	return (*listing)[next:], nil
}

// show lists a directory with . and .., by position.
func (u *FS) show(n *node) ([]entry, error) {
	if n.removed() {
		return nil, nil
	}
	list, err := u.merge(n.path(), n.at)
	if err != nil {
		return nil, err
	}
	parent := n.parent
	if parent == nil {
		parent = n // the root's is above the mount, which the kernel knows
	}
	u.nodes.Lock()
	for i := range list {
		if child := n.children[list[i].name]; child != nil {
			list[i].ino = child.ino // it may have kept another at copy-up
		}
	}
	u.nodes.Unlock()
	list = append(list,
		entry{position: 1, name: ".", mode: unix.S_IFDIR, ino: n.ino},
		entry{position: 2, name: "..", mode: unix.S_IFDIR, ino: parent.ino})
	slices.SortFunc(list, byPosition)
	return list, nil
}

func (e *entry) dirEntry() fuse.DirEntry {
	return fuse.DirEntry{Name: e.name, Mode: e.mode, Ino: e.ino, Off: e.position}
}

// ReadDir gives names, types and inode numbers.
func (u *FS) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	u.tree.RLock()
	defer u.tree.RUnlock()
	list, err := u.list(u.node(in.NodeId), in.Offset)
	for i := range list {
		if !out.AddDirEntry(list[i].dirEntry()) {
			break
		}
	}
	return fuse.ToStatus(err)
}

// ReadDirPlus gives what ReadDir would, and a Lookup of each name that is new to the
// kernel.
func (u *FS) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	u.tree.RLock()
	defer u.tree.RUnlock()
	dir := u.node(in.NodeId)
	path := dir.path()
	list, err := u.list(dir, in.Offset)
	for i := range list {
		e := &list[i]
		var f *found
		if e.position > 2 && !dir.removed() && !u.knows(dir, e.name) {
			if f, err = u.findAgain(dir, path, e); err == unix.ENOENT {
				err = nil
				continue // gone meanwhile
			} else if err != nil {
				break
			}
		}
		plus := out.AddDirLookupEntry(e.dirEntry())
		if plus == nil {
			break
		}
		if f != nil {
			u.reply(u.enter(dir, e.name, f), &f.st, plus)
		}
	}
	if len(out.Bytes()) > 0 { // they count; the next call gets the error
		return fuse.OK
	}
	return fuse.ToStatus(err)
}

// knows tells whether the kernel has a name already, so that it needn't be told more.
func (u *FS) knows(dir *node, name string) bool {
	u.nodes.Lock()
	defer u.nodes.Unlock()
	return dir.children[name] != nil
}

// findAgain finds a name that was listed. Layers have it where they had it; what
// else there was may be gone, or copied up.
func (u *FS) findAgain(dir *node, path string, e *entry) (*found, error) {
	f := &found{top: e.at[0], at: e.at}
	if dir.top == rw && (f.top != rw || e.mode == unix.S_IFDIR) {
		return u.find(dir, e.name)
	}
	path = join(path, e.name)
	err := u.branches[f.top].lstat(path, &f.st)
	if err != nil || isDir(&f.st) != (e.mode == unix.S_IFDIR) {
		return u.find(dir, e.name)
	}
	for i, index := range f.at[:len(f.at)-1] {
		if opaque, err := u.branches[index].isOpaque(path); err != nil {
			return nil, err
		} else if opaque {
			f.at = f.at[:i+1]
			break
		}
	}
	return f, nil
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
