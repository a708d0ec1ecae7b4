package container

import (
	"os"
	"strings"
)

// UserXattrs says that the marks of a branch are users' attributes: in a user
// namespace nobody may set those of the host's root, trusted.* (xattr(7)), and
// overlayfs reads the others when it is told to (its option userxattr, Linux 5.11).
var UserXattrs = inUserNamespace()

var (
	// OpaqueXattr is overlayfs's mark of an opaque directory, with the value "y".
	OpaqueXattr = OverlayXattrs + "opaque"
	// OverlayXattrs begins the names of all of overlayfs's attributes.
	OverlayXattrs = xattrSpace() + "overlay."

	// MarksXattr on RWPath names the marks in it. Only translations set it;
	// without it the record's Union counts.
	MarksXattr = xattrSpace() + "docker2013.marks"
)

func xattrSpace() string {
	if UserXattrs {
		return "user."
	}
	return "trusted."
}

// inUserNamespace: in another than the host's, which maps all ids to themselves
// (user_namespaces(7)).
func inUserNamespace() bool {
	data, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(data)), " ") != "0 0 4294967295"
}
