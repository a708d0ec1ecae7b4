package native

import (
	"fmt"
	"os"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"docker2013/container"
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

// userNamespace is what a program needs for a new one, or to join one.
type userNamespace struct {
	is    bool
	ready int               // the index of the pipe that tells when the ids are mapped, -1: they are already
	trees int               // the first of the descriptors of what is bind-mounted, in the mounts' order
	nodes map[string]string // devices in the container, and where they are on the host
}

func (u userNamespace) flag() int {
	if u.is {
		return unix.CLONE_NEWUSER
	}
	return 0
}

func (w *writer) awaitIDs(p *specs.Process, u userNamespace) {
	if u.is && u.ready >= 0 {
		w.labels(p)
		w.call("wait until the ids are mapped", unix.SYS_READ, launch.File(u.ready), launch.Bytes(make([]byte, 1)), launch.Number(1))
	}
}

// joinUserNamespace joins one that is there already, by its path, and returns which
// other namespaces are left to be made. Those that are there are joined first, with
// the host's privileges; new ones must be made behind it, to be its own; and a PID
// namespace of it needs a fork, for nobody changes his own.
func (w *writer) joinUserNamespace(s *specs.Spec) []specs.LinuxNamespace {
	user := userNamespacePath(s)
	if user == "" {
		return s.Linux.Namespaces
	}
	w.call("be undumpable", unix.SYS_PRCTL, launch.Number(unix.PR_SET_DUMPABLE), launch.Number(0))
	w.labels(s.Process)
	var unshared uint64
	var joined, left []specs.LinuxNamespace
	for _, ns := range s.Linux.Namespaces {
		switch {
		case ns.Type == specs.UserNamespace:
		case ns.Path != "":
			joined = append(joined, ns)
		case ns.Type == specs.CgroupNamespace: // after the cgroup
			left = append(left, ns)
		default:
			unshared |= nsFlags[ns.Type]
		}
	}
	w.namespaces(append(joined, specs.LinuxNamespace{Type: specs.UserNamespace, Path: user}), nil)
	w.call("make the other namespaces", unix.SYS_UNSHARE, launch.Number(unshared))
	w.call("fork", unix.SYS_CLONE, launch.Number(unix.CLONE_PARENT|uint64(unix.SIGCHLD))).Fork = true
	return left
}

func userNamespacePath(s *specs.Spec) string { return namespacePath(s, specs.UserNamespace) }
func pidNamespacePath(s *specs.Spec) string  { return namespacePath(s, specs.PIDNamespace) }

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
func (w *writer) becomeRoot(u userNamespace) {
	if !u.is {
		return
	}
	zero := launch.Number(0)
	w.call("become root inside", unix.SYS_SETRESGID, zero, zero, zero)
	w.call("become root inside", unix.SYS_SETRESUID, zero, zero, zero)
}

// hostNodes takes hold of the host's device nodes: nobody makes one in a user
// namespace.
func (w *writer) hostNodes(s *specs.Spec, u userNamespace) []launch.Arg {
	if !u.is {
		return nil
	}
	nodes := make([]launch.Arg, len(s.Linux.Devices))
	for i, d := range s.Linux.Devices {
		node := d.Path
		if from := u.nodes[d.Path]; from != "" {
			node = from
		}
		nodes[i] = w.result("take "+node, unix.SYS_OPEN_TREE, here, launch.String(node), launch.Number(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC))
	}
	return nodes
}

// hasUserNamespace tells that a container has another than the host's.
func hasUserNamespace(s *specs.Spec) bool {
	return slices.ContainsFunc(s.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.UserNamespace })
}

// hostTrees takes hold of what is bind-mounted into a container with a user
// namespace: the new process may not go everywhere.
func hostTrees(s *specs.Spec) (trees []int, err error) {
	if !hasUserNamespace(s) {
		return nil, nil
	}
	defer func() {
		if err != nil {
			shim.CloseAll(trees)
		}
	}()
	for _, m := range s.Mounts {
		a := readOptions(m)
		if !a.bind || a.remount {
			continue
		}
		flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
		if a.recursive {
			flags |= unix.AT_RECURSIVE
		}
		tree, err := unix.OpenTree(unix.AT_FDCWD, m.Source, flags)
		if err != nil {
			return trees, fmt.Errorf("take %s: %w", m.Source, err)
		}
		trees = append(trees, tree)
	}
	return trees, nil
}

// userns is what a program needs of it. Its trees go right before the streams, the
// pipe behind them. devices are the record's, which say where a node is on the host.
func userns(s *specs.Spec, x Setup, trees int, devices []container.Device) userNamespace {
	u := userNamespace{is: hasUserNamespace(s), ready: x.afterStreams(), trees: x.Stdio[0] - trees, nodes: map[string]string{}}
	if userNamespacePath(s) != "" {
		u.ready = -1
	}
	for _, d := range devices {
		u.nodes[d.Container] = d.Host
	}
	return u
}

// idMap is what the shim maps for it; nil: nothing.
func idMap(s *specs.Spec) *shim.IDMap {
	if !hasUserNamespace(s) || userNamespacePath(s) != "" {
		return nil
	}
	user := s.Process.User
	return &shim.IDMap{
		UIDs: mapLines(s.Linux.UIDMappings), GIDs: mapLines(s.Linux.GIDMappings),
		User: hostID(s.Linux.UIDMappings, user.UID), Group: hostID(s.Linux.GIDMappings, user.GID),
	}
}

// mapLines is the text of /proc/PID/uid_map.
func mapLines(mappings []specs.LinuxIDMapping) (lines string) {
	for _, m := range mappings {
		lines += fmt.Sprintf("%d %d %d\n", m.ContainerID, m.HostID, m.Size)
	}
	return lines
}

// hostID is the host's id for one inside; 65534, nobody, if it has none.
func hostID(mappings []specs.LinuxIDMapping, id uint32) uint32 {
	for _, m := range mappings {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return m.HostID + id - m.ContainerID
		}
	}
	return 65534
}

// limitsFromOutside are those that only the host's root may raise: the shim sets them.
func limitsFromOutside(m *shim.IDMap, p *specs.Process) *shim.IDMap {
	if m == nil {
		return nil
	}
	m.OOMScoreAdj = p.OOMScoreAdj
	for _, r := range p.Rlimits {
		m.Limits = append(m.Limits, shim.Limit{Name: "set the limit " + r.Type, Number: rlimits[r.Type], Hard: r.Hard})
	}
	return m
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
