package images

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// place is one name in an open folder: what the *at system calls take. None of
// its methods follows a link in that name.
type place struct {
	dir  int // descriptor of the folder
	base string
}

// create makes a file with do, in the place of whatever is there: the last
// entry of a name wins, as with tar -x. Only a folder that is not empty stays.
func (p place) create(do func() error) error {
	err := do()
	if err != unix.EEXIST {
		return err
	}
	err = unix.Unlinkat(p.dir, p.base, 0)
	if err == unix.EISDIR {
		err = unix.Unlinkat(p.dir, p.base, unix.AT_REMOVEDIR)
	}
	if err != nil {
		return fmt.Errorf("replace what an earlier entry made: %w", err)
	}
	return do()
}

// file makes a regular file with the content that write writes.
func (p place) file(hdr *tar.Header, write func(*os.File) error) (err error) {
	var f *os.File
	err = p.create(func() (err error) {
		f, err = p.open(unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY)
		return err
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := write(f); err != nil {
		return err
	}
	return p.attributes(f, hdr)
}

// folder makes a folder, or takes over the one that is there.
func (p place) folder(hdr *tar.Header) (err error) {
	err = p.create(func() error {
		err := unix.Mkdirat(p.dir, p.base, 0o700)
		if st, statErr := p.stat(); err == unix.EEXIST && statErr == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	f, err := p.open(unix.O_RDONLY | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return p.attributes(f, hdr)
}

// open opens the file, or creates it for its owner alone.
func (p place) open(flags int) (*os.File, error) {
	fd, err := unix.Openat(p.dir, p.base, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), p.base), nil
}

func (p place) stat() (st unix.Stat_t, err error) {
	err = unix.Fstatat(p.dir, p.base, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}

// attributes sets what the header says of a file that has just been made. f is
// that file where it has been opened, else nil.
func (p place) attributes(f *os.File, hdr *tar.Header) error {
	// The owner first: chown(2) clears the set-user-ID bit and capabilities.
	if err := unix.Fchownat(p.dir, p.base, hdr.Uid, hdr.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("fchownat: %w", err)
	}
	if f != nil {
		if err := setXattrs(f, hdr); err != nil {
			return err
		}
	}
	if hdr.Typeflag != tar.TypeSymlink { // a link has no mode, and fchmodat would follow it
		if err := unix.Fchmodat(p.dir, p.base, uint32(hdr.Mode&0o7777), 0); err != nil {
			return fmt.Errorf("fchmodat: %w", err)
		}
	}
	return p.setTimes(times(hdr))
}

// fileTimes are the access and the modification time, as utimensat(2) wants them.
type fileTimes [2]unix.Timespec

// times takes the modification time for both where the tar has only that.
func times(hdr *tar.Header) fileTimes {
	access := hdr.AccessTime
	if access.IsZero() {
		access = hdr.ModTime
	}
	spec := func(t time.Time) unix.Timespec {
		return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
	}
	return fileTimes{spec(access), spec(hdr.ModTime)}
}

func (p place) setTimes(t fileTimes) error {
	if err := unix.UtimesNanoAt(p.dir, p.base, t[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("utimensat: %w", err)
	}
	return nil
}
