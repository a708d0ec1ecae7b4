package native

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"docker2013/native/launch"
)

// Compile writes the program that makes a new process the container's first: it
// reads in the order in which the kernel needs it.
//
// What comes from the host is taken hold of while it can be named (take…). What it
// is mounted on is looked up inside the new root alone. Then the host is left.
func Compile(s *specs.Spec, x Setup) (*launch.Program, error) {
	w := &writer{p: launch.Program{Into: x.Into, PidNamespace: x.PidNS, Calls: make([]launch.Call, 0, 400)}} // most have 350
	namespaces := w.joinFirst(s)
	w.session(x)
	w.joinCgroups(x.Tasks)
	w.awaitIDs(s.Process, x.User)
	w.namespaces(namespaces, s.Linux.TimeOffsets)
	if !x.User.Is {
		w.sysctls(s.Linux.Sysctl)
	}
	w.oomScore(s.Process, x.User)
	if !x.Hooks && slices.ContainsFunc(s.Mounts, CopiesUp) {
		w.err = errors.New("the mount option tmpcopyup is for engines: leave it out")
	}
	var trees []launch.Arg
	if !x.User.Is {
		trees = w.takeMounts(s.Mounts, x)
	}
	nodes := w.hostNodes(s, x.User)
	root := w.takeRoot(x.Rootfs, s.Linux.RootfsPropagation, x.User)
	w.ownMounts()
	w.attach("put the root in its place", root, here, x.Rootfs)
	if x.User.Is { // from here on who makes files must be known to the namespace
		w.becomeRoot(x.User)
		w.sysctls(s.Linux.Sysctl) // they are its root's
		trees = w.takeMounts(s.Mounts, x)
	}
	for i, m := range s.Mounts {
		w.mount(root, m, trees[i], i < len(x.Files) && x.Files[i])
	}
	w.devices(root, s, nodes)
	w.names(s)
	w.loopback(s)
	if x.Hooks {
		w.meet("wait for hooks", x.Sync, SyncHooks)
	}
	w.changeRoot(root, x.NoPivot)
	if x.Terminal {
		w.terminal(x.Sync, s.Process)
		w.console()
	}
	w.readOnlyMounts(s.Mounts, trees)
	w.hide(s)
	w.finishRoot(s)
	w.process(s, x)
	return &w.p, w.err
}

// CompileExec writes the program of a further process in a container: it has the
// container's namespaces and cgroup, and a process of its own.
func CompileExec(s *specs.Spec, x Setup) (*launch.Program, error) {
	w := &writer{p: launch.Program{Into: x.Into, PidNamespace: x.Pidfd}}
	w.session(x)
	w.joinCgroups(x.Tasks)
	w.oomScore(s.Process, x.User)
	if x.User.Is {
		w.labels(s.Process)
	}
	w.joinNamespaces(x)
	w.becomeRoot(x.User)
	if x.Terminal {
		w.terminal(x.Sync, s.Process)
	}
	w.process(s, x)
	return &w.p, w.err
}

// CompileHook writes the program of a hook that runs in a container: it is found
// there, and keeps the privileges of who runs the container.
func CompileHook(h specs.Hook, x Setup) (*launch.Program, error) {
	w := &writer{p: launch.Program{Into: x.Into, PidNamespace: x.Pidfd}}
	x.NoKeyring = true
	w.session(x)
	w.joinCgroups(x.Tasks)
	w.joinNamespaces(x)
	w.becomeRoot(x.User)
	w.streams(x)
	w.closeAll(x)
	args := h.Args
	if len(args) == 0 {
		args = []string{h.Path}
	}
	w.call(executing+h.Path, unix.SYS_EXECVE, h.Path, args, h.Env)
	return &w.p, w.err
}

// session: from here on no signal of the shim's terminal or group reaches it, and
// nobody without privileges can look into it while it still is the shim's copy
// (CVE-2019-5736 began with /proc/PID/exe). One that waits to be started must not
// outlive who makes it, until it is made. Its keys are its own (keyrings(7)).
func (w *writer) session(x Setup) {
	if x.Wait >= 0 {
		w.call("die with one's maker", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL))
	}
	w.call("be undumpable", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0)
	w.call("start a session", unix.SYS_SETSID)
	if !x.NoKeyring {
		w.call("start a keyring", unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0).Ok = []unix.Errno{unix.ENOSYS}
	}
	w.call("clear the umask", unix.SYS_UMASK, 0)
}

