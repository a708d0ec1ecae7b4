package cli2013

import (
	"context"
	"fmt"
	"io"

	"docker2013/trace"
)

// Run2013 is the client as it was in January 2013
// (docker@bba4e36807:docker/docker.go:161): the arguments go out as they are,
// the terminal is raw whatever the command, everything that comes back is
// output, and there is no exit status but 1 for trouble with the connection.
func (c *Client) Run2013(ctx context.Context, args []string) int {
	tty := newTerminal(c.Stdin)
	steps := newTracer(c.Trace, trace.Style{Color: c.Color}, tty.lines(c.Stderr))
	ctx = steps.context(ctx)

	conn, err := c.dial(ctx)
	steps.flush()
	if err != nil {
		return c.fail(1, err)
	}
	defer conn.Close()
	if !c.NoRaw {
		if err := tty.makeRaw(); err != nil {
			return c.fail(1, err)
		}
		defer tty.restore()
	}
	if err := send(ctx, conn, "raw", args); err != nil {
		return c.fail(1, err)
	}
	steps.flush()

	ended, stop := c.signals(tty, Call{}, nil)
	defer stop()
	received := copyAll(tty, "receive the output", c.Stdout, conn, nil)
	sent := copyAll(tty, "send the input", conn, c.Stdin, conn.CloseWrite)

	select {
	case err = <-received:
		if err == nil && !tty.here { // nobody types on: what is piped in goes out first
			err = <-sent
		}
	case end := <-ended:
		return end.code
	}
	tty.restore()
	if err != nil {
		return c.fail(1, err)
	}
	return 0
}

// copyAll copies r to w, then calls end, on a goroutine of its own.
func copyAll(tty *terminal, what string, w io.Writer, r io.Reader, end func() error) <-chan error {
	done := make(chan error, 1)
	go tty.guard(func() {
		_, err := io.Copy(w, r)
		if end != nil {
			if e := end(); err == nil {
				err = e
			}
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", what, err)
		}
		done <- err
	})
	return done
}
