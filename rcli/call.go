package rcli

import (
	"context"
	"fmt"
	"io"
	"syscall"
	"time"
)

// Call is one command on its way through the daemon: what the client asked for
// and the streams to answer on. It is the same for every wire.
type Call struct {
	// Args are the command's name and its arguments; the service's own flags
	// are taken out.
	Args []string

	// Stdin delivers what the client sends after the call line, until the
	// client's end of input. Closing it makes the rest be thrown away.
	Stdin io.ReadCloser
	// Stdout and Stderr take the answer. Both can be written by several
	// goroutines. On the raw wire and on HTTP they are one stream, as in 2013.
	Stdout, Stderr io.Writer

	// Resize delivers the sizes of the client's terminal and Signals what the
	// client wants sent to the container. Nothing ever comes on the raw wire.
	// Neither is closed.
	Resize  <-chan Window
	Signals <-chan syscall.Signal

	// Flags of the service, which stand before the command's name.
	Framed   bool // -framed: both directions are frames
	Trace    bool // -trace: the call's own steps are wanted, see Event
	Progress bool // -progress: Stderr is a terminal that may show progress

	// Event sends one step of the trace, a JSON object, to a framed client.
	// It is nil on the other wires.
	Event func(json []byte) error

	// Wire is "raw", "framed" or "http"; Remote is the peer's address.
	Wire, Remote string
	// Accepted is when the connection was accepted.
	Accepted time.Time
}

// Window is a terminal's size in character cells.
type Window struct{ Rows, Cols uint16 }

// Service is what a server serves: the daemon.
type Service interface {
	// Help is the list of commands, for an empty call and a call of -h.
	Help() string
	// Serve runs one call to its end. ctx ends when a framed client goes away
	// or the server closes. The error becomes "Error: TEXT" on the raw wire
	// and on HTTP; framed, it becomes an error frame and the exit status that
	// ExitStatus finds in it.
	Serve(ctx context.Context, c *Call) error
}

// Exit is the error of a call that must end with a certain exit status.
type Exit struct {
	Code int   // 0 to 255
	Err  error // what to tell the user, nil: nothing (a container's own status)
}

// Error is the text for the user, "" where there is none.
func (e *Exit) Error() string {
	if e.Err == nil {
		return ""
	}
	return e.Err.Error()
}

// Unwrap gives the error below.
func (e *Exit) Unwrap() error { return e.Err }

// Exitf is an Exit with a text.
func Exitf(code int, format string, args ...any) *Exit {
	return &Exit{Code: code, Err: fmt.Errorf(format, args...)}
}

// StatusOurs is the exit status of a failure of ours, not the container's.
const StatusOurs = 125
