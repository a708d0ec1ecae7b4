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
	makers := map[int]bool{}
	var made []Call
	for i := range calls {
		c := &calls[i]
		switch {
		case modern && c.Name == "clone3" && c.OK() && strings.Contains(c.arg(0), "CLONE_NEW"):
			makers[number(c.Result)] = true
			made = append(made, *c)
		case modern && !makers[c.Pid]:
			if inCgroup(c, id) {
				made = append(made, *c)
			}
		case !modern && c.Name == "execve" && isLXCStart(c, id):
			makers[c.Pid] = true
		case makers[c.Pid]:
			made = append(made, *c)
			if slices.Contains([]string{"clone", "clone3", "fork", "vfork"}, c.Name) && c.OK() {
				makers[number(c.Result)] = true
			}
			if c.Name == "execve" && c.OK() {
				delete(makers, c.Pid) // it is the program now
			}
		}
	}
	return made
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
