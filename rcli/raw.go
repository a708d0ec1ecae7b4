package rcli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// serveRaw runs a call on the wire of 2013.
func (s *Server) serveRaw(ctx context.Context, conn net.Conn, r *bufio.Reader, c *Call, run run) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	settle := onEnd(ctx, func() { conn.SetDeadline(past) }) // nothing stays blocked
	defer settle()

	in := &rawStdin{ctx: ctx, conn: conn, r: r}
	out := &rawOutput{ctx: ctx, cancel: cancel, conn: conn}
	c.Wire, c.Stdin, c.Stdout, c.Stderr = "raw", in, out, out

	err := run(ctx, c)
	in.Close()
	err = reason(ctx, err)
	if ctx.Err() != nil {
		settle()
		conn.SetWriteDeadline(time.Now().Add(grace))
	}
	out.end(err)
	return err
}

// rawStdin is what the client sends after the call line.
type rawStdin struct {
	ctx    context.Context
	conn   net.Conn
	closed atomic.Bool

	mu sync.Mutex // held while reading
	r  *bufio.Reader
}

func (in *rawStdin) Read(p []byte) (int, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed.Load() {
		return 0, os.ErrClosed
	}
	n, err := in.r.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) { // how a Read is woken
		err = context.Cause(in.ctx)
		if in.closed.Load() {
			err = os.ErrClosed
		}
	}
	return n, err
}

// Close ends a Read that waits; no other comes through after it.
func (in *rawStdin) Close() error {
	in.closed.Store(true)
	if err := in.conn.SetReadDeadline(past); err != nil {
		return err
	}
	in.mu.Lock() // the last Read is out
	defer in.mu.Unlock()
	return nil
}

// rawOutput is stdout and stderr, one stream.
type rawOutput struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	conn   net.Conn

	mu    sync.Mutex
	ended bool
}

func (out *rawOutput) Write(p []byte) (int, error) {
	out.mu.Lock()
	defer out.mu.Unlock()
	if out.ended {
		return 0, errEnded
	}
	if err := context.Cause(out.ctx); err != nil {
		return 0, err
	}
	n, err := out.conn.Write(p)
	if err != nil {
		out.cancel(fmt.Errorf("%w: %w", ErrGone, err))
	}
	return n, err
}

// end sends the call's error as 2013 did, and takes no more.
func (out *rawOutput) end(err error) {
	out.mu.Lock()
	defer out.mu.Unlock()
	out.ended = true
	if err != nil && err.Error() != "" {
		fmt.Fprintf(out.conn, "Error: %s\n", err) // nobody to tell if it fails
	}
}
