package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"docker2013/cgroups"
	"docker2013/native"
	"docker2013/native/launch"
	"docker2013/native/shim"
)

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
func (rt *Runtime) newBirth(s *specs.Spec, join cgroups.Join, o Starting) (b *birth, err error) {
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

// prepare collects what a container's first process needs beside that. What is held is
// to be closed, after an error too.
func (b *birth) prepare(s *specs.Spec) (held []int, err error) {
	x := &b.setup
	x.Rootfs, x.Files = s.Root.Path, native.Files(s.Mounts)
	x.Hooks = hasHooks(s.Hooks) || slices.ContainsFunc(s.Mounts, native.CopiesUp)
	if held, err = x.Hold(s); err != nil {
		return held, err
	}
	if b.ids, err = shim.NewIDMapper(native.IDs(s)); err != nil || !x.User.Is {
		return held, err
	}
	for _, fd := range b.ids.Files() {
		x.User.Ready = x.Add(fd)
	}
	x.User.Nodes, err = hostNodes(s.Linux.Devices)
	return held, err
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
	// Until it is made it dies with the thread that makes it (session): a hook that
	// joins its namespaces meanwhile, and ends a thread, must have another one.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, pidfd, err = program.Run(b.setup.FDs, func(pid, pidfd int) error {
		failed = b.attend(pid, pidfd)
		return failed
	})
	if failed == nil && err == nil {
		if _, ok := born(pid); ok || b.setup.Wait < 0 {
			return pid, pidfd, nil
		}
		failed = errors.New("the container's process was killed on its way")
	}
	if err == nil { // it may have been on its way to the end
		launch.Reap(pid)
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
	fd, err := unix.PidfdGetfd(pidfd, launch.MasterFD, 0)
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
