package doctor

import (
	"time"

	"docker2013/evidence"
)

// Facts is what was found on a host, not judged yet. A text that says why
// something couldn't be found out or done is "" where it could.
type Facts struct {
	Kernel string // release: "6.1.0-18-amd64"
	UID    int    // effective
	Caps   evidence.Caps

	Data        Data
	FileSystems []string // the names in /proc/filesystems
	Overlay     Probe    // an overlay made of folders where the data would be
	FuseDevice  string   // why /dev/fuse can't be opened

	Cgroups  []Hierarchy
	Disabled []string // v1 controllers that the kernel was told not to use

	Namespaces []string // the names in /proc/self/ns
	Isolation  Probe    // a process in the five new namespaces of 2013

	LXC        Program
	BashStatic Program
	BusyBox    Program

	Ports  []Port
	Docker string // the socket of a modern Docker, "": none

	AppArmor bool
	SELinux  string   // "" (off), "permissive", "enforcing"
	Seccomp  []string // actions that a filter can take

	Now   time.Time
	Built time.Time // of this program's file; zero: not known
}

// Probe is something that was tried.
type Probe struct {
	Tried bool   // false: not as this user, or not on this kernel
	Err   string // why it failed
}

// Data is the place of the daemon's data.
type Data struct {
	Root    string   // as asked for
	Nearest string   // it, or the nearest folder above that exists
	Type    string   // of the file system there: "ext4"
	Free    uint64   // bytes that root can still write there
	Modern  []string // names in Root that only a modern Docker makes
	Err     string   // why it couldn't be looked at
}

// Hierarchy is a mounted cgroup hierarchy.
type Hierarchy struct {
	Version     int // 1 or 2
	Mount       string
	Controllers []string // on v1 a named one without any: "name=systemd"
}

// Program is a program on the PATH.
type Program struct {
	Path    string // "": none
	Version string // as it says itself
	Static  bool
	Err     string // why it couldn't be looked at
}

// Port is an address the daemon wants to listen on.
type Port struct {
	Flag   string // the daemon's flag for it: "--tcp"
	Addr   string
	Err    string // why it can't be listened on
	Holder string // name of the process that does so, "" if not known
	PID    int
}
