package launch

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawCall is a Call that needs nothing of Go any more.
type rawCall struct {
	number uintptr
	args   [6]uintptr
	slots  [6]uint8 // not 0: the argument is that slot's
	keep   uint8    // not 0: the slot for the result
	skip   int
	jump   int
	fork   bool
	ok     [3]unix.Errno
}

// cloneArgs is struct clone_args of clone3(2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// ErrorFD is where the new process has the pipe through which a failure is told.
// A program may close all others.
const ErrorFD = 251

// MasterFD is where it offers its terminal's master side, if it opens one: its parent
// takes it from there (pidfd_getfd(2)).
const MasterFD = 250

// report is what the child writes when a call fails, or when it leaves the rest to
// its own child.
type report struct {
	call  int32
	errno int32 // with forked: the child's PID
}

// forked stands for no call.
const forked = -1

// These are the runtime's for syscall.ForkExec. Before a fork all signals are
// blocked, so that no handler runs in the child; there the handlers are taken
// away (runtime/proc.go, syscall_runtime_BeforeFork).

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

//go:linkname afterForkInChild syscall.runtime_AfterForkInChild
func afterForkInChild()

// Run starts the process and returns when it has executed its program, with its
// PID and a pidfd. files are the descriptors that go with the program; of all others,
// the standard streams aside, the process has none, so it neither holds a lock of its
// maker's nor the maker's end of a pipe that it reads. born, which
// may be nil, is called when there is a process, and it is on its way; its error ends
// it. A *Failure says which call failed; then there is no process.
func (p *Program) Run(files []int, born func(pid, pidfd int) error) (pid, pidfd int, err error) {
	if p.PidNamespace < 0 {
		return p.start(files, born)
	}
	// A thread that has joined a PID namespace for its children can make no new one
	// any more (EINVAL). This one ends with its goroutine, which never unlocks it.
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		pid, pidfd, err = p.start(files, born)
	}()
	<-done
	return pid, pidfd, err
}

func (p *Program) start(files []int, born func(pid, pidfd int) error) (pid, pidfd int, err error) {
	calls, keep, err := p.raw(files)
	if err != nil {
		return 0, -1, err
	}
	// Not blocking: who waits at it shall hold no thread.
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return 0, -1, fmt.Errorf("start process: %w", err)
	}
	told := os.NewFile(uintptr(pipe[0]), "start")
	defer told.Close()
	args := cloneArgs{flags: p.Flags | unix.CLONE_PIDFD, exitSignal: uint64(unix.SIGCHLD)}
	var fd int32 = -1
	if p.Into >= 0 {
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(files[p.Into])
	}
	if p.PidNamespace >= 0 {
		if err := unix.Setns(files[p.PidNamespace], unix.CLONE_NEWPID); err != nil {
			return 0, -1, errors.Join(&Failure{"join the PID namespace", err.(unix.Errno)}, unix.Close(pipe[1]))
		}
	}
	syscall.ForkLock.Lock()
	pid, errno := clone(&args, &fd, calls, pipe[1], gaps(files))
	syscall.ForkLock.Unlock()
	runtime.KeepAlive(keep)
	if errno != 0 {
		return 0, -1, errors.Join(&Failure{"clone3", errno}, unix.Close(pipe[1]))
	}
	_ = unix.Close(pipe[1])
	if slices.ContainsFunc(p.Calls, func(c Call) bool { return c.Fork }) {
		if pid, fd, err = p.takeChild(pid, fd, told); err != nil {
			return 0, -1, err
		}
	}
	if born != nil {
		if err := born(pid, int(fd)); err != nil {
			_ = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) // it waits, or has failed
			Reap(pid)
			return 0, -1, errors.Join(err, unix.Close(int(fd)))
		}
	}
	if err = p.Result(told); err == nil {
		return pid, int(fd), nil
	}
	Reap(pid)
	_ = unix.Close(int(fd))
	return 0, -1, err
}

// gaps are the ranges of descriptors that the new process doesn't keep: first, last.
func gaps(files []int) (ranges [][2]uintptr) {
	first := 3
	for _, fd := range slices.Sorted(slices.Values(append([]int{ErrorFD}, files...))) {
		if fd > first {
			ranges = append(ranges, [2]uintptr{uintptr(first), uintptr(fd - 1)})
		}
		first = max(first, fd+1)
	}
	return append(ranges, [2]uintptr{uintptr(first), math.MaxUint32})
}

// Result waits until execve has closed the other end of told, or a call has failed:
// a *Failure.
func (p *Program) Result(told io.Reader) error {
	r, err := hear(told)
	if err == io.EOF {
		return nil
	}
	if err != nil || int(r.call) >= len(p.Calls) {
		return errors.Join(errDied, err)
	}
	return &Failure{p.Calls[r.call].Name, unix.Errno(r.errno)}
}

var errDied = errors.New("start process: it died on its way")

// hear waits for what the child has to report. io.EOF: nothing.
func hear(told io.Reader) (r report, err error) {
	_, err = io.ReadFull(told, (*[unsafe.Sizeof(r)]byte)(unsafe.Pointer(&r))[:])
	return r, err
}

