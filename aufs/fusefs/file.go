package fusefs

import (
	"slices"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// How a file's content is read and written. The kernel keeps one of two ways for
// all who have a file open:
//
//	passthrough  from the branch's file itself: the kernel asks us nothing, and its
//	             page cache is the branch's own, shared by all containers
//	cached       by our Read and Write, through a page cache of the union's file
//
// A copy is read by passthrough; so is a layer's file that is a program being
// started or large. A layer's small file is cached: there who reads it can follow
// its copy-up.
//
// There is no writeback cache. The kernel gives passthrough only without (Linux
// 6.18 fs/fuse/inode.c, process_init_reply), and what is written by passthrough is
// written back anyhow: it is in the page cache of the branch's file. Before Linux 6.9
// each write goes through: `diff` and `commit` read the branch beside the mount,
// and must see what was written.
const passthroughSize = 128 << 10

// openFile is what all handles of one node share.
type openFile struct {
	handles []*handle
	cached  int   // handles that are read by us
	backed  int   // handles by passthrough
	backing int32 // the kernel's number of the file behind those
	top     int   // the branch that file is in
}

type handle struct {
	node   *node
	fd     int
	top    int  // the branch that fd is of
	backed bool // by passthrough
}

// table has what the kernel knows by a handle.
type table[T any] struct {
	mu   sync.RWMutex
	last uint64
	byID map[uint64]T
}

func (t *table[T]) add(v T) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID == nil {
		t.byID = map[uint64]T{}
	}
	t.last++
	t.byID[t.last] = v
	return t.last
}

func (t *table[T]) get(id uint64) T {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byID[id]
}

func (t *table[T]) remove(id uint64) T {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.byID[id]
	delete(t.byID, id)
	return v
}

// fmodeExec is the kernel's __FMODE_EXEC: opened by execve(2).
const fmodeExec = 0x20

// openFlags are those of the caller's that we open a branch's file with. Offsets
// come with each request, so O_APPEND and O_DIRECT are the kernel's business.
func openFlags(flags uint32) int {
	return int(flags)&(unix.O_ACCMODE|unix.O_TRUNC|unix.O_SYNC|unix.O_DSYNC) | unix.O_CLOEXEC
}

// Open opens a file. For writing it is copied up first, though not what is about
// to be truncated.
func (u *FS) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n := u.node(in.NodeId)
	flags := openFlags(in.Flags)
	if flags&unix.O_ACCMODE != unix.O_RDONLY || flags&unix.O_TRUNC != 0 {
		if err := u.copyUp(n, flags&unix.O_TRUNC == 0); err != nil {
			return fuse.ToStatus(err)
		}
	}
	u.tree.RLock()
	err := func() error {
		fd, err := u.openContent(n, flags)
		if err != nil {
			return err
		}
		if in.Mode&fuse.OPEN_KILL_SUIDGID != 0 && dropSetID(fd) {
			u.server.InodeNotify(n.id, -1, 0)
		}
		return u.opened(n, fd, in.Flags, out)
	}()
	u.tree.RUnlock()
	if err == unix.ESTALE {
		return fuse.ToStatus(u.retire(n))
	}
	return fuse.ToStatus(err)
}

// openContent opens a node to read or write it. That a layer was read is not noted
// in it.
func (u *FS) openContent(n *node, flags int) (int, error) {
	if n.top != rw {
		if fd, err := u.open(n, flags|unix.O_NOATIME); err == nil {
			return fd, nil
		}
	}
	return u.open(n, flags)
}

// opened makes fd a handle of the node, and decides the way. ESTALE: the original
// is read by passthrough and this is the copy.
func (u *FS) opened(n *node, fd int, flags uint32, out *fuse.OpenOut) error {
	u.opens.Lock()
	defer u.opens.Unlock()
	if n.io == nil {
		n.io = &openFile{}
	}
	o, h := n.io, &handle{node: n, fd: fd, top: n.top}
	reads := flags&unix.O_ACCMODE == unix.O_RDONLY
	switch {
	case o.backed > 0 && o.top != n.top && !(n.removed() && reads):
		_ = unix.Close(fd) // a writer of the copy must never get the original
		return unix.ESTALE
	case o.backed > 0: // then the kernel wants it of all
		h.backed = true
	case o.cached == 0 && u.passthrough && u.suits(h, flags):
		id, errno := u.server.RegisterBackingFd(&fuse.BackingMap{Fd: int32(fd)})
		if errno == 0 {
			h.backed, o.backing, o.top = true, id, n.top
		}
	}
	if h.backed {
		o.backed++
		out.OpenFlags, out.BackingID = fuse.FOPEN_PASSTHROUGH, o.backing
		if !reads && hasSetID(fd) {
			out.OpenFlags |= fuse.FOPEN_DIRECT_IO // writes come to us nevertheless
		}
	} else {
		o.cached++
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	}
	o.handles = append(o.handles, h)
	out.Fh = u.files.add(h)
	return nil
}

