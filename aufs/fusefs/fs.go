package fusefs

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// FS is a union of branches. Its methods are the kernel's requests.
type FS struct {
	fuse.RawFileSystem
	branches    []*branch // top first
	server      *fuse.Server
	passthrough bool // the kernel can (Linux 6.9) and we may (root)

	tree  sync.RWMutex
	nodes nodes
	opens sync.Mutex // guards node.io and what it points to
	files table[*handle]
}

func (u *FS) rw() *branch { return u.branches[rw] }

// busy is how long a mount waits for the end of an earlier one of its branch.
const busy = 10 * time.Second

// open takes branches as parseBranches gives them, and makes ready the first one.
// It is ours alone from now on: the lock ends with the process.
func open(paths []string) (*FS, error) {
	u := &FS{RawFileSystem: fuse.NewDefaultRawFileSystem()}
	root := &node{id: rootID, pin: -1, lookups: 1, children: map[string]*node{}}
	for i, path := range paths {
		b, err := openBranch(path)
		if err != nil {
			return nil, errors.Join(err, u.close())
		}
		u.branches = append(u.branches, b)
		root.at = append(root.at, i)
	}
	u.nodes = nodes{
		last: rootID, byID: map[uint64]*node{rootID: root}, links: map[uint64]*node{},
		origins: map[uint64]uint64{}, devices: map[uint64]uint64{},
	}
	if err := u.lock(); err != nil {
		return nil, errors.Join(err, u.close())
	}
	if err := u.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare branch %s: %w", paths[rw], err), u.close())
	}
	var st unix.Stat_t
	if err := u.rw().lstat(".", &st); err != nil {
		return nil, errors.Join(err, u.close())
	}
	root.ino = u.nodes.number(rw, &st)
	return u, nil
}

func (u *FS) lock() error {
	for end := time.Now().Add(busy); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Flock(u.rw().fd, unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case err != unix.EWOULDBLOCK:
			return fmt.Errorf("lock branch %s: %w", u.rw().path, err)
		case time.Now().After(end):
			return fmt.Errorf("branch %s is in use by another mount", u.rw().path)
		}
	}
}

// prepare makes AUFS's own files in the read-write branch, and removes what a crash
// left. The root's times stay.
func (u *FS) prepare() error {
	fd := u.rw().fd
	return u.keepTimes(".", func() error {
		switch err := u.purge(workDir); err {
		case nil, unix.ENOENT:
		default:
			return err
		}
		for _, dir := range []string{workDir, plinkDir} {
			if err := unix.Mkdirat(fd, dir, 0o700); err != nil && err != unix.EEXIST {
				return err
			}
		}
		if err := makeEmpty(fd, whBase); err != nil && err != unix.EEXIST {
			return err
		}
		return nil
	})
}

func (u *FS) close() error {
	for _, b := range u.branches {
		_ = unix.Close(b.fd) // only names were looked up in it
	}
	return nil
}

// Init is called when the kernel has said what it can.
func (u *FS) Init(server *fuse.Server) {
	u.server = server
	u.passthrough = server.KernelSettings().Flags64()&fuse.CAP_PASSTHROUGH != 0
}

// String names us in go-fuse's messages.
func (u *FS) String() string { return "aufs" }

// mount mounts the union: like a container's root file system, with devices and
// setuid programs, permissions checked by the kernel.
func (u *FS) mount(dir string) (*fuse.Server, error) {
	server, err := fuse.NewServer(u, dir, &fuse.MountOptions{
		FsName: "none", Name: "aufs",
		DirectMountStrict: true, DirectMountFlags: unix.MS_MGC_VAL,
		AllowOther: true, Options: []string{"default_permissions"},
		EnableAcl: true, EnableSymlinkCaching: true,
		MaxBackground: 64, MaxWrite: 256 << 10,
		ExtraCapabilities: fuse.CAP_ATOMIC_O_TRUNC | fuse.CAP_DONT_MASK |
			fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_ASYNC_DIO,
	})
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", dir, &os.PathError{Op: "fuse", Path: "/dev/fuse", Err: err})
	}
	return server, nil
}
