package xray

import (
	"slices"
	"strings"
)

// Made picks the calls that made the container id, of a record of the daemon, its
// shims and all their children: until the program is executed.
//
// On the classic path they are those of lxc-start and its children. On the modern
// one they are those of the child that a shim clones into new namespaces, and
// before it what the daemon does to the container's cgroups.
func Made(calls []Call, id string, modern bool) []Call {
	makers := findMakers(calls, id, modern)
	var made []Call
	for i := range calls {
		c := &calls[i]
		switch {
		case !makers[c.Pid]:
			if modern && (inCgroup(c, id) || newProcess(c) && makers[number(c.Result)]) {
				made = append(made, *c)
			}
		case c.Name == "execve" && isLXCStart(c, id): // before it lxc-start was the daemon's child
			made = nil
		default:
			made = append(made, *c)
			if c.Name == "execve" && c.OK() {
				delete(makers, c.Pid) // it is the program now
			}
		}
	}
	return made
}

// findMakers finds the processes. A child's first calls can stand before the end of
// the call that made it.
func findMakers(calls []Call, id string, modern bool) map[int]bool {
	makers := map[int]bool{}
	for i := range calls {
		c := &calls[i]
		switch {
		case modern && newProcess(c) && strings.Contains(c.arg(0), "CLONE_NEW"),
			!modern && newProcess(c) && makers[c.Pid]:
			makers[number(c.Result)] = true
		case !modern && c.Name == "execve" && isLXCStart(c, id):
			makers[c.Pid] = true
		}
	}
	return makers
}

func newProcess(c *Call) bool {
	return slices.Contains([]string{"clone", "clone3", "fork", "vfork"}, c.Name) && c.OK()
}

func isLXCStart(c *Call, id string) bool {
	return strings.HasSuffix(c.text(0), "/lxc-start") && strings.Contains(c.arg(1), `"`+id+`"`)
}

// inCgroup finds what is done to a container's cgroups: their making, and what is
// written there.
func inCgroup(c *Call, id string) bool {
	switch c.Name {
	case "mkdir", "mkdirat":
		return strings.HasPrefix(descriptorPath(c.arg(0)), cgroupRoot) && c.text(1) == id
	case "write":
		return strings.HasPrefix(descriptorPath(c.arg(0)), cgroupRoot) && strings.Contains(c.arg(0), "/"+id+"/")
	}
	return false
}

const cgroupRoot = "/sys/fs/cgroup/"
