// Package xray shows the system calls that made a container, grouped by the idea
// that they are part of.
//
//	strace's record ──Parse──▶ calls ──Made──▶ those of the maker ──Explain──▶ deeds, in words
//
// The record is true: it is what the kernel was asked for, by lxc-start on the
// classic path, by a shim's child on the modern one. What failed, and what only
// looked, is left out; what belongs together is one deed: fsopen, fsconfig, fsmount
// and move_mount are a mount.
package xray

// Idea is what a deed is part of.
type Idea string

// The ideas, in the order in which a report shows them.
const (
	Namespaces   Idea = "namespaces"
	Cgroups      Idea = "cgroups"
	Mounts       Idea = "mounts and pivot_root"
	Capabilities Idea = "capabilities"
	Seccomp      Idea = "seccomp"
	Terminal     Idea = "terminal and session"
	Names        Idea = "names and identity"
	Exec         Idea = "exec"
)

// Ideas are all of them, in order.
var Ideas = []Idea{Namespaces, Cgroups, Mounts, Capabilities, Seccomp, Terminal, Names, Exec}

// Deed is what one or more calls did.
type Deed struct {
	Idea   Idea
	Calls  []string // their names, each once: fsopen, fsconfig, fsmount, move_mount
	Count  int      // how many calls it took
	Words  string   // "mount proc on /proc"
	Items  []string `json:",omitempty"` // what Words is of, where they are many: the devices, the capabilities
	Detail string   // options and the like; not compared between paths
	Source string   // the symbol of ours that wrote the calls; "": they aren't ours
}
