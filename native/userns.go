package native

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"docker2013/native/launch"
	"docker2013/native/shim"
)

// A user namespace changes what a program may do, and when. From its birth the new
// process has all capabilities, over what its own namespaces own and nothing else; it
// is still the host's user 0 though, whom the namespace doesn't know. So:
//
//	labels                     while what /proc/self has is still one's own
//	wait for the ids           the shim maps them from outside, and raises the limits
//	take the devices, the root as user 0 still, who may go everywhere
//	become root                the namespace's: who makes files must be known to it
//	the mounts, …              as ever, but no mknod(2); proc and sysfs while the
//	                           host's are in sight: the kernel gives nobody more of
//	                           them than he sees already

// UserNamespace is what a program needs for a new one, or to join one.
type UserNamespace struct {
	Is    bool
	Ready int               // the index of the pipe that tells when the ids are mapped, -1: they are already
	Nodes map[string]string // devices in the container, and where they are on the host; not in it: at the same place
}

func (u UserNamespace) flag() int {
	if u.Is {
		return unix.CLONE_NEWUSER
	}
	return 0
}

func (w *writer) awaitIDs(p *specs.Process, u UserNamespace) {
	if u.Is && u.Ready >= 0 {
		w.labels(p)
		w.call("wait until the ids are mapped", unix.SYS_READ, launch.File(u.Ready), make([]byte, 1), 1)
	}
}

// joinFirst is for a user namespace that is there already, or for a new one beside
// others that are there. It returns which namespaces are left to be made. Those that
// are there are joined first, with the host's privileges; new ones must be made behind
// the user's, to be its own; and a PID namespace of it needs a fork, for nobody changes
// his own.
func (w *writer) joinFirst(s *specs.Spec) []specs.LinuxNamespace {
	var unshared uint64
	var joined, left, user []specs.LinuxNamespace
	for _, ns := range s.Linux.Namespaces {
		switch {
		case ns.Type == specs.UserNamespace && ns.Path != "":
			user = append(user, ns)
		case ns.Type == specs.PIDNamespace && ns.Path != "": // Setup.PidNS
		case ns.Path != "":
			joined = append(joined, ns)
		case ns.Type == specs.CgroupNamespace, // after the cgroup
			ns.Type == specs.TimeNamespace && len(s.Linux.TimeOffsets) > 0:
			left = append(left, ns)
		default:
			unshared |= nsFlags[ns.Type]
		}
	}
	if !hasUserNamespace(s) || len(joined)+len(user) == 0 {
		return s.Linux.Namespaces
	}
	w.call("be undumpable", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0)
	if len(user) > 0 {
		w.labels(s.Process)
	}
	w.namespaces(append(joined, user...), nil)
	w.call("make the other namespaces", unix.SYS_UNSHARE, unshared)
	if unshared&(unix.CLONE_NEWPID|unix.CLONE_NEWTIME) != 0 {
		if w.p.PidNamespace >= 0 { // the number of a process there isn't ours
			w.err = errors.New("a new time namespace beside a user namespace and a PID namespace that is joined is not supported")
		}
		w.call("fork", unix.SYS_CLONE, unix.CLONE_PARENT|uint64(unix.SIGCHLD)).Fork = true
	}
	return left
}

// namespacePath is of one to join, "": it is new, or the host's.
func namespacePath(s *specs.Spec, kind specs.LinuxNamespaceType) string {
	for _, ns := range s.Linux.Namespaces {
		if ns.Type == kind {
			return ns.Path
		}
	}
	return ""
}

// becomeRoot: of the namespace. The capabilities stay: the user was no root of it
// before (capabilities(7)).
func (w *writer) becomeRoot(u UserNamespace) {
	if !u.Is {
		return
	}
	w.call("become root inside", unix.SYS_SETRESGID, 0, 0, 0)
	w.call("become root inside", unix.SYS_SETRESUID, 0, 0, 0)
}

