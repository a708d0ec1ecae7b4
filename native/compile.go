package native

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"docker2013/native/launch"
)

// setup is what a program needs beside the configuration. The numbers are indexes
// of the descriptors that go with it, -1: none.
type setup struct {
	rootfs      string // on the host, mounted
	tasks       []int  // v1's cgroups
	into        int    // v2's
	stdio       [3]int // not with a terminal
	terminal    bool
	controlling bool   // stdio is a terminal of the daemon's: for exec
	sync        [2]int // with a terminal: written to, read from, see terminalCalls
	user        userNamespace
	filter      []byte // seccomp's program, nil: none
	pidfd       int    // exec: of the container's first process
	lastCap     int    // the highest capability of this kernel
}

// writer writes a program, call by call.
type writer struct {
	p     launch.Program
	slots int
	err   error
}

func (w *writer) call(name string, number uintptr, args ...launch.Arg) *launch.Call {
	w.p.Calls = append(w.p.Calls, launch.Call{Name: name, Number: number, Args: args})
	return &w.p.Calls[len(w.p.Calls)-1]
}

// result is a call whose result later ones use.
func (w *writer) result(name string, number uintptr, args ...launch.Arg) launch.Arg {
	w.slots++
	if w.slots > launch.MaxSlots {
		w.err = errors.New("too many mounts for one container")
		return launch.Number(0)
	}
	w.call(name, number, args...).Keep = w.slots
	return launch.Slot(w.slots)
}

// optional makes the calls that f writes depend on the first of them: if that
// fails with one of errnos, the others are left out.
func (w *writer) optional(errnos []unix.Errno, f func()) {
	at := len(w.p.Calls)
	f()
	w.p.Calls[at].Ok = errnos
	w.p.Calls[at].Skip = len(w.p.Calls) - at - 1
}

var here = launch.Number(unix.AT_FDCWD)

// compile writes the program that makes a new process the container's first: it
// reads in the order in which the kernel needs it.
func compile(s *specs.Spec, x setup) (*launch.Program, error) {
	w := &writer{p: launch.Program{Into: x.into, PidNamespace: -1}}
	namespaces := w.joinUserNamespace(s)
	w.session()
	w.joinCgroups(x.tasks)
	w.awaitIDs(s.Process, x.user)
	w.namespaces(namespaces)
	w.ownMounts()
	sources := w.bindSources(s.Mounts, x.user)
	nodes := w.hostNodes(s, x.user)
	w.ownKernelMounts(s, x.user, sources)
	w.unlockRoot(x.rootfs, x.user)
	w.changeRoot(x.rootfs)
	w.becomeRoot(x.user)
	for i, m := range s.Mounts {
		w.mount(m, sources[i])
		if m.Destination == "/dev" {
			w.devices(s, nodes)
		}
	}
	w.names(s)
	w.sysctls(s.Linux.Sysctl)
	w.loopback(s)
	w.hide(s)
	w.readOnlyRoot(s)
	if x.terminal {
		w.terminal(x.sync)
	}
	w.process(s, x)
	return &w.p, w.err
}

// compileExec writes the program of a further process in a container: it has the
// container's namespaces and cgroup, and a process of its own.
func compileExec(s *specs.Spec, x setup) (*launch.Program, error) {
	w := &writer{p: launch.Program{Into: x.into, PidNamespace: x.pidfd}}
	w.session()
	w.joinCgroups(x.tasks)
	if x.user.is {
		w.labels(s.Process)
	}
	kinds := x.user.flag() | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP
	w.call("join the container's namespaces", unix.SYS_SETNS, launch.File(x.pidfd), launch.Number(kinds))
	w.becomeRoot(x.user)
	w.process(s, x)
	return &w.p, w.err
}

// session: from here on no signal of the shim's terminal or group reaches it, and
// nobody without privileges can look into it while it still is the shim's copy
// (CVE-2019-5736 began with /proc/PID/exe).
func (w *writer) session() {
	w.call("be undumpable", unix.SYS_PRCTL, launch.Number(unix.PR_SET_DUMPABLE), launch.Number(0))
	w.call("start a session", unix.SYS_SETSID)
	w.call("clear the umask", unix.SYS_UMASK, launch.Number(0))
	// Keyrings are in no namespace: without one of its own it had the daemon's
	// (session-keyring(7)).
	w.call("start a keyring", unix.SYS_KEYCTL, launch.Number(unix.KEYCTL_JOIN_SESSION_KEYRING), launch.Number(0)).Ok = []unix.Errno{unix.ENOSYS}
}

