package fusefs

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// rw is the index of the read-write branch.
const rw = 0

// branch is one of the directories that are put on top of each other. Paths in it
// are relative to it; its root is ".".
type branch struct {
	path string
	fd   int
}

// parseBranches reads AUFS's option string, "br:PATH=rw:PATH=ro:", top branch first.
// The first one must be the only one that is written to.
func parseBranches(s string) ([]string, error) {
	list, ok := strings.CutPrefix(s, "br:")
	if !ok {
		return nil, fmt.Errorf("branches %q: say br:RW=rw:LAYER=ro", s)
	}
	var paths []string
	for i, b := range strings.Split(strings.TrimSuffix(list, ":"), ":") {
		path, mode, _ := strings.Cut(b, "=")
		want := "ro"
		if i == rw {
			want = "rw"
		}
		if mode != want || path == "" {
			return nil, fmt.Errorf("branch %q: the first must be PATH=rw, the others PATH=ro", b)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

func openBranch(path string) (*branch, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open branch %s: %w", path, err)
	}
	return &branch{path: path, fd: fd}, nil
}

func (b *branch) lstat(path string, st *unix.Stat_t) error {
	return unix.Fstatat(b.fd, path, st, unix.AT_SYMLINK_NOFOLLOW)
}

// has tells whether there is something by that name. A name that is too long for
// the file system isn't there.
func (b *branch) has(path string) (bool, error) {
	var st unix.Stat_t
	switch err := b.lstat(path, &st); err {
	case nil:
		return true, nil
	case unix.ENOENT, unix.ENAMETOOLONG:
		return false, nil
	default:
		return false, err
	}
}

// open opens a path. All its directories were seen to be directories; should one be
// a symlink nevertheless, it isn't followed out of the branch, nor at all.
func (b *branch) open(path string, flags int) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_LARGEFILE),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	for {
		fd, err := unix.Openat2(b.fd, path, &how)
		switch err {
		case unix.EINTR, unix.EAGAIN: // EAGAIN: a rename passed by
			continue
		case unix.ENOSYS: // before Linux 5.6
			return unix.Openat(b.fd, path, int(how.Flags), 0)
		}
		return fd, err
	}
}

// join is the path of a name in a directory of a branch.
func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

func isDir(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }
