package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"sync"

	securejoin "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
)

// mounts counts who needs the container's file system mounted: a run, a command
// that reads a file, the user who typed `mount`. The last one out unmounts.
type mounts struct {
	mu     sync.Mutex
	users  int
	byHand bool
}

// acquire mounts the file system unless it is, and counts one user more.
func (m *mounts) acquire(ctx context.Context, c *Container) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users == 0 && m.byHand { // or somebody has unmounted it on the host
		fsys := c.Record().Filesystem
		mounted, err := c.union.Mounted(&fsys)
		if err != nil {
			return err
		}
		m.byHand = mounted
	}
	if m.users == 0 && !m.byHand {
		if err := c.mount(ctx); err != nil {
			return err
		}
	}
	m.users++
	return nil
}

// release counts one user less and unmounts after the last.
func (m *mounts) release(ctx context.Context, c *Container) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users--
	if m.users == 0 && !m.byHand {
		return c.unmount(ctx)
	}
	return nil
}

func (m *mounts) byHandOnly() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.byHand && m.users == 0
}

func (c *Container) mount(ctx context.Context) error {
	if err := c.there(); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	fsys := c.Record().Filesystem
	was := fsys.Union
	if err := c.union.Mount(ctx, &fsys); err != nil {
		return fmt.Errorf("mount container %s: %w", c.id, err)
	}
	if fsys.Union == was {
		return nil
	}
	err := c.change(func(r *Record) { r.Filesystem.Union = fsys.Union })
	if err == nil {
		err = c.flush()
	}
	if err != nil {
		return errors.Join(err, c.union.Unmount(ctx, &fsys))
	}
	return nil
}

func (c *Container) unmount(ctx context.Context) error {
	fsys := c.Record().Filesystem
	if err := c.union.Unmount(ctx, &fsys); err != nil {
		return fmt.Errorf("unmount container %s: %w", c.id, err)
	}
	return nil
}

// settle waits for what a run leaves to be done behind its answer: somebody who has
// seen it end must not find its mount.
func (c *Container) settle() {
	c.mu.Lock()
	r := c.run
	c.mu.Unlock()
	if r != nil && r.over() {
		<-r.done
	}
}

// Mount mounts the file system by hand, to be looked at from the host. It stays
// mounted until Unmount, whatever runs meanwhile.
func (c *Container) Mount(ctx context.Context) error {
	ctx = c.ctx(ctx)
	c.settle()
	c.mounts.mu.Lock()
	defer c.mounts.mu.Unlock()
	if c.mounts.byHand || c.mounts.users > 0 {
		return ErrMounted
	}
	if err := c.mount(ctx); err != nil {
		return err
	}
	c.mounts.byHand = true
	return nil
}

// Unmount undoes Mount. A running container keeps its root: ErrRunning.
func (c *Container) Unmount(ctx context.Context) error {
	ctx = c.ctx(ctx)
	c.settle()
	c.mounts.mu.Lock()
	defer c.mounts.mu.Unlock()
	if c.mounts.users > 0 {
		return fmt.Errorf("unmount container %s: %w", c.id, ErrRunning)
	}
	if err := c.unmount(ctx); err != nil {
		return err
	}
	c.mounts.byHand = false
	return nil
}

// Reset throws away what the container has changed.
func (c *Container) Reset(ctx context.Context) error {
	c.settle()
	c.mounts.mu.Lock()
	defer c.mounts.mu.Unlock()
	if c.mounts.users > 0 {
		return fmt.Errorf("reset container %s: %w", c.id, ErrRunning)
	}
	if c.mounts.byHand {
		return fmt.Errorf("reset container %s: %w: umount it first", c.id, ErrMounted)
	}
	if err := c.there(); err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	fsys := c.Record().Filesystem
	return c.union.Reset(&fsys)
}

// WithRoot calls f while the file system is mounted, with the directory it is
// mounted on.
func (c *Container) WithRoot(ctx context.Context, f func(rootfs string) error) (err error) {
	ctx = context.WithoutCancel(c.ctx(ctx)) // what was mounted is unmounted
	if err := c.mounts.acquire(ctx, c); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.mounts.release(ctx, c), c.removeEnded(ctx)) }()
	return f(filepath.Join(c.dir, "rootfs"))
}

// WithView calls f with the directory that is the container's root as its own
// processes see it: with what is mounted in it, as long as it runs. It is for use
// with OpenFile and OpenFolder.
func (c *Container) WithView(ctx context.Context, f func(root string) error) error {
	r, err := c.current()
	if err != nil {
		return c.WithRoot(ctx, f)
	}
	root, err := os.Open(fmt.Sprintf("/proc/%d/root", r.process.Pid()))
	if errors.Is(err, os.ErrNotExist) { // it is ending
		return c.WithRoot(ctx, f)
	}
	if err != nil {
		return fmt.Errorf("look into container %s: %w", c.id, err)
	}
	defer root.Close() // a name for it only
	if r.over() {      // and the number may be somebody else's
		return c.WithRoot(ctx, f)
	}
	return f(fmt.Sprintf("/proc/self/fd/%d", root.Fd()))
}

// OpenFolder opens a directory of the container, as OpenFile opens a file, only to
// name what is in it (O_PATH).
func OpenFolder(rootfs, name string) (*os.File, error) {
	dir, err := securejoin.OpenInRoot(rootfs, name)
	if err != nil {
		return nil, pathError(name, err)
	}
	fi, err := dir.Stat()
	if err == nil && !fi.IsDir() {
		err = unix.ENOTDIR
	}
	if err != nil {
		return nil, errors.Join(pathError(name, err), dir.Close())
	}
	return dir, nil
}

// OpenFile opens a file of the container as it would be seen inside: symbolic
// links, absolute ones too, are followed within its root and never out of it.
// It is for use inside WithRoot.
func OpenFile(rootfs, name string, flags int, mode uint32) (*os.File, error) {
	handle, err := securejoin.OpenInRoot(rootfs, name)
	if err == nil {
		defer handle.Close()
		return securejoin.Reopen(handle, flags&^unix.O_CREAT)
	}
	if !errors.Is(err, os.ErrNotExist) || flags&unix.O_CREAT == 0 {
		return nil, pathError(name, err)
	}
	dir, err := securejoin.OpenInRoot(rootfs, path.Dir(path.Clean("/"+name)))
	if err != nil {
		return nil, pathError(name, err)
	}
	defer dir.Close()
	fd, err := unix.Openat(int(dir.Fd()), path.Base(name), flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, pathError(name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// pathError says which file it was, by its name in the container and not on
// the host.
func pathError(name string, err error) error {
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		err = errno
	}
	return &os.PathError{Op: "open", Path: name, Err: err}
}