// joinCgroups: before a new cgroup namespace, which takes its root from where it
// is made (cgroup_namespaces(7)). Writing 0 moves the writer itself, see package
// cgroups.
func (w *writer) joinCgroups(tasks []int) {
	for _, file := range tasks {
		w.call("join a cgroup", unix.SYS_WRITE, launch.File(file), launch.Bytes([]byte("0")), launch.Number(1))
	}
}

// nsFlags are clone(2)'s for the configuration's names.
var nsFlags = map[specs.LinuxNamespaceType]uint64{
	specs.MountNamespace: unix.CLONE_NEWNS, specs.UTSNamespace: unix.CLONE_NEWUTS, specs.IPCNamespace: unix.CLONE_NEWIPC,
	specs.PIDNamespace: unix.CLONE_NEWPID, specs.NetworkNamespace: unix.CLONE_NEWNET, specs.CgroupNamespace: unix.CLONE_NEWCGROUP,
	specs.TimeNamespace: unix.CLONE_NEWTIME, specs.UserNamespace: unix.CLONE_NEWUSER,
}

// namespaces: new ones are made by the clone itself, but for the cgroup's;
// others are joined.
func (w *writer) namespaces(list []specs.LinuxNamespace) {
	for _, ns := range list {
		flag, ok := nsFlags[ns.Type]
		switch {
		case !ok:
			w.err = fmt.Errorf("a %s namespace is not supported yet", ns.Type)
		case ns.Path == "" && ns.Type == specs.CgroupNamespace:
			w.call("make a cgroup namespace", unix.SYS_UNSHARE, launch.Number(flag))
		case ns.Path == "":
			w.p.Flags |= flag
		case ns.Type == specs.PIDNamespace:
			w.err = errors.New("a PID namespace is joined through its process")
		default:
			fd := w.result("open "+ns.Path, unix.SYS_OPENAT, here, launch.String(ns.Path), launch.Number(unix.O_RDONLY|unix.O_CLOEXEC), launch.Number(0))
			w.call("join "+ns.Path, unix.SYS_SETNS, fd, launch.Number(flag))
		}
	}
}

// ownMounts: what is mounted from now on is not seen on the host, and what the
// host unmounts doesn't stay mounted here (mount_namespaces(7)).
func (w *writer) ownMounts() {
	w.call("make all mounts private", unix.SYS_MOUNT, launch.Number(0), launch.String("/"), launch.Number(0),
		launch.Number(unix.MS_REC|unix.MS_PRIVATE), launch.Number(0))
}

// bindSources takes hold of the host's files while they can still be named. The
// clones are attached to nothing yet (open_tree(2)).
func (w *writer) bindSources(mounts []specs.Mount, u userNamespace) []launch.Arg {
	sources := make([]launch.Arg, len(mounts))
	for i, m := range mounts {
		if m.Type != "bind" {
			continue
		}
		if u.is { // taken already, see hostTrees
			sources[i] = launch.File(u.trees)
			u.trees++
			continue
		}
		flags := unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC
		if slices.Contains(m.Options, "rbind") {
			flags |= unix.AT_RECURSIVE
		}
		sources[i] = w.result("take "+m.Source, unix.SYS_OPEN_TREE, here, launch.String(m.Source), launch.Number(flags))
	}
	return sources
}

// changeRoot: pivot_root and not chroot: after it the host's root is not only out
// of sight but gone from this namespace. Both arguments can be one directory: the
// old root then lies on top of the new one, and goes (pivot_root(2)).
func (w *writer) changeRoot(rootfs string) {
	w.call("go to "+rootfs, unix.SYS_CHDIR, launch.String(rootfs))
	w.call("pivot_root", unix.SYS_PIVOT_ROOT, launch.String("."), launch.String("."))
	w.call("unmount the old root", unix.SYS_UMOUNT2, launch.String("."), launch.Number(unix.MNT_DETACH))
	w.call("go to the new root", unix.SYS_CHDIR, launch.String("/"))
}

