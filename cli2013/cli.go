// Package cli2013 is the client: it dials the daemon, sends one call, and
// stands between the terminal and the wire until the call ends.
//
// [Client.Run] is that as one straight line, on our framed wire;
// [Client.Run2013] is the client of January 2013, on the raw one. Both return
// the process's exit status and have said on stderr what there is to say: the
// daemon's errors begin with "Error: ", as in 2013, our own with "docker2013: ".
//
// The terminal is as it was before when they return, after a panic, and after a
// signal that ends the client. In raw mode the kernel's line discipline does
// nothing: ^C and ^Z are bytes for the container's terminal, and a newline is
// only a line feed (termios(3)).
package cli2013

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"docker2013/rcli"
	"docker2013/trace"
)

// DefaultAddr is where the daemon listens, unless $DOCKER says otherwise.
const DefaultAddr = "127.0.0.1:4242"

// Client is what the calls of one process have in common.
type Client struct {
	Addr                  string // the daemon's, host:port
	Stdin, Stdout, Stderr *os.File
	NoRaw                 bool        // never put the terminal in raw mode: $NORAW
	Color                 bool        // colours on stderr
	Trace                 TraceFormat // how steps are shown, if at all
}

// Call is one command for the daemon.
type Call struct {
	Args     []string  // as the daemon's own command line: the name, flags, arguments
	Stdin    io.Reader // nil: the command reads none
	Stdout   io.Writer // nil: the client's
	TTY      bool      // the command runs on a terminal of its own, which ours stands for
	Attached bool      // the command is a process: signals are for it
	Progress bool      // stderr may show progress
}

// Run makes a call and returns its exit status: the command's, or 125 where
// the daemon or the client failed.
func (c *Client) Run(ctx context.Context, call Call) int {
	tty := newTerminal(c.Stdin)
	stderr := tty.lines(c.Stderr)
	steps := newTracer(c.Trace, trace.Style{Color: c.Color}, stderr)
	ctx = steps.context(ctx)

	conn, err := c.dial(ctx)
	steps.flush()
	if err != nil {
		return c.fail(rcli.StatusOurs, err)
	}
	defer conn.Close()
	if call.TTY && call.Stdin != nil && !c.NoRaw {
		if err := tty.makeRaw(); err != nil {
			return c.fail(rcli.StatusOurs, err)
		}
		defer tty.restore()
	}
	if err := send(ctx, conn, "framed", call.line(c.Trace)); err != nil {
		return c.fail(rcli.StatusOurs, err)
	}
	steps.flush()
	session := rcli.NewSession(conn)

	defer call.resize(tty, session)()
	ended, stop := c.signals(tty, call, session)
	defer stop()
	noInput := pump(tty, session.Stdin, call.Stdin)
	answer := make(chan error, 1)
	go tty.guard(func() {
		answer <- session.Receive(rcli.Answer{Stdout: c.stdout(call), Stderr: stderr, Event: steps.daemon})
	})

	select {
	case err = <-answer:
	case err = <-noInput:
	case end := <-ended:
		err = end
	}
	tty.restore()
	return c.status(call, err)
}

// line is the call line's arguments: the service's flags, then the command.
func (call Call) line(steps TraceFormat) []string {
	line := []string{"-framed"}
	if steps != "" {
		line = append(line, "-trace")
	}
	if call.Progress {
		line = append(line, "-progress")
	}
	return append(line, call.Args...)
}

func (c *Client) stdout(call Call) io.Writer {
	if call.Stdout == nil {
		return c.Stdout
	}
	return call.Stdout
}

// status says what is left to say about a call that ended with err, and makes
// its exit status.
func (c *Client) status(call Call, err error) int {
	var exit *rcli.Exit
	var end *endError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if exit.Err != nil {
			fmt.Fprintf(c.Stderr, "Error: %s\n", strings.TrimSuffix(exit.Error(), "\n"))
		}
		return exit.Code
	case errors.As(err, &end):
		if end.text != "" {
			c.fail(end.code, end)
		}
		return end.code
	case errors.Is(err, syscall.EPIPE): // whoever read our output has gone
		return 128 + int(syscall.SIGPIPE)
	case call.Attached && errors.Is(err, rcli.ErrLost):
		return c.fail(rcli.StatusOurs, fmt.Errorf("%w; the container may still run", err))
	default:
		return c.fail(rcli.StatusOurs, err)
	}
}

// fail says why the client failed, on one line, and returns the status.
func (c *Client) fail(status int, err error) int {
	fmt.Fprintf(c.Stderr, "docker2013: %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
	return status
}

// Output makes a call without input and returns its standard output. ctx bounds
// it. It says nothing on stderr.
func (c *Client) Output(ctx context.Context, args ...string) (string, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := conn.Send(Call{Args: args}.line("")); err != nil {
		return "", err
	}
	var out strings.Builder
	err = rcli.NewSession(conn).Receive(rcli.Answer{Stdout: &out, Stderr: io.Discard})
	return out.String(), err
}

// dial connects to the daemon, and says what to do if there is none.
func (c *Client) dial(ctx context.Context) (*rcli.Conn, error) {
	span := trace.Step(ctx, "cli.dial", "address", c.Addr)
	conn, err := rcli.Dial(ctx, c.Addr)
	if err != nil {
		span.End(err)
		if errors.Is(err, syscall.EACCES) {
			return nil, fmt.Errorf("you may not call the daemon at %s: be root, with sudo", c.Addr)
		}
		return nil, fmt.Errorf("no daemon at %s (%s); %s", c.Addr, short(err), howToStart(c.Addr))
	}
	span.Set("local", conn.LocalAddr().String())
	span.End(nil)
	return conn, nil
}

// howToStart says how a daemon is started that listens on addr. Its program is named
// by its path where it is beside ours: sudo has a PATH of its own.
func howToStart(addr string) string {
	program := "dockerd2013"
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), program)
		if _, err := os.Stat(beside); err == nil {
			program = beside
		}
	}
	if addr == DefaultAddr {
		return "start one with: sudo " + program
	}
	flag := "--tcp"
	if path, ok := strings.CutPrefix(addr, rcli.UnixPrefix); ok {
		flag, addr = "--socket", path
	}
	return fmt.Sprintf("if that is the right address, start one with: sudo %s %s %s", program, flag, addr)
}

// short is the bare reason of an error of dial.
func short(err error) string {
	var errno syscall.Errno
	var op *net.OpError
	switch {
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &op) && op.Timeout():
		return "no answer"
	case errors.As(err, &op):
		return op.Err.Error()
	default:
		return err.Error()
	}
}

// send sends the call line.
func send(ctx context.Context, conn *rcli.Conn, wire string, args []string) error {
	span := trace.Step(ctx, "cli.call", "wire", wire)
	if span.Listening() {
		line, _ := rcli.EncodeCall(args) // Send tells of an error
		span.Set("line", strings.TrimSuffix(string(line), "\n"))
	}
	return span.End(conn.Send(args))
}
