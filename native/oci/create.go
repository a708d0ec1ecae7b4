package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"docker2013/cgroups"
	"docker2013/native"
	"docker2013/native/launch"
	"docker2013/native/shim"
	"docker2013/ociconfig"
)

// startSocket is the socket on which a created container's process waits.
const startSocket = "start.sock"

// Starting is how a process gets what isn't in its configuration; for the first one
// and for those of exec.
type Starting struct {
	PidFile       string
	ConsoleSocket string           // with a terminal: who takes its master side
	Console       func(f *os.File) // or this; one of both
	Preserve      int              // descriptors from 3 on that stay open
	NoPivot       bool
	NoKeyring     bool
}

func (o *Starting) check(terminal bool) error {
	switch {
	case terminal && o.ConsoleSocket == "" && o.Console == nil:
		return errors.New("process.terminal: say --console-socket, the terminal must go somewhere")
	case !terminal && o.ConsoleSocket != "":
		return errors.New("--console-socket is for a process with a terminal")
	}
	return nil
}

// Create makes a container of a bundle; it waits to be started. After an error
// nothing of it is left. ErrExists: there is one of this id.
func (rt *Runtime) Create(id, bundle string, o Starting) (_ *Container, err error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	if bundle, err = filepath.Abs(bundle); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(rt.Root, id)); err == nil {
		return nil, ErrExists
	}
	s, err := ociconfig.Load(bundle)
	if err != nil {
		return nil, err
	}
	if s.Process != nil {
		if err := o.check(s.Process.Terminal); err != nil {
			return nil, err
		}
		for _, name := range ociconfig.DropUnknown(s.Process.Capabilities) {
			rt.Warn("the capability %s is not to be had here: it is left out", name)
		}
	}
	c := &Container{rt: rt, spec: s, Record: Record{
		ID: id, Version: s.Version, Bundle: bundle, Rootfs: s.Root.Path, Created: time.Now().UTC(),
		Annotations: s.Annotations, Cgroup: cgroupPath(s.Linux.CgroupsPath, id), Creating: true,
	}}
	lock, err := c.claim()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := c.create(o); err != nil {
		return nil, errors.Join(err, c.destroy(c.made))
	}
	return c, nil
}

// cgroupPath is where the container's cgroup is, below every hierarchy's root.
func cgroupPath(said, id string) string {
	if said == "" {
		return "/docker2013-oci/" + id
	}
	return path.Clean("/" + said)
}

// claim makes the container's folder, and locks it.
func (c *Container) claim() (*os.File, error) {
	if err := os.MkdirAll(c.rt.Root, 0o711); err != nil {
		return nil, err
	}
	if err := os.Mkdir(c.dir(), 0o700); errors.Is(err, fs.ErrExist) {
		return nil, ErrExists
	} else if err != nil {
		return nil, err
	}
	return c.lock()
}

func (c *Container) create(o Starting) error {
	c.CgroupMade = c.rt.host.Missing(path.Dir(c.Cgroup)[1:])
	if err := c.save(); err != nil { // from here on, delete finds what there is
		return err
	}
	config, err := json.Marshal(c.spec)
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.file("config.json"), config, 0o600); err != nil {
		return err
	}
	group, err := c.makeGroup()
	if err != nil {
		return err
	}
	join, err := group.Join()
	if err != nil {
		return err
	}
	defer join.Close()
	socket, err := c.listen()
	if err != nil {
		return err
	}
	defer unix.Close(socket)

	s := *c.spec
	s.Mounts = cgroupMounts(&s, group, c.rt.host.Version)
	b, err := c.rt.newBirth(c, &s, join, o)
	if err != nil {
		return err
	}
	defer b.close()
	b.setup.Rootfs, b.setup.Files, b.setup.Wait = s.Root.Path, native.Files(s.Mounts), b.setup.Add(socket)
	b.setup.Hooks = hasHooks(s.Hooks) || slices.ContainsFunc(s.Mounts, native.CopiesUp)
	for _, ns := range s.Linux.Namespaces {
		if ns.Type == specs.PIDNamespace && ns.Path != "" {
			f, err := os.Open(ns.Path)
			if err != nil {
				return fmt.Errorf("join the PID namespace: %w", err)
			}
			defer f.Close()
			b.setup.PidNS = b.setup.Add(int(f.Fd()))
		}
	}
	held, err := b.mapIDs(&s)
	defer shim.CloseAll(held)
	if err != nil {
		return err
	}
	program, err := native.Compile(&s, b.setup)
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.file("program"), program.Encode(), 0o600); err != nil {
		return err
	}
	b.hooks = func(pid, pidfd int) error {
		c.note(pid)
		c.made = true
		if err := errors.Join(c.save(), c.copyUp(pid)); err != nil {
			return err
		}
		return c.createHooks(pid, pidfd, join)
	}
	pid, pidfd, err := b.run(program)
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	c.note(pid)
	c.Creating = false
	if err := c.save(); err != nil {
		return err
	}
	return writePidFile(o.PidFile, pid)
}

