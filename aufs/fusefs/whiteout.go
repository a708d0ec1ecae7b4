package fusefs

import (
	"strings"

	"golang.org/x/sys/unix"

	"docker2013/container"
)

// AUFS's names, see aufs.5 and fs/aufs/whiteout.c of its sources.
const (
	whPrefix   = container.WhiteoutPrefix // .wh.
	opaqueMark = container.OpaqueMark     // .wh..wh..opq

	// whBase is the file that whiteouts are hard links to: a deletion takes a name
	// on disk, but no inode.
	whBase = ".wh..wh.aufs"
	// workDir has what isn't in its place yet, or not any more. AUFS keeps its
	// orphans there.
	workDir = ".wh..wh.orph"
	// plinkDir is for AUFS's pseudo-links, which we don't make.
	plinkDir = ".wh..wh.plnk"

	// maxName is AUFS_MAX_NAMELEN: with .wh.NAME.XXXX there is room for marks.
	maxName = 242
)

// reserved: no user of the union sees or makes a name like that (EPERM, AUFS's
// au_test_shwh).
func reserved(name string) bool { return strings.HasPrefix(name, whPrefix) }

// checkName is for names that are to be made.
func checkName(name string) error {
	switch {
	case reserved(name):
		return unix.EPERM
	case len(name) > maxName:
		return unix.ENAMETOOLONG
	}
	return nil
}

// whiteout marks a name as deleted. It may be already.
func (u *FS) whiteout(dir, name string) error {
	return u.mark(join(dir, whPrefix+name))
}

// unwhiteout takes the mark away.
func (u *FS) unwhiteout(dir, name string) error {
	err := unix.Unlinkat(u.rw().fd, join(dir, whPrefix+name), 0)
	if err == unix.ENOENT || err == unix.ENAMETOOLONG {
		return nil
	}
	return err
}

// makeOpaque marks a directory as hiding its like in the branches below.
func (u *FS) makeOpaque(dir string) error {
	return u.mark(join(dir, opaqueMark))
}

// mark makes a mark: one more name of whBase. A file takes 65,000 names on ext4; when
// it is full there is a new one.
func (u *FS) mark(path string) error {
	fd := u.rw().fd
	err := unix.Linkat(fd, whBase, fd, path, 0)
	switch err {
	case unix.EEXIST:
		return nil
	case unix.EMLINK, unix.ENOENT:
	default:
		return err
	}
	tmp := u.workName()
	if err := makeEmpty(fd, tmp); err != nil {
		return err
	}
	if err := unix.Renameat(fd, tmp, fd, whBase); err != nil {
		return err
	}
	if err = unix.Linkat(fd, whBase, fd, path, 0); err == unix.EEXIST {
		return nil
	}
	return err
}

func makeEmpty(dir int, path string) error {
	fd, err := unix.Openat(dir, path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o444)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// isWhiteout tells whether a branch has the whiteout of a name.
func (b *branch) isWhiteout(dir, name string) (bool, error) {
	return b.has(join(dir, whPrefix+name))
}

// isOpaque tells whether a branch's directory hides its like below.
func (b *branch) isOpaque(dir string) (bool, error) {
	return b.has(join(dir, opaqueMark))
}
