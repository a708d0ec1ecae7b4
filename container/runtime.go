package container

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"time"
)

// Runtime turns a record and a mounted root file system into an isolated
// process: LXC on the classic path. A Process may keep the record that it was made
// of: nobody changes that one any more.
type Runtime interface {
	// Name is what traces and `info` call it: "lxc".
	Name() string

	// Check says what is wrong with a record that asks for what this runtime or
	// this host can't do. Nothing of the container need be there yet.
	Check(r *Record) error

	// Configure writes the runtime's description of the container into its
	// folder, anew for every run.
	Configure(ctx context.Context, r *Record) error

	// Start starts the container's process in new namespaces, in a terminal of
	// the given size if it has one, and returns when it has become the
	// program or has failed to. What it writes is appended to the files
	// stdout and stderr of the container's folder. A *StartError says that
	// the program couldn't be executed. After an error nothing of the run
	// is left.
	Start(ctx context.Context, r *Record, size Window) (Process, error)

	// Adopt finds the process of a container that another daemon started and
	// that still runs. It fails with ErrNotRunning, and then has removed what
	// a dead run left in the kernel; with an *EndedError if there was a run
	// that the record may not know of.
	Adopt(ctx context.Context, r *Record) (Process, error)

	// Close lets go of the runtime's own resources. To be called when no
	// container runs any more.
	Close() error
}

// Streams are a process's standard streams. The runtime doesn't close them.
type Streams struct {
	In, Out, Err *os.File
	// Terminal says that all three are one terminal, which becomes the
	// session's controlling terminal.
	Terminal bool
}

// Process is a running container as its runtime sees it.
type Process interface {
	// Pid is the first process, in the host's PID namespace.
	Pid() int
	// Wait blocks until the first process has ended, and with it every other
	// one of the container (pid_namespaces(7)), and what they wrote is in
	// the logs.
	Wait() Exit
	// Gone blocks until everything the runtime made for it is removed; all but
	// what the next daemon would know its end by, unless the record has that.
	Gone(recorded bool)
	// Input takes its standard input, nil if it has none. Close gives it the
	// end of its input; a terminal has none.
	Input() io.WriteCloser
	// Resize tells its terminal, if it has one, the size.
	Resize(w Window) error
	// Signal sends a signal to the first process. A process that has ended
	// is ErrNotRunning.
	Signal(sig syscall.Signal) error
	// Freeze stops every process of the container at once, Thaw lets them
	// go on. Both return when it has happened.
	Freeze() error
	Thaw() error
	// Exec runs a further program inside and returns when it has ended.
	// A *StartError says that it couldn't be executed.
	Exec(ctx context.Context, e Exec) (Exit, error)
	// Update gives the running container the limits of a changed record.
	Update(r *Record) error
	// Stats reads what the container has used so far.
	Stats() (Stats, error)
	// Pids lists the container's processes in the host's PID namespace.
	Pids() ([]int, error)
}

// Exec is a further program for a running container.
type Exec struct {
	Args    []string // program and arguments
	Env     []string // KEY=VALUE
	User    string   // USER[:GROUP]; "": the container's
	Dir     string   // its working directory, absolute; "": the container's
	Streams Streams
	Signals <-chan syscall.Signal // sent on to it; may be nil
}

// Exit is how a process ended.
type Exit struct {
	Code      int   // exit status, 128+N after signal N, ExitUnknown
	OOMKilled bool  // the kernel killed one of its processes for memory
	Err       error // a *StartError, why Code is not known, or what of its output was lost
}

// EndedError is what Adopt fails with when the container has ended and it is known
// how. It is an ErrNotRunning.
type EndedError struct {
	Exit   Exit
	At     time.Time // when, zero: not known
	Err    error
	Forget func() error // nil, or to be called when the record has it: it is told once
}

func (e *EndedError) Error() string { return e.Err.Error() }
func (e *EndedError) Unwrap() error { return e.Err }

// StartError says that a container's program couldn't be executed.
type StartError struct {
	Code int    // 127: not found, 126: can't be executed (as a shell answers); ExitUnknown: it may have run
	Text string // what is wrong, for a person
}

func (e *StartError) Error() string { return e.Text }

// Stats is what a container has used. Values the host doesn't count are -1.
type Stats struct {
	CPU         time.Duration // CPU time of all its processes
	Memory      int64         // bytes, now
	MemoryLimit int64         // bytes; -1: none
	BlockRead   int64         // bytes, so far
	BlockWrite  int64
	Pids        int64
}

// exitOurs says that the program never ran, for a reason that isn't its own.
const exitOurs = 125

// exitCode is the code that a failed start leaves in the record.
func exitCode(err error) int {
	if se, ok := errors.AsType[*StartError](err); ok {
		return se.Code
	}
	return exitOurs
}