// joinCgroups: before a new cgroup namespace, which takes its root from where it
// is made (cgroup_namespaces(7)). Writing 0 moves the writer itself, see package
// cgroups.
func (w *writer) joinCgroups(tasks []int) {
	for _, file := range tasks {
		w.call("join a cgroup", unix.SYS_WRITE, launch.File(file), []byte("0"), 1)
	}
}

// nsFlags are clone(2)'s for the configuration's names.
var nsFlags = map[specs.LinuxNamespaceType]uint64{
	specs.MountNamespace: unix.CLONE_NEWNS, specs.UTSNamespace: unix.CLONE_NEWUTS, specs.IPCNamespace: unix.CLONE_NEWIPC,
	specs.PIDNamespace: unix.CLONE_NEWPID, specs.NetworkNamespace: unix.CLONE_NEWNET, specs.CgroupNamespace: unix.CLONE_NEWCGROUP,
	specs.TimeNamespace: unix.CLONE_NEWTIME, specs.UserNamespace: unix.CLONE_NEWUSER,
}

// Namespaces are those that a container can have, sorted.
func Namespaces() []specs.LinuxNamespaceType { return slices.Sorted(maps.Keys(nsFlags)) }

// namespaces: new ones are made by the clone itself, but for the cgroup's and a
// time namespace that is set; others are joined, the mounts' late: the others' paths
// are this one's; and the user's last, which takes the privileges for all others.
func (w *writer) namespaces(list []specs.LinuxNamespace, offsets map[string]specs.LinuxTimeOffset) {
	var joins, late, last []func()
	for _, ns := range list {
		flag, ok := nsFlags[ns.Type]
		switch {
		case !ok:
			w.err = fmt.Errorf("a %s namespace is not supported yet", ns.Type)
		case ns.Path == "" && ns.Type == specs.CgroupNamespace:
			w.call("make a cgroup namespace", unix.SYS_UNSHARE, flag)
		case ns.Path == "" && ns.Type == specs.TimeNamespace && len(offsets) > 0:
			w.clocks(offsets)
		case ns.Path == "":
			w.p.Flags |= flag
		case ns.Type == specs.PIDNamespace: // Setup.PidNS
			if w.p.PidNamespace < 0 {
				w.err = errors.New("a PID namespace is joined through its process")
			}
		default:
			fd := w.result("open "+ns.Path, unix.SYS_OPENAT, here, ns.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			join := func() {
				w.call("join "+ns.Path, unix.SYS_SETNS, fd, flag)
				w.close("join "+ns.Path, fd)
			}
			switch ns.Type {
			case specs.UserNamespace:
				last = append(last, join)
			case specs.MountNamespace:
				late = append(late, join)
			default:
				joins = append(joins, join)
			}
		}
	}
	for _, join := range slices.Concat(joins, late, last) {
		join()
	}
}

// clocks makes a time namespace: its clocks can be set until the first process is
// in it (time_namespaces(7)).
func (w *writer) clocks(offsets map[string]specs.LinuxTimeOffset) {
	w.call("make a time namespace", unix.SYS_UNSHARE, unix.CLONE_NEWTIME)
	for _, clock := range slices.Sorted(maps.Keys(offsets)) {
		o := offsets[clock]
		w.writeFile("set the clock "+clock, "/proc/self/timens_offsets", fmt.Sprintf("%s %d %d\n", clock, o.Secs, o.Nanosecs))
	}
	fd := w.result("open the time namespace", unix.SYS_OPENAT, here, "/proc/self/ns/time_for_children", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	w.call("join the time namespace", unix.SYS_SETNS, fd, unix.CLONE_NEWTIME)
	w.close("join the time namespace", fd)
}

// joinNamespaces: all but the PID's, in which it was born.
func (w *writer) joinNamespaces(x Setup) {
	kinds := x.User.flag() | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP
	w.call("join the container's namespaces", unix.SYS_SETNS, launch.File(x.Pidfd), kinds)
}

// ownMounts: what is mounted from now on is not seen on the host, and what the
// host unmounts doesn't stay mounted here (mount_namespaces(7)).
func (w *writer) ownMounts() {
	w.call("make all mounts private", unix.SYS_MOUNT, 0, "/", 0, unix.MS_REC|unix.MS_PRIVATE, 0)
}

// changeRoot: pivot_root and not chroot: after it the host's root is not only out
// of sight but gone from this namespace. Both arguments can be one directory: the
// old root then lies on top of the new one, and goes (pivot_root(2)).
func (w *writer) changeRoot(root launch.Arg, noPivot bool) {
	w.call("go to the new root", unix.SYS_FCHDIR, root)
	if noPivot { // the host's root stays below
		w.call("move the root", unix.SYS_MOUNT, ".", "/", 0, unix.MS_MOVE, 0)
		w.call("chroot", unix.SYS_CHROOT, ".")
	} else {
		w.call("pivot_root", unix.SYS_PIVOT_ROOT, ".", ".")
		w.call("unmount the old root", unix.SYS_UMOUNT2, ".", unix.MNT_DETACH)
	}
	w.call("go to the new root", unix.SYS_CHDIR, "/")
	w.close("go to the new root", root)
}

func (w *writer) names(s *specs.Spec) {
	if s.Hostname != "" {
		w.call("set the hostname", unix.SYS_SETHOSTNAME, s.Hostname, len(s.Hostname))
	}
	if s.Domainname != "" {
		w.call("set the domain name", unix.SYS_SETDOMAINNAME, s.Domainname, len(s.Domainname))
	}
}

// sysctls: those of our own namespaces, while the host's /proc is there: it shows
// whoever looks his own.
func (w *writer) sysctls(values map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		w.writeFile("set "+key, "/proc/sys/"+strings.ReplaceAll(key, ".", "/"), values[key])
	}
}

func (w *writer) writeFile(name, file, value string) {
	fd := w.result(name, unix.SYS_OPENAT, here, file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	w.call(name, unix.SYS_WRITE, fd, []byte(value), len(value))
	w.close(name, fd)
}

// loopback: a new network namespace has nothing else, and it is down.
func (w *writer) loopback(s *specs.Spec) {
	if !slices.ContainsFunc(s.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.NetworkNamespace && ns.Path == "" }) {
		return
	}
	ifreq := make([]byte, 40) // struct ifreq: name[16], flags (netdevice(7))
	copy(ifreq, "lo")
	binary.NativeEndian.PutUint16(ifreq[16:], unix.IFF_UP|unix.IFF_RUNNING)
	fd := w.result("open a socket", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	w.call("bring loopback up", unix.SYS_IOCTL, fd, unix.SIOCSIFFLAGS, ifreq)
	w.close("close the socket", fd)
}

// hide covers what must not be read, and makes read-only what must not be
// written, of what the kernel shows of itself.
func (w *writer) hide(s *specs.Spec) {
	absent := []unix.Errno{unix.ENOENT, unix.ENOTDIR}
	for _, p := range s.Linux.ReadonlyPaths {
		name := "make read-only " + p
		w.optional(absent, func() {
			tree := w.result(name, unix.SYS_OPEN_TREE, here, p, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
			w.setAttributes(name, tree, attributes{set: unix.MOUNT_ATTR_RDONLY}, true)
			w.attach(name, tree, here, p)
			w.close(name, tree)
		})
	}
	// A directory is covered with an empty one, a file with /dev/null.
	for _, p := range s.Linux.MaskedPaths {
		name := "mask " + p
		w.optional(absent, func() {
			w.call(name, unix.SYS_FACCESSAT, here, p, 0, 0)
			w.either(func() {
				dir := w.result(name, unix.SYS_OPENAT, here, p, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
				w.call(name, unix.SYS_MOUNT, "tmpfs", p, "tmpfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=0k")
				w.close(name, dir)
			}, unix.ENOTDIR, func() {
				null := w.result(name, unix.SYS_OPEN_TREE, here, "/dev/null", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
				w.attach(name, null, here, p)
				w.close(name, null)
			})
		})
	}
}

// finishRoot gives the root the attributes that would have been in the way.
func (w *writer) finishRoot(s *specs.Spec) {
	switch p := strings.TrimPrefix(s.Linux.RootfsPropagation, "r"); p {
	case "shared", "unbindable":
		flags := map[string]int{"shared": unix.MS_SHARED, "unbindable": unix.MS_UNBINDABLE}[p]
		w.call("make the root "+p, unix.SYS_MOUNT, 0, "/", 0, flags, 0)
	}
	if s.Root == nil || !s.Root.Readonly {
		return
	}
	b := make([]byte, 32)
	binary.NativeEndian.PutUint64(b, unix.MOUNT_ATTR_RDONLY)
	w.call("make the root read-only", unix.SYS_MOUNT_SETATTR, here, "/", 0, b, len(b))
}

// Where the child says that it is, on Setup.Sync, in this order; it goes on when a
// byte comes back.
//
//	child                     parent
//	  ── SyncHooks ────────────▶   runs the hooks
//	  ◀─────────────── a byte ──
//	  ── SyncTerminal ─────────▶   pidfd_getfd(child, launch.MasterFD)
//	  ◀─────────────── a byte ──
const (
	SyncHooks    = 'h' // the environment is there, the host's root still is too
	SyncTerminal = 't' // the terminal's master side is on launch.MasterFD
)

func (w *writer) meet(name string, sync [2]int, where byte) {
	w.call(name, unix.SYS_WRITE, launch.File(sync[0]), []byte{where}, 1)
	w.call(name, unix.SYS_READ, launch.File(sync[1]), make([]byte, 1), 1)
}

// terminal opens one in the container's own devpts, hands its master side to the
// parent, and makes the other side the standard streams and the controlling terminal.
func (w *writer) terminal(sync [2]int, p *specs.Process) {
	master := w.result("open a terminal", unix.SYS_OPENAT, here, "/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	w.call("unlock the terminal", unix.SYS_IOCTL, master, unix.TIOCSPTLCK, make([]byte, 4))
	slave := w.result("open the terminal's other side", unix.SYS_IOCTL, master, unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if p.User.UID != 0 {
		w.call("give the terminal to the user", unix.SYS_FCHOWN, slave, p.User.UID, ^uint32(0))
	}
	w.call("offer the terminal", unix.SYS_DUP3, master, launch.MasterFD, unix.O_CLOEXEC)
	w.meet("offer the terminal", sync, SyncTerminal)
	w.call("take the terminal as one's own", unix.SYS_IOCTL, slave, unix.TIOCSCTTY, 0)
	for fd := range 3 {
		w.call("take the terminal", unix.SYS_DUP3, slave, fd, 0).Ok = []unix.Errno{unix.EINVAL}
	}
}

// console: the terminal by its second name.
func (w *writer) console() {
	const name = "mount the terminal on /dev/console"
	target := w.target(here, "/dev/console", true, true)
	tree := w.result(name, unix.SYS_OPEN_TREE, 0, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	w.attach(name, tree, target, "")
}

// rootPropagation is the mount's that a root begins with: pivot_root takes no
// shared one, so that comes last.
func rootPropagation(option string) (propagation uint64, recursive bool) {
	kind, recursive := strings.CutPrefix(cmp.Or(option, "rprivate"), "r")
	if kind == "slave" || kind == "shared" {
		return unix.MS_SLAVE, recursive
	}
	return unix.MS_PRIVATE, recursive
}

// takeRoot takes hold of the root file system: a directory, or a mount with all
// that is mounted in it.
func (w *writer) takeRoot(rootfs, propagation string, u UserNamespace) launch.Arg {
	rootfs = path.Clean(rootfs)
	flags := unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE
	if u.Is { // what is mounted below is locked, and stays behind
		flags &^= unix.AT_RECURSIVE
	}
	root := w.result("take "+rootfs, unix.SYS_OPEN_TREE, here, rootfs, flags)
	kind, recursive := rootPropagation(propagation)
	w.setAttributes("take "+rootfs, root, attributes{propagation: kind}, recursive)
	return root
}