// Reap waits for a child's end.
func Reap(pid int) (status unix.WaitStatus) {
	for {
		if _, err := unix.Wait4(pid, &status, 0, nil); err != unix.EINTR {
			return status
		}
	}
}

// takeChild waits until the process has left the rest to its child.
func (p *Program) takeChild(pid int, pidfd int32, told io.Reader) (int, int32, error) {
	r, err := hear(told)
	Reap(pid)
	_ = unix.Close(int(pidfd))
	if err != nil {
		return 0, -1, errors.Join(errDied, err)
	}
	if r.call != forked {
		return 0, -1, &Failure{p.Calls[r.call].Name, unix.Errno(r.errno)}
	}
	child, err := unix.PidfdOpen(int(r.errno), 0) // ours, so its PID stays its own until we wait for it
	if err != nil {
		Reap(int(r.errno))
		return 0, -1, fmt.Errorf("start process: %w", err)
	}
	return int(r.errno), int32(child), nil
}

// clone makes the child, which does not come back. It may use nothing of the
// runtime: other threads, and whatever locks they hold, don't exist there. So no
// allocation, no growing of the stack, no goroutine switch, as in
// syscall.forkAndExecInChild.
//
//go:norace
//go:noinline
//go:nocheckptr
func clone(args *cloneArgs, pidfd *int32, calls []rawCall, errPipe int, gaps [][2]uintptr) (pid int, errno unix.Errno) {
	var slots [MaxSlots + 1]uintptr
	beforeFork()
	// It is on the stack, which stays where it is only from here on.
	args.pidfd = uint64(uintptr(unsafe.Pointer(pidfd)))
	r, _, e := syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0)
	if e != 0 || r != 0 {
		afterFork()
		return int(r), e
	}
	afterForkInChild()
	syscall.RawSyscall(unix.SYS_DUP3, uintptr(errPipe), ErrorFD, unix.O_CLOEXEC)
	for i := range gaps {
		syscall.RawSyscall(unix.SYS_CLOSE_RANGE, gaps[i][0], gaps[i][1], 0)
	}
	var rep report
	for i := 0; i < len(calls); i++ {
		c := &calls[i]
		a := c.args
		for j := range a {
			if c.slots[j] != 0 {
				a[j] = slots[c.slots[j]]
			}
		}
		r, _, e := syscall.RawSyscall6(c.number, a[0], a[1], a[2], a[3], a[4], a[5])
		switch {
		case e == 0 && c.fork && r != 0:
			rep.call, rep.errno = forked, int32(r)
			syscall.RawSyscall(unix.SYS_WRITE, ErrorFD, uintptr(unsafe.Pointer(&rep)), unsafe.Sizeof(rep))
			i = len(calls)
		case e == 0:
			slots[c.keep] = r
			i += c.jump
		case e == c.ok[0] || e == c.ok[1] || e == c.ok[2]:
			i += c.skip
		default:
			rep.call, rep.errno = int32(i), int32(e)
			syscall.RawSyscall(unix.SYS_WRITE, ErrorFD, uintptr(unsafe.Pointer(&rep)), unsafe.Sizeof(rep))
			i = len(calls)
		}
	}
	for {
		syscall.RawSyscall(unix.SYS_EXIT, 127, 0, 0)
	}
}

// raw turns calls into what the child can use. keep is the memory that it points
// to.
func (p *Program) raw(files []int) (calls []rawCall, keep []any, err error) {
	pointer := func(b []byte) uintptr {
		if len(b) == 0 {
			return 0
		}
		keep = append(keep, b)
		return uintptr(unsafe.Pointer(&b[0]))
	}
	calls = make([]rawCall, len(p.Calls))
	for i := range p.Calls {
		c, r := &p.Calls[i], &calls[i]
		r.number, r.keep, r.skip, r.jump, r.fork = c.Number, uint8(c.Keep), c.Skip, c.Jump, c.Fork
		copy(r.ok[:], c.Ok)
		for j, a := range c.Args {
			switch a.kind {
			case kindNumber:
				r.args[j] = uintptr(a.number)
			case kindBytes:
				r.args[j] = pointer(a.bytes)
			case kindList:
				list := make([]uintptr, len(a.list)+1)
				for k, s := range a.list {
					list[k] = pointer(s)
				}
				keep = append(keep, list)
				r.args[j] = uintptr(unsafe.Pointer(&list[0]))
			case kindFilter:
				f := &unix.SockFprog{Len: uint16(len(a.bytes) / 8), Filter: (*unix.SockFilter)(unsafe.Pointer(unsafe.SliceData(a.bytes)))}
				keep = append(keep, f)
				r.args[j] = uintptr(unsafe.Pointer(f))
			case kindSlot:
				if a.number < 1 || a.number > MaxSlots {
					return nil, nil, fmt.Errorf("%s: slot %d: %w", c.Name, a.number, errBadProgram)
				}
				r.slots[j] = uint8(a.number)
			case kindFile:
				if a.number >= uint64(len(files)) {
					return nil, nil, fmt.Errorf("%s: descriptor %d of %d: %w", c.Name, a.number, len(files), os.ErrInvalid)
				}
				r.args[j] = uintptr(files[a.number])
			}
		}
	}
	return calls, keep, nil
}