// target makes sure that there is something to mount on, and opens it. All names
// are looked up inside the new root: a link of the image leads nowhere else.
// What the kernel gives is mounted on no link at all.
func (w *writer) target(dest string, file, noLinks bool) launch.Arg {
	dest = path.Clean("/" + dest)
	for i, c := range dest[1:] {
		if c == '/' {
			w.mkdir(dest[:i+1])
		}
	}
	if file {
		w.call("make "+dest, unix.SYS_MKNODAT, here, launch.String(dest), launch.Number(unix.S_IFREG|0o644), launch.Number(0)).Ok = madeAlready
	} else {
		w.mkdir(dest)
	}
	resolve := uint64(unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_IN_ROOT)
	if noLinks {
		resolve |= unix.RESOLVE_NO_SYMLINKS
	}
	how := make([]byte, 24) // struct open_how
	binary.NativeEndian.PutUint64(how, unix.O_PATH|unix.O_CLOEXEC)
	binary.NativeEndian.PutUint64(how[16:], resolve)
	return w.result("open "+dest, unix.SYS_OPENAT2, here, launch.String(dest), launch.Bytes(how), launch.Number(len(how)))
}

var madeAlready = []unix.Errno{unix.EEXIST, unix.EROFS, unix.EACCES}

func (w *writer) mkdir(dir string) {
	w.call("make "+dir, unix.SYS_MKDIRAT, here, launch.String(dir), launch.Number(0o755)).Ok = madeAlready
}

// mount mounts one entry of the configuration.
func (w *writer) mount(m specs.Mount, source launch.Arg) {
	attrs, clear, rest := attributes(m.Options)
	name := fmt.Sprintf("mount %s on %s", m.Type, m.Destination)
	if m.Type == "bind" {
		tree := source
		isFile := slices.Contains(m.Options, fileOption)
		target := w.target(m.Destination, isFile, false)
		if attrs|clear != 0 {
			w.setAttributes(name, tree, attrs, clear, slices.Contains(m.Options, "rbind"))
		}
		w.attach(name, tree, target)
		return
	}
	kernels := m.Type != "tmpfs" || slices.Contains([]string{"/dev", "/dev/shm"}, m.Destination)
	target := w.target(m.Destination, false, kernels)
	if source.IsSlot() { // made already, see ownKernelMounts
		w.attach(name, source, target)
		return
	}
	w.attach(name, w.newMount(name, m.Type, attrs, rest), target)
}

// newMount mounts a file system of the kernel's, on nothing yet.
func (w *writer) newMount(name, fstype string, attrs uint64, rest []string) launch.Arg {
	fs := w.result(name, unix.SYS_FSOPEN, launch.String(fstype), launch.Number(unix.FSOPEN_CLOEXEC))
	for _, option := range rest {
		key, value, has := strings.Cut(option, "=")
		if has {
			w.call(name+" with "+option, unix.SYS_FSCONFIG, fs, launch.Number(unix.FSCONFIG_SET_STRING), launch.String(key), launch.String(value), launch.Number(0))
		} else {
			w.call(name+" with "+option, unix.SYS_FSCONFIG, fs, launch.Number(unix.FSCONFIG_SET_FLAG), launch.String(key), launch.Number(0), launch.Number(0))
		}
	}
	w.call(name, unix.SYS_FSCONFIG, fs, launch.Number(unix.FSCONFIG_CMD_CREATE), launch.Number(0), launch.Number(0), launch.Number(0))
	// /dev is filled before it becomes read-only, if it does.
	return w.result(name, unix.SYS_FSMOUNT, fs, launch.Number(unix.FSMOUNT_CLOEXEC), launch.Number(attrs))
}

