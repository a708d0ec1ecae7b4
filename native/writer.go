package native

import (
	"errors"

	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"

	"docker2013/cgroups"
	"docker2013/native/launch"
)

// Setup is what a program needs beside the configuration. Descriptors are named by
// their index in FDs, -1: none. NewSetup has none.
type Setup struct {
	FDs         []int  // go with the program
	Rootfs      string // on the host
	Tasks       []int  // v1's cgroups
	Into        int    // v2's
	Stdio       [3]int // not with a terminal
	Terminal    bool
	Controlling bool           // stdio is a terminal of the daemon's: for exec
	Sync        [2]int         // written to, read from, where the parent has a part in it: see Sync…
	Filter      []byte         // seccomp's program, nil: none
	Pidfd       int            // exec: of the container's first process
	PidNS       int            // the PID namespace to be born in, where the configuration has a path
	LastCap     capability.Cap // the highest capability of this kernel
	Files       []bool         // mount by mount: what is bound is no directory

	Hooks     bool // the parent has something to do when the environment is there
	Wait      int  // a listening socket: wait for a connection before the program is executed
	Preserve  int  // how many descriptors from 3 on stay open
	NoPivot   bool // the host's root is where pivot_root can't (an initramfs)
	NoKeyring bool // keep the session's keyring

	User  UserNamespace
	Trees []int // mount by mount: what is bind-mounted; nil: the process takes it itself
}

// NewSetup is one without descriptors.
func NewSetup() Setup {
	return Setup{Into: -1, Stdio: [3]int{-1, -1, -1}, Sync: [2]int{-1, -1}, Pidfd: -1, PidNS: -1, Wait: -1, User: UserNamespace{Ready: -1}}
}

// Add has a descriptor go with the program, and returns its index.
func (x *Setup) Add(fd int) int {
	x.FDs = append(x.FDs, fd)
	return len(x.FDs) - 1
}

// Join has the process be in a cgroup.
func (x *Setup) Join(join cgroups.Join) {
	for _, fd := range join.Tasks {
		x.Tasks = append(x.Tasks, x.Add(fd))
	}
	if join.Into >= 0 {
		x.Into = x.Add(join.Into)
	}
}

// writer writes a program, call by call.
type writer struct {
	p     launch.Program
	slots int
	free  []int // slots whose descriptors are closed again
	err   error
}

// call is one call. Its arguments stand as in C, a buffer is a []byte and an argv a
// []string; what isn't known before the program runs is a launch.Arg.
func (w *writer) call(name string, number uintptr, args ...any) *launch.Call {
	list := make([]launch.Arg, len(args))
	for i, arg := range args {
		switch v := arg.(type) {
		case int:
			list[i] = launch.Number(v)
		case uint32:
			list[i] = launch.Number(v)
		case uint64:
			list[i] = launch.Number(v)
		case string:
			list[i] = launch.String(v)
		case []byte:
			list[i] = launch.Bytes(v)
		case []string:
			list[i] = launch.Strings(v)
		case launch.Arg:
			list[i] = v
		default:
			w.err = errors.New(name + ": an argument that no call can take")
		}
	}
	w.p.Calls = append(w.p.Calls, launch.Call{Name: name, Number: number, Args: list})
	return &w.p.Calls[len(w.p.Calls)-1]
}

// slot is one for a result.
func (w *writer) slot() int {
	if n := len(w.free); n > 0 {
		slot := w.free[n-1]
		w.free = w.free[:n-1]
		return slot
	}
	if w.slots == launch.MaxSlots {
		w.err = errors.New("too many mounts for one container")
		return w.slots
	}
	w.slots++
	return w.slots
}

// result is a call whose result later ones use.
func (w *writer) result(name string, number uintptr, args ...any) launch.Arg {
	slot := w.slot()
	w.call(name, number, args...).Keep = slot
	return launch.Slot(slot)
}

// close closes a descriptor that a call has kept, or that came with the program.
func (w *writer) close(name string, fd launch.Arg) {
	w.call(name, unix.SYS_CLOSE, fd)
	if fd.IsSlot() {
		w.free = append(w.free, fd.Slot())
	}
}

// optional makes the calls that f writes depend on the first of them: if that
// fails with one of errnos, the others are left out.
func (w *writer) optional(errnos []unix.Errno, f func()) {
	first := len(w.p.Calls)
	f()
	w.p.Calls[first].Ok = errnos
	w.p.Calls[first].Skip = len(w.p.Calls) - first - 1
}

// either is optional with others in their place: f's calls, or, if the first of them
// fails with errno, g's.
func (w *writer) either(f func(), errno unix.Errno, g func()) {
	w.optional([]unix.Errno{errno}, f)
	last := len(w.p.Calls) - 1
	g()
	w.p.Calls[last].Jump = len(w.p.Calls) - last - 1
}

// here stands where a call wants a directory and the path is absolute.
var here = launch.Number(unix.AT_FDCWD)