func (c *Container) note(pid int) { c.Pid = pid; c.Born, _ = born(pid) }

// makeGroup makes the cgroup. One that has processes is somebody else's.
func (c *Container) makeGroup() (*cgroups.Group, error) {
	dir, name := filepath.Split(c.Cgroup)
	parent, err := c.rt.host.Parent(filepath.Clean("/" + dir)[1:])
	if err != nil {
		return nil, err
	}
	plan, err := c.rt.host.Plan(c.spec.Linux.Resources)
	if err != nil {
		return nil, err
	}
	if pids, err := parent.Open(name).Pids(); err != nil || len(pids) > 0 {
		c.Cgroup = "" // not ours to remove
		return nil, errors.Join(fmt.Errorf("the cgroup of the container has %d processes already: say another cgroupsPath", len(pids)), err)
	}
	return parent.Create(name, plan)
}

// cgroupMounts makes of a mount of type cgroup what the host's version has: in v1
// a folder with a mount for every hierarchy, each with the container's own part. In
// v2 it is a file system; with a user namespace, but the host's cgroup namespace, it
// can't be mounted, and the host's is bound, as runc does.
func cgroupMounts(s *specs.Spec, group *cgroups.Group, version int) []specs.Mount {
	foreign := native.Joins(s).Is && !slices.ContainsFunc(s.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.CgroupNamespace })
	var list []specs.Mount
	for _, m := range s.Mounts {
		switch {
		case m.Type != "cgroup" && m.Type != "cgroup2":
			list = append(list, m)
			continue
		case version == 2 && foreign:
			list = append(list, specs.Mount{Destination: m.Destination, Type: "bind", Source: "/sys/fs/cgroup", Options: append([]string{"bind"}, m.Options...)})
			continue
		case version == 2:
			m.Type = "cgroup2"
			list = append(list, m)
			continue
		}
		list = append(list, specs.Mount{Destination: m.Destination, Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "noexec", "mode=755"}})
		for _, p := range group.Places() {
			names := []string{p.Hierarchy}
			if len(p.Controllers) > 1 {
				names = append(names, p.Controllers...)
			}
			for _, name := range names {
				list = append(list, specs.Mount{Destination: path.Join(m.Destination, name), Type: "bind", Source: p.Dir, Options: append([]string{"bind"}, m.Options...)})
			}
		}
		for _, o := range m.Options {
			if o == "ro" {
				list = append(list, specs.Mount{Destination: m.Destination, Type: "bind", Options: []string{"remount", "ro"}})
			}
		}
	}
	return list
}

// mapIDs is for a container with a user namespace. It returns what is to be closed.
func (b *birth) mapIDs(s *specs.Spec) (held []int, err error) {
	x := &b.setup
	if b.ids, err = shim.NewIDMapper(native.IDs(s)); err != nil || !x.User.Is {
		return nil, err
	}
	for _, fd := range b.ids.Files() {
		x.User.Ready = x.Add(fd)
	}
	if x.User.Nodes, err = hostNodes(s.Linux.Devices); err != nil {
		return nil, err
	}
	return x.TakeTrees(s)
}

