package fusefs

import (
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// node is a file that the kernel knows, by its number id.
type node struct {
	id  uint64
	ino uint64 // what stat(2) says; stays what it is at copy-up

	// Guarded by FS.tree. A node whose name is gone while somebody still has it has
	// no parent, and is what pin is.
	parent *node
	name   string
	top    int   // the uppermost branch that has it; rw: it is copied up
	at     []int // of a directory: the branches that have it, top first
	pin    int   // an O_PATH descriptor, or -1

	listing atomic.Pointer[[]entry] // of a directory that somebody reads

	copying sync.Mutex // held during copy-up
	io      *openFile  // nil unless it is open; guarded by FS.opens

	// Guarded by FS.nodes.
	lookups  uint64           // how often the kernel was given it
	kids     int              // nodes whose parent it is
	children map[string]*node // of a directory
	linked   uint64           // its key in nodes.links
}

func (n *node) removed() bool { return n.parent == nil && n.id != rootID }

// path is where the node is in its branches. The same in all of them: a directory
// that more than the read-write branch has can't be renamed.
func (n *node) path() string {
	if n.parent == nil {
		return "."
	}
	if n.parent.parent == nil {
		return n.name
	}
	parts := make([]string, 0, 16)
	for ; n.parent != nil; n = n.parent {
		parts = append(parts, n.name)
	}
	var b strings.Builder
	for i := len(parts) - 1; i >= 0; i-- {
		b.WriteString(parts[i])
		if i > 0 {
			b.WriteByte('/')
		}
	}
	return b.String()
}

const rootID = 1

// nodes is the table of what the kernel knows.
type nodes struct {
	sync.Mutex
	last uint64
	byID map[uint64]*node
	// links has the files of the read-write branch that have several names, by
	// inode: all names are one node. (Of a layer's file each name is a node of its
	// own, since at copy-up they part.)
	links map[uint64]*node
	// origins has the numbers that files showed before copy-up, by the inode of
	// their copy.
	origins map[uint64]uint64
	// devices numbers the file systems that branches are on; the first, the
	// read-write branch's, is 0.
	devices map[uint64]uint64
}

// node is the node of a number that the kernel gave.
func (u *FS) node(id uint64) *node {
	u.nodes.Lock()
	defer u.nodes.Unlock()
	return u.nodes.byID[id]
}

// enter gives the kernel the node of a name once more. tree is held.
func (u *FS) enter(dir *node, name string, f *found) *node {
	t := &u.nodes
	t.Lock()
	defer t.Unlock()
	n := t.known(dir, name, f)
	switch {
	case n == nil:
		t.last++
		n = &node{id: t.last, ino: t.number(f.top, &f.st), top: f.top, pin: -1, lookups: 1}
		t.byID[n.id] = n
		if isDir(&f.st) {
			n.at = f.at
			n.children = map[string]*node{}
		} else if f.top == rw && f.st.Nlink > 1 {
			t.link(n, f.st.Ino)
		}
		t.name(n, dir, name)
		return n
	case n.parent == nil: // a name of it went, here is another one
		unpin(n)
		t.name(n, dir, name)
	}
	n.lookups++
	return n
}

// enterNameless gives the kernel a node for a file of the read-write branch that has
// no name yet.
func (u *FS) enterNameless(st *unix.Stat_t, pin int) *node {
	t := &u.nodes
	t.Lock()
	defer t.Unlock()
	t.last++
	n := &node{id: t.last, ino: t.number(rw, st), top: rw, pin: pin, lookups: 1}
	t.byID[n.id] = n
	t.link(n, st.Ino)
	return n
}

// known is the node of a name, nil if the kernel hasn't got it.
func (t *nodes) known(dir *node, name string, f *found) *node {
	if n := dir.children[name]; n != nil {
		return n
	}
	if f.top == rw && !isDir(&f.st) {
		return t.links[f.st.Ino]
	}
	return nil
}

// known is the node of a name, nil if the kernel hasn't got it. tree is held.
func (u *FS) known(dir *node, name string, f *found) *node {
	u.nodes.Lock()
	defer u.nodes.Unlock()
	return u.nodes.known(dir, name, f)
}

// name gives a node a place in the tree.
func (t *nodes) name(n, dir *node, name string) {
	n.parent, n.name = dir, name
	dir.kids++
	if n.linked == 0 {
		dir.children[name] = n
	}
}

// unname takes it away.
func (t *nodes) unname(n *node) {
	dir := n.parent
	if dir.children[n.name] == n {
		delete(dir.children, n.name)
	}
	n.parent = nil
	dir.kids--
	t.drop(dir)
}

// link notes that a node has several names from now on.
func (t *nodes) link(n *node, ino uint64) {
	if n.linked != 0 {
		return
	}
	n.linked = ino
	t.links[ino] = n
	if n.parent != nil && n.parent.children[n.name] == n {
		delete(n.parent.children, n.name)
	}
}

// Forget: the kernel has given back a node as often as said.
func (u *FS) Forget(id, lookups uint64) {
	u.nodes.Lock()
	defer u.nodes.Unlock()
	if n := u.nodes.byID[id]; n != nil {
		n.lookups -= min(lookups, n.lookups)
		u.nodes.drop(n)
	}
}

// drop removes a node that nobody has any more. As long as a child is there it is
// needed for the child's path.
func (t *nodes) drop(n *node) {
	if n.lookups > 0 || n.kids > 0 || n.id == rootID || t.byID[n.id] != n {
		return
	}
	delete(t.byID, n.id)
	if n.linked != 0 {
		delete(t.links, n.linked)
	}
	unpin(n)
	if n.parent != nil {
		t.unname(n)
	}
}

func unpin(n *node) {
	if n.pin >= 0 {
		_ = unix.Close(n.pin)
		n.pin = -1
	}
}

// number is the inode number that a file of a branch shows.
func (t *nodes) number(index int, st *unix.Stat_t) uint64 {
	if index == rw {
		if origin, ok := t.origins[st.Ino]; ok {
			return origin
		}
	}
	device, ok := t.devices[st.Dev]
	if !ok {
		device = uint64(len(t.devices))
		t.devices[st.Dev] = device
	}
	return device<<48 ^ st.Ino
}

// hold opens a node as a path only, to be used through proc. The caller closes it.
func (u *FS) hold(n *node) (int, error) { return u.open(n, unix.O_PATH) }

// open opens a node's file. tree is held.
func (u *FS) open(n *node, flags int) (int, error) {
	switch {
	case !n.removed():
		return u.branches[n.top].open(n.path(), flags)
	case n.pin < 0:
		return -1, unix.ESTALE
	case flags&unix.O_PATH != 0:
		return unix.FcntlInt(uintptr(n.pin), unix.F_DUPFD_CLOEXEC, 0)
	}
	return unix.Open(proc(n.pin), flags|unix.O_CLOEXEC, 0)
}

// stat is the node's own file's. tree is held.
func (u *FS) stat(n *node, st *unix.Stat_t) error {
	switch {
	case !n.removed():
		return u.branches[n.top].lstat(n.path(), st)
	case n.pin < 0:
		return unix.ESTALE
	}
	return unix.Fstat(n.pin, st)
}