// hostNodes takes hold of the host's device nodes: nobody makes one in a user
// namespace.
func (w *writer) hostNodes(s *specs.Spec, u UserNamespace) []launch.Arg {
	if !u.Is {
		return nil
	}
	nodes := make([]launch.Arg, len(s.Linux.Devices))
	for i, d := range s.Linux.Devices {
		node := d.Path
		if from := u.Nodes[d.Path]; from != "" {
			node = from
		}
		nodes[i] = w.result("take "+node, unix.SYS_OPEN_TREE, here, node, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	}
	return nodes
}

// hasUserNamespace tells that a container has another than the host's.
func hasUserNamespace(s *specs.Spec) bool {
	return slices.ContainsFunc(s.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.UserNamespace })
}

// Hold takes hold of what the new process can't: the PID namespace that it is born in;
// and what is bind-mounted into a container with a user namespace, since it may not go
// everywhere. The caller closes what is held, after an error too.
func (x *Setup) Hold(s *specs.Spec) (held []int, err error) {
	if path := namespacePath(s, specs.PIDNamespace); path != "" {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("join the PID namespace: open %s: %w", path, err)
		}
		held, x.PidNS = append(held, fd), x.Add(fd)
	}
	if !hasUserNamespace(s) {
		return held, nil
	}
	for _, m := range s.Mounts {
		a := readOptions(m)
		if !a.bind || a.remount {
			x.Trees = append(x.Trees, -1)
			continue
		}
		flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
		if a.recursive {
			flags |= unix.AT_RECURSIVE
		}
		tree, err := unix.OpenTree(unix.AT_FDCWD, m.Source, flags)
		if err != nil {
			return held, fmt.Errorf("take %s: %w", m.Source, err)
		}
		held, x.Trees = append(held, tree), append(x.Trees, x.Add(tree))
	}
	return held, nil
}

// Joins is what a program needs to know of a container's user namespace when its ids
// are mapped already.
func Joins(s *specs.Spec) UserNamespace { return UserNamespace{Is: hasUserNamespace(s), Ready: -1} }

// IDs is what somebody outside does for a new user namespace; nil: nothing.
func IDs(s *specs.Spec) *shim.IDMap {
	if !hasUserNamespace(s) || namespacePath(s, specs.UserNamespace) != "" {
		return nil
	}
	m := &shim.IDMap{UIDs: mapLines(s.Linux.UIDMappings), GIDs: mapLines(s.Linux.GIDMappings)}
	if p := s.Process; p != nil {
		m.User, m.Group = HostID(s.Linux.UIDMappings, p.User.UID), HostID(s.Linux.GIDMappings, p.User.GID)
		m.OOMScoreAdj, m.Limits = p.OOMScoreAdj, Limits(p)
	}
	return m
}

// Limits are those of a process that only the host's root may raise.
func Limits(p *specs.Process) (list []shim.Limit) {
	for _, r := range p.Rlimits {
		list = append(list, shim.Limit{Name: "set the limit " + r.Type, Number: rlimits[r.Type], Hard: r.Hard})
	}
	return list
}

// mapLines is the text of /proc/PID/uid_map.
func mapLines(mappings []specs.LinuxIDMapping) (lines string) {
	for _, m := range mappings {
		lines += fmt.Sprintf("%d %d %d\n", m.ContainerID, m.HostID, m.Size)
	}
	return lines
}

// HostID is the host's id for one inside; 65534, nobody, if it has none.
func HostID(mappings []specs.LinuxIDMapping, id uint32) uint32 {
	for _, m := range mappings {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return m.HostID + id - m.ContainerID
		}
	}
	return 65534
}

// giveStreams makes a process's streams its own, so that it can open /dev/stdout
// again. What isn't a pipe or a terminal stays whose it is.
func giveStreams(ids *shim.IDMap, files ...*os.File) error {
	if ids == nil {
		return nil
	}
	for _, f := range files {
		if f == nil {
			continue
		}
		var st unix.Stat_t
		err := unix.Fstat(int(f.Fd()), &st)
		pipe := st.Mode&unix.S_IFMT == unix.S_IFIFO
		terminal := st.Mode&unix.S_IFMT == unix.S_IFCHR && unix.Major(st.Rdev) == 136
		if err == nil && (pipe || terminal) {
			err = unix.Fchown(int(f.Fd()), int(ids.User), int(ids.Group))
		}
		if err != nil {
			return fmt.Errorf("give a stream to the container: %w", err)
		}
	}
	return nil
}
