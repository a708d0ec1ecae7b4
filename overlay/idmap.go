package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"docker2013/container"
)

// A container in a user namespace has other ids than the files of its image. What
// maps them is the mount of each layer and of the read-write branch (mount_setattr(2),
// MOUNT_ATTR_IDMAP): on the disk a file stays root's, through the mount it is the
// range's first id, which the container calls root. overlayfs itself can't be mapped,
// but it can lie on what is (Linux 5.19).
//
//	mount namespace of one thread             the host's
//	  layer    ← a mapped clone of itself
//	  ID/      ← a mapped clone of itself
//	  overlayfs of them at ID/rootfs   ──▶    ID/rootfs
//
// The thread ends, and with it its namespace and the clones' names: nothing is left
// to be cleaned up, after a crash neither.

// mapped is at for a container with ids of its own.
func (m *mount) mapped(rootfs, data string, ids container.IDs) error {
	type result struct {
		tree int
		err  error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: nobody else may have this thread
		tree, err := m.mappedTree(rootfs, data, ids)
		done <- result{tree, err}
	}()
	r := <-done
	if r.err != nil {
		return fmt.Errorf("map ids %s: %w", ids, r.err)
	}
	defer unix.Close(r.tree)
	if err := unix.MoveMount(r.tree, "", unix.AT_FDCWD, rootfs, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move mount to %s: %w", rootfs, err)
	}
	return nil
}

// mappedTree gives the mounted overlayfs, attached to nothing.
func (m *mount) mappedTree(rootfs, data string, ids container.IDs) (int, error) {
	userns, err := userNamespace(ids)
	if err != nil {
		return -1, err
	}
	defer userns.Close()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return -1, fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, fmt.Errorf("make all mounts private: %w", err)
	}
	// upper and work must be on one mount: that of their parent.
	for _, dir := range append([]string{filepath.Dir(m.upper)}, m.lower...) {
		if err := mapDir(dir, userns); err != nil {
			return -1, err
		}
	}
	if err := makeFilesAs(ids.First); err != nil {
		return -1, err
	}
	if err := m.at(rootfs, data); err != nil {
		return -1, err
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, rootfs, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open_tree %s: %w", rootfs, err)
	}
	return tree, nil
}

// makeFilesAs makes this thread's files an id's, and the group's of that number.
// overlayfs copies files up with the credentials of who mounted it (ovl_fill_super),
// and root's own id is none that could be mapped back. The change takes the
// capabilities away that the id's owner wouldn't have (capabilities(7)): they are
// taken again.
func makeFilesAs(id uint32) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	if err := errors.Join(unix.Setfsgid(int(id)), unix.Setfsuid(int(id))); err != nil {
		return fmt.Errorf("setfsuid %d: %w", id, err)
	}
	if err := unix.Capset(&header, &caps[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	return nil
}

// mapDir mounts a directory on itself, with ids as the user namespace has them.
func mapDir(dir string, userns *os.File) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open_tree %s: %w", dir, err)
	}
	defer unix.Close(tree)
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userns.Fd())}
	err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, attr)
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%s: this file system can't map ids (mount_setattr: %w): leave --userns out", dir, err)
	}
	if err != nil {
		return fmt.Errorf("mount_setattr %s: %w", dir, err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount %s: %w", dir, err)
	}
	return nil
}

// userNamespace makes one with these ids. It needs a process to be made for, which
// never gets to run: it is stopped at its execve (ptrace(2), PTRACE_TRACEME) and
// killed. To be called on a locked thread, the process's tracer.
func userNamespace(ids container.IDs) (*os.File, error) {
	maps := []syscall.SysProcIDMap{{HostID: int(ids.First), Size: int(ids.Count)}}
	p, err := os.StartProcess("/proc/self/exe", []string{"user-namespace"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, UidMappings: maps, GidMappings: maps, GidMappingsEnableSetgroups: true,
		Ptrace: true, Pdeathsig: unix.SIGKILL,
	}})
	if err != nil {
		return nil, fmt.Errorf("make a user namespace: %w", err)
	}
	userns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", p.Pid))
	_ = p.Kill()
	_, werr := p.Wait()
	if err = errors.Join(err, werr); err != nil {
		_ = userns.Close() // nil, or only a name
		return nil, fmt.Errorf("make a user namespace: %w", err)
	}
	return userns, nil
}