// suits tells whether a file is for passthrough.
func (u *FS) suits(h *handle, flags uint32) bool {
	var st unix.Stat_t
	if unix.Fstat(h.fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false
	}
	return h.top == rw || flags&fmodeExec != 0 || st.Size >= passthroughSize
}

// retire takes a node's name away: it goes on as the layer's file for those who
// read it by passthrough. ESTALE makes the kernel look the name up again, and then
// it finds the copy, as a new node.
func (u *FS) retire(n *node) error {
	u.tree.Lock()
	defer u.tree.Unlock()
	if n.removed() {
		return unix.ESTALE
	}
	pin, err := u.hold(n)
	if err != nil {
		return err
	}
	u.nodes.Lock()
	defer u.nodes.Unlock()
	n.pin = pin
	if n.linked != 0 {
		delete(u.nodes.links, n.linked)
		n.linked = 0
	}
	u.nodes.unname(n)
	return unix.ESTALE
}

// followers are the node's handles that are open on a layer's file.
func (u *FS) followers(n *node) []*handle {
	u.opens.Lock()
	defer u.opens.Unlock()
	var list []*handle
	if n.io != nil {
		for _, h := range n.io.handles {
			if h.top != rw {
				h.top = rw
				list = append(list, h)
			}
		}
	}
	return list
}

// Release closes a handle.
func (u *FS) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	h := u.files.remove(in.Fh)
	u.opens.Lock()
	defer u.opens.Unlock()
	o := h.node.io
	o.handles = slices.DeleteFunc(o.handles, func(other *handle) bool { return other == h })
	switch {
	case !h.backed:
		o.cached--
	case o.backed > 1:
		o.backed--
	default:
		o.backed = 0
		u.server.UnregisterBackingFd(o.backing)
	}
	if len(o.handles) == 0 {
		h.node.io = nil
	}
	_ = unix.Close(h.fd) // each write has told its own errors
}

// Read reads what isn't in the page cache.
func (u *FS) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	return fuse.ReadResultFd(uintptr(u.files.get(in.Fh).fd), int64(in.Offset), len(buf)), fuse.OK
}

// Write writes through to the branch.
func (u *FS) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	h := u.files.get(in.Fh)
	done := 0
	for done < len(data) {
		n, err := unix.Pwrite(h.fd, data[done:], int64(in.Offset)+int64(done))
		if err == unix.EINTR {
			continue
		}
		if err != nil && done == 0 {
			return 0, fuse.ToStatus(err)
		}
		if err != nil {
			break // what was written counts; the next call gets the error
		}
		done += n
	}
	if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 && dropSetID(h.fd) {
		u.server.InodeNotify(h.node.id, -1, 0) // the kernel remembers the mode
	}
	return uint32(done), fuse.OK
}

// dropSetID takes setuid and setgid away, as a change of content by somebody
// unprivileged does, and reports whether there was any. With passthrough the kernel
// leaves that to us.
func dropSetID(fd int) bool {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return false
	}
	mode := st.Mode &^ setID(&st)
	return mode != st.Mode && unix.Fchmod(fd, mode&0o7777) == nil
}

// setID is what dropSetID takes away.
func setID(st *unix.Stat_t) uint32 {
	id := st.Mode & unix.S_ISUID
	if st.Mode&0o010 != 0 { // setgid without execution is no privilege
		id |= st.Mode & unix.S_ISGID
	}
	return id
}

func hasSetID(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && setID(&st) != 0
}

// Flush is nothing to us: each write has told its own errors.
func (u *FS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

// Fsync brings a file to disk.
func (u *FS) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	fd := u.files.get(in.Fh).fd
	if in.FsyncFlags&1 != 0 {
		return fuse.ToStatus(unix.Fdatasync(fd))
	}
	return fuse.ToStatus(unix.Fsync(fd))
}

// Fallocate reserves room or punches holes.
func (u *FS) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	return fuse.ToStatus(unix.Fallocate(u.files.get(in.Fh).fd, in.Mode, int64(in.Offset), int64(in.Length)))
}

// Lseek finds data and holes.
func (u *FS) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	at, err := unix.Seek(u.files.get(in.Fh).fd, int64(in.Offset), int(in.Whence))
	out.Offset = uint64(at)
	return fuse.ToStatus(err)
}

// CopyFileRange copies inside the branch's file system.
func (u *FS) CopyFileRange(_ <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	from, to := int64(in.OffIn), int64(in.OffOut)
	n, err := unix.CopyFileRange(u.files.get(in.FhIn).fd, &from, u.files.get(in.FhOut).fd, &to,
		int(min(in.Len, 1<<30)), int(in.Flags))
	return uint32(max(n, 0)), fuse.ToStatus(err)
}