// hostNodes finds devices in the host's /dev: nobody makes a node in a user namespace.
func hostNodes(devices []specs.LinuxDevice) (map[string]string, error) {
	nodes := map[string]string{}
	for _, d := range devices {
		is := func(file string) bool {
			var st unix.Stat_t
			return unix.Stat(file, &st) == nil && st.Mode&unix.S_IFMT == native.DeviceType(d) && (d.Type == "p" || st.Rdev == unix.Mkdev(uint32(d.Major), uint32(d.Minor)))
		}
		if is(d.Path) {
			continue
		}
		_ = filepath.WalkDir("/dev", func(file string, e fs.DirEntry, err error) error {
			if err == nil && d.Type != "p" && e.Type()&fs.ModeDevice != 0 && is(file) {
				nodes[d.Path] = file
				return fs.SkipAll
			}
			return nil // what can't be read has none
		})
		if nodes[d.Path] == "" {
			return nil, fmt.Errorf("linux.devices: %s, %s %d:%d, is not on this host, and no node can be made in a user namespace", d.Path, d.Type, d.Major, d.Minor)
		}
	}
	return nodes, nil
}

// copyUp fills each tmpfs that wants it with what it covers. The new process's
// mounts are seen through its root, which still is the host's.
func (c *Container) copyUp(pid int) error {
	for _, m := range c.spec.Mounts {
		if !native.CopiesUp(m) {
			continue
		}
		from, err := securejoin.SecureJoin(c.Rootfs, m.Destination)
		if err != nil {
			return err
		}
		if entries, err := os.ReadDir(from); err != nil || len(entries) == 0 {
			continue // made for the mount, or empty
		}
		to := filepath.Join(fmt.Sprintf("/proc/%d/root", pid), from)
		cmd := exec.Command("cp", "-a", from+"/.", to)
		if native.Joins(c.spec).Is {
			// Who makes files in its tmpfs must be known to it: its root is, with what
			// only the host's root may.
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Credential:  &syscall.Credential{Uid: native.HostID(c.spec.Linux.UIDMappings, 0), Gid: native.HostID(c.spec.Linux.GIDMappings, 0)},
				AmbientCaps: []uintptr{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_SYS_PTRACE},
			}
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("copy %s up: %w%s", m.Destination, err, said(out))
		}
	}
	return nil
}

// listen makes the socket by which the container is started. Its name is looked up
// through the folder's descriptor: a unix socket's path has 107 bytes.
func (c *Container) listen() (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = c.named(func(name string) error { return unix.Bind(fd, &unix.SockaddrUnix{Name: name}) })
	if err = errors.Join(err, unix.Listen(fd, 1)); err != nil {
		return -1, errors.Join(fmt.Errorf("make the start's socket: %w", err), unix.Close(fd))
	}
	return fd, nil
}

func (c *Container) named(f func(string) error) error {
	dir, err := os.Open(c.dir())
	if err != nil {
		return err
	}
	defer dir.Close()
	return f(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), startSocket))
}

func writePidFile(file string, pid int) error {
	if file == "" {
		return nil
	}
	// Who waits for it must not find it empty.
	temp := file + ".new"
	if err := os.WriteFile(temp, fmt.Append(nil, pid), 0o644); err != nil {
		return err
	}
	return os.Rename(temp, file)
}

// birth runs a program, and does its part where the new process waits for us.
type birth struct {
	setup   native.Setup
	sync    [2]int // ours: read from, written to
	childs  []int  // of it, the other ends
	options Starting
	size    *specs.Box
	hooks   func(pid, pidfd int) error
	ids     *shim.IDMapper // nil: its namespace has its ids
}

// newBirth collects what every process needs.
func (rt *Runtime) newBirth(c *Container, s *specs.Spec, join cgroups.Join, o Starting) (b *birth, err error) {
	b = &birth{setup: native.NewSetup(), options: o, sync: [2]int{-1, -1}}
	x := &b.setup
	x.Preserve, x.NoPivot, x.NoKeyring, x.User = o.Preserve, o.NoPivot, o.NoKeyring, native.Joins(s)
	if x.Filter, err = rt.filters.Compile(s.Linux.Seccomp); err != nil {
		return nil, err
	}
	if x.LastCap, err = capability.LastCap(); err != nil {
		return nil, err
	}
	x.Join(join)
	if s.Process != nil {
		x.Terminal, b.size = s.Process.Terminal, s.Process.ConsoleSize
		if !x.Terminal {
			ownStreams(s)
		}
	}
	if !x.Terminal {
		x.Stdio = [3]int{x.Add(0), x.Add(1), x.Add(2)}
	}
	var up, down [2]int
	if err := errors.Join(unix.Pipe2(up[:], unix.O_CLOEXEC), unix.Pipe2(down[:], unix.O_CLOEXEC)); err != nil {
		return nil, err
	}
	b.sync, b.childs = [2]int{up[0], down[1]}, []int{up[1], down[0]}
	x.Sync = [2]int{x.Add(up[1]), x.Add(down[0])}
	for i := range o.Preserve {
		x.Add(3 + i)
	}
	return b, nil
}

