package images

import (
	"archive/tar"
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// AUFS's marks (linux/Documentation/filesystems/aufs of the aufs project).
const (
	whiteout = ".wh."         // + NAME, an empty file: NAME is deleted
	aufsOwn  = ".wh..wh."     // + anything, in a layer's root: AUFS's own
	opaque   = ".wh..wh..opq" // in a folder: nothing of the layers below shows
)

// errDevice is the answer to a device anywhere but below dev/.
var errDevice = fmt.Errorf("%w: a device outside dev/", ErrUnsafe)

// cleanName turns a name in a tar into a path relative to the layer's root.
// A leading slash is dropped, as tar does.
func cleanName(name string) (string, error) {
	if name == "" {
		return "", errors.New("an empty name")
	}
	if len(name) > unix.PathMax {
		return "", unix.ENAMETOOLONG
	}
	if strings.Contains("/"+name+"/", "/../") {
		return "", fmt.Errorf("%w: .. in a name", ErrUnsafe)
	}
	name = path.Clean(strings.TrimLeft(name, "/"))
	parts := strings.Split(name, "/")
	for i, part := range parts {
		if !strings.HasPrefix(part, whiteout) {
			continue
		}
		last := i == len(parts)-1
		switch {
		case part == opaque && last:
		case strings.HasPrefix(part, aufsOwn) && i == 0:
		case strings.HasPrefix(part, aufsOwn):
			return "", fmt.Errorf("%w: %s below the root", ErrUnsafe, aufsOwn)
		case !last:
			return "", fmt.Errorf("%w: a whiteout is no folder", ErrUnsafe)
		case part == whiteout, part == whiteout+".", part == whiteout+"..":
			return "", fmt.Errorf("%w: a whiteout of nothing", ErrUnsafe)
		}
	}
	return name, nil
}

// checkHeader refuses what no archiver writes and a union would stumble over.
func checkHeader(name string, hdr *tar.Header) error {
	if hdr.Uid < 0 || hdr.Uid >= math.MaxUint32 || hdr.Gid < 0 || hdr.Gid >= math.MaxUint32 {
		return fmt.Errorf("%w: owner %d:%d", ErrUnsafe, hdr.Uid, hdr.Gid)
	}
	if name == "." && hdr.Typeflag != tar.TypeDir {
		return fmt.Errorf("%w: the root must be a folder", ErrUnsafe)
	}
	if isMark(path.Base(name)) && hdr.Typeflag != tar.TypeReg && hdr.Typeflag != tar.TypeLink {
		return errMark
	}
	return nil
}

// isMark tells whether a file of that name says that something is deleted.
func isMark(base string) bool {
	return strings.HasPrefix(base, whiteout) && (base == opaque || !strings.HasPrefix(base, aufsOwn))
}

var errMark = fmt.Errorf("%w: a whiteout must be a file", ErrUnsafe)

// checkDevice refuses the device 0:0, which is overlayfs's whiteout, and
// numbers that the kernel would cut down to others (mknod(2) takes 12 bits of
// the major and 20 of the minor number).
func checkDevice(hdr *tar.Header) error {
	if hdr.Devmajor>>12 != 0 || hdr.Devminor>>20 != 0 || hdr.Devmajor == 0 && hdr.Devminor == 0 {
		return fmt.Errorf("%w: device %d:%d", ErrUnsafe, hdr.Devmajor, hdr.Devminor)
	}
	return nil
}

// setXattrs sets the extended attributes that mean the same on every host:
// capabilities and the users' own.
func setXattrs(f *os.File, hdr *tar.Header) error {
	for key, value := range hdr.PAXRecords {
		name, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok || !keepXattr(name) {
			continue
		}
		err := unix.Fsetxattr(int(f.Fd()), name, []byte(value), 0)
		if err == unix.ENOTSUP && name != "security.capability" {
			continue // not all file systems have users' attributes
		}
		if err != nil {
			return fmt.Errorf("fsetxattr %q: %w", name, err)
		}
	}
	return nil
}

// keepXattr drops what belongs to the host that packed the layer (labels of
// security modules) and what commands a union: trusted.overlay.opaque and the
// like, and their forms for unions without privileges.
func keepXattr(name string) bool {
	for _, union := range []string{"user.overlay.", "user.fuseoverlayfs.", "user.containers."} {
		if strings.HasPrefix(name, union) {
			return false
		}
	}
	return name == "security.capability" || strings.HasPrefix(name, "user.")
}
