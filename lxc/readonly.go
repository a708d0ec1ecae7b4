package lxc

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// readOnly is a program on a mount of its own, attached to nothing, through which
// nobody can write to it. The attacher is executed from there: what is executed in a
// container can be opened inside by /proc/PID/exe, and then opened again to write
// (CVE-2019-5736). 0: there is none.
type readOnly int

func openReadOnly(program string) (readOnly, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, program, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("open_tree %s: %w", program, err)
	}
	defer unix.Close(tree)
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return 0, fmt.Errorf("mount_setattr %s: %w", program, err)
	}
	// Far from the numbers that a new process's files get.
	fd, err := unix.FcntlInt(uintptr(tree), unix.F_DUPFD_CLOEXEC, 100)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", program, err)
	}
	return readOnly(fd), nil
}

// path is where to execute it: program itself where there is none.
func (r readOnly) path(program string) string {
	if r == 0 {
		return program
	}
	return fmt.Sprintf("/proc/self/fd/%d", int(r))
}

func (r readOnly) close() error {
	if r == 0 {
		return nil
	}
	return unix.Close(int(r))
}