func (b *birth) close() {
	for _, fd := range append(b.childs, b.sync[:]...) {
		_ = unix.Close(fd)
	}
	b.childs, b.sync = nil, [2]int{-1, -1}
}

// ownStreams gives the streams that the process gets from us to its user, as runc
// does: it may want to open /dev/stderr. /dev/null stays everybody's.
func ownStreams(s *specs.Spec) {
	uid := s.Process.User.UID
	switch {
	case !native.Joins(s).Is:
	case len(s.Linux.UIDMappings) == 0: // it is joined, and whose they are nobody has told
		return
	default:
		uid = native.HostID(s.Linux.UIDMappings, uid)
	}
	var null unix.Stat_t
	if uid == 0 || unix.Stat(os.DevNull, &null) != nil {
		return
	}
	for fd := range 3 {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Rdev != null.Rdev {
			_ = unix.Fchown(fd, int(uid), -1) // a file system may refuse
		}
	}
}

// run makes the process.
func (b *birth) run(program *launch.Program) (pid, pidfd int, err error) {
	var failed error
	done := make(chan struct{})
	go func() { // its thread may join a PID namespace, and ends then
		defer close(done)
		runtime.LockOSThread()
		pid, pidfd, err = program.Run(b.setup.FDs, func(pid, pidfd int) error {
			failed = b.attend(pid, pidfd)
			return failed
		})
	}()
	<-done
	if failed == nil && err == nil {
		if _, ok := born(pid); ok || b.setup.Wait < 0 {
			return pid, pidfd, nil
		}
		failed = errors.New("the container's process was killed on its way")
	}
	if err == nil { // it may have been on its way to the end
		_, _ = unix.Wait4(pid, nil, 0, nil)
		_ = unix.Close(pidfd)
		err = failed
	} else if failed != nil {
		err = failed
	}
	return 0, -1, startError(err)
}

// attend waits with the new process where it waits for us (native, Sync…).
func (b *birth) attend(pid, pidfd int) error {
	for _, fd := range b.childs {
		_ = unix.Close(fd)
	}
	b.childs = nil
	if b.ids != nil {
		if err := b.ids.Write(pid); err != nil {
			return err
		}
	}
	for b.sync[0] >= 0 {
		var where [1]byte
		n, err := unix.Read(b.sync[0], where[:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || n == 0:
			return err // it waits no more
		case where[0] == native.SyncHooks:
			err = b.hooks(pid, pidfd)
		case where[0] == native.SyncTerminal:
			err = b.console(pidfd)
		}
		if err != nil {
			return err
		}
		if _, err := unix.Write(b.sync[1], where[:]); err != nil {
			return err
		}
	}
	return nil
}

// console passes the terminal's master side on.
func (b *birth) console(pidfd int) error {
	fd, err := unix.PidfdGetfd(pidfd, native.MasterFD, 0)
	if err != nil {
		return fmt.Errorf("take the terminal: %w", err)
	}
	master := os.NewFile(uintptr(fd), "terminal")
	if b.size != nil {
		_ = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(b.size.Height), Col: uint16(b.size.Width)})
	}
	if b.options.Console != nil {
		b.options.Console(master)
		return nil
	}
	defer master.Close()
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	if err := unix.Connect(socket, &unix.SockaddrUnix{Name: b.options.ConsoleSocket}); err != nil {
		return fmt.Errorf("connect to the console socket %s: %w", b.options.ConsoleSocket, err)
	}
	return unix.Sendmsg(socket, []byte("/dev/ptmx"), unix.UnixRights(fd), nil, 0)
}

// startError says what failed in words that engines look for: "no such file or
// directory" is 127 to them, "permission denied" 126.
func startError(err error) error {
	f, ok := errors.AsType[*launch.Failure](err)
	if !ok {
		return err
	}
	program, found := strings.CutPrefix(f.Call, "execute ")
	if found && !strings.Contains(program, "/") && f.Errno == unix.ENOENT {
		return fmt.Errorf("exec: %q: executable file not found in $PATH", program)
	}
	return f
}