func (w *writer) attach(name string, tree, target launch.Arg) {
	w.call(name, unix.SYS_MOVE_MOUNT, tree, launch.String(""), target, launch.String(""),
		launch.Number(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
}

// setAttributes changes a mount's, struct mount_attr (mount_setattr(2)).
func (w *writer) setAttributes(name string, tree launch.Arg, set, clear uint64, recursive bool) {
	b := make([]byte, 32)
	binary.NativeEndian.PutUint64(b, set)
	binary.NativeEndian.PutUint64(b[8:], clear)
	flags := unix.AT_EMPTY_PATH
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	w.call(name, unix.SYS_MOUNT_SETATTR, tree, launch.String(""), launch.Number(flags), launch.Bytes(b), launch.Number(len(b)))
}

// fileOption marks a bind mount of something that is not a directory.
const fileOption = "x-file"

// attributes splits mount options into the mount's own and the file system's.
func attributes(options []string) (set, clear uint64, rest []string) {
	for _, o := range options {
		switch o {
		case "ro":
			set |= unix.MOUNT_ATTR_RDONLY
		case "nosuid":
			set |= unix.MOUNT_ATTR_NOSUID
		case "nodev":
			set |= unix.MOUNT_ATTR_NODEV
		case "noexec":
			set |= unix.MOUNT_ATTR_NOEXEC
		case "noatime":
			set, clear = set|unix.MOUNT_ATTR_NOATIME, clear|unix.MOUNT_ATTR__ATIME
		case "strictatime":
			set, clear = set|unix.MOUNT_ATTR_STRICTATIME, clear|unix.MOUNT_ATTR__ATIME
		case "rw", "suid", "dev", "exec", "relatime", "bind", "rbind", "private", "rprivate", fileOption:
		default:
			rest = append(rest, o)
		}
	}
	return set, clear, rest
}

// devices fills /dev: nodes, the links that programs expect, and the terminal
// multiplexer of our own devpts.
func (w *writer) devices(s *specs.Spec, nodes []launch.Arg) {
	for i, d := range s.Linux.Devices {
		mode := uint32(0o666)
		if d.FileMode != nil {
			mode = uint32(d.FileMode.Perm())
		}
		kind := map[string]uint32{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}[d.Type]
		for i, c := range d.Path[1:] {
			if c == '/' && i > 0 {
				w.mkdir(d.Path[:i+1])
			}
		}
		if nodes != nil {
			w.attach("take "+d.Path, nodes[i], w.target(d.Path, true, true))
			continue
		}
		w.call("make "+d.Path, unix.SYS_MKNODAT, here, launch.String(d.Path), launch.Number(kind|mode),
			launch.Number(unix.Mkdev(uint32(d.Major), uint32(d.Minor))))
	}
	for _, l := range [][2]string{
		{"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"}, {"/proc/self/fd/1", "/dev/stdout"},
		{"/proc/self/fd/2", "/dev/stderr"}, {"pts/ptmx", "/dev/ptmx"},
	} {
		w.call("link "+l[1], unix.SYS_SYMLINKAT, launch.String(l[0]), here, launch.String(l[1]))
	}
}

func (w *writer) names(s *specs.Spec) {
	if s.Hostname != "" {
		w.call("set the hostname", unix.SYS_SETHOSTNAME, launch.String(s.Hostname), launch.Number(len(s.Hostname)))
	}
}

// sysctls: those of our own namespaces, while /proc/sys can still be written.
func (w *writer) sysctls(values map[string]string) {
	keys := make([]string, 0, len(values))
	for key := range values {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		w.writeFile("set "+key, "/proc/sys/"+strings.ReplaceAll(key, ".", "/"), values[key])
	}
}

func (w *writer) writeFile(name, file, value string) {
	fd := w.result(name, unix.SYS_OPENAT, here, launch.String(file), launch.Number(unix.O_WRONLY|unix.O_CLOEXEC), launch.Number(0))
	w.call(name, unix.SYS_WRITE, fd, launch.Bytes([]byte(value)), launch.Number(len(value)))
	w.call(name, unix.SYS_CLOSE, fd)
}

// loopback: a new network namespace has nothing else, and it is down.
func (w *writer) loopback(s *specs.Spec) {
	if !slices.ContainsFunc(s.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.NetworkNamespace && ns.Path == "" }) {
		return
	}
	ifreq := make([]byte, 40) // struct ifreq: name[16], flags (netdevice(7))
	copy(ifreq, "lo")
	binary.NativeEndian.PutUint16(ifreq[16:], unix.IFF_UP|unix.IFF_RUNNING)
	fd := w.result("open a socket", unix.SYS_SOCKET, launch.Number(unix.AF_INET), launch.Number(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC), launch.Number(0))
	w.call("bring loopback up", unix.SYS_IOCTL, fd, launch.Number(unix.SIOCSIFFLAGS), launch.Bytes(ifreq))
	w.call("close the socket", unix.SYS_CLOSE, fd)
}

// hide covers what must not be read, and makes read-only what must not be
// written, of what the kernel shows of itself.
func (w *writer) hide(s *specs.Spec) {
	absent := []unix.Errno{unix.ENOENT, unix.ENOTDIR}
	for _, p := range s.Linux.ReadonlyPaths {
		w.optional(absent, func() {
			tree := w.result("make read-only "+p, unix.SYS_OPEN_TREE, here, launch.String(p), launch.Number(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE))
			w.setAttributes("make read-only "+p, tree, unix.MOUNT_ATTR_RDONLY, 0, true)
			w.call("make read-only "+p, unix.SYS_MOVE_MOUNT, tree, launch.String(""), here, launch.String(p), launch.Number(unix.MOVE_MOUNT_F_EMPTY_PATH))
		})
	}
	// A directory is covered with an empty one, a file with /dev/null.
	for _, p := range s.Linux.MaskedPaths {
		name := "mask " + p
		w.optional([]unix.Errno{unix.ENOENT}, func() {
			w.call(name, unix.SYS_FACCESSAT, here, launch.String(p), launch.Number(0), launch.Number(0))
			isDir := w.call(name, unix.SYS_OPENAT, here, launch.String(p), launch.Number(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC), launch.Number(0))
			isDir.Ok, isDir.Skip = []unix.Errno{unix.ENOTDIR}, 1
			w.call(name, unix.SYS_MOUNT, launch.String("tmpfs"), launch.String(p), launch.String("tmpfs"),
				launch.Number(unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC), launch.String("size=0k")).Jump = 2
			null := w.result(name, unix.SYS_OPEN_TREE, here, launch.String("/dev/null"), launch.Number(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC))
			w.call(name, unix.SYS_MOVE_MOUNT, null, launch.String(""), here, launch.String(p), launch.Number(unix.MOVE_MOUNT_F_EMPTY_PATH))
		})
	}
}

func (w *writer) readOnlyRoot(s *specs.Spec) {
	if s.Root == nil || !s.Root.Readonly {
		return
	}
	b := make([]byte, 32)
	binary.NativeEndian.PutUint64(b, unix.MOUNT_ATTR_RDONLY)
	w.call("make the root read-only", unix.SYS_MOUNT_SETATTR, here, launch.String("/"), launch.Number(0), launch.Bytes(b), launch.Number(len(b)))
}

// The descriptors of a terminal in the new process: the shim takes the master
// from there (pidfd_getfd(2)).
const masterFD = 250

// terminal opens one in the container's own devpts, hands its master side to the
// shim, and makes the other side the standard streams and the controlling terminal.
//
//	child                     shim
//	  ── a byte ───────────────▶   pidfd_getfd(child, masterFD)
//	  ◀─────────────── a byte ──
func (w *writer) terminal(sync [2]int) {
	master := w.result("open a terminal", unix.SYS_OPENAT, here, launch.String("/dev/pts/ptmx"), launch.Number(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC), launch.Number(0))
	w.call("unlock the terminal", unix.SYS_IOCTL, master, launch.Number(unix.TIOCSPTLCK), launch.Bytes(make([]byte, 4)))
	slave := w.result("open the terminal's other side", unix.SYS_IOCTL, master, launch.Number(unix.TIOCGPTPEER), launch.Number(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC))
	w.call("offer the terminal", unix.SYS_DUP3, master, launch.Number(masterFD), launch.Number(unix.O_CLOEXEC))
	w.call("offer the terminal", unix.SYS_WRITE, launch.File(sync[0]), launch.Bytes([]byte{1}), launch.Number(1))
	w.call("wait until it is taken", unix.SYS_READ, launch.File(sync[1]), launch.Bytes(make([]byte, 1)), launch.Number(1))
	w.call("take the terminal as one's own", unix.SYS_IOCTL, slave, launch.Number(unix.TIOCSCTTY), launch.Number(0))
	for fd := range 3 {
		w.call("take the terminal", unix.SYS_DUP3, slave, launch.Number(fd), launch.Number(0)).Ok = []unix.Errno{unix.EINVAL}
	}
}
