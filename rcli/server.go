package rcli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

// Server answers calls. Service is required, the rest has defaults.
type Server struct {
	Service Service
	Log     *slog.Logger // nil: no log

	// LineTimeout is how long a client may take to send its call line, all of
	// it. 0: 30 seconds.
	LineTimeout time.Duration
	// Linger is how long after its answer the server still takes what the
	// client sends, so that the client isn't cut off while it reads. 0: 5 seconds.
	Linger time.Duration
}

// grace is how long last words may take on a connection whose call was cut short.
const grace = time.Second

// past is a deadline that ends a read or write at once.
var past = time.Unix(1, 0)

var (
	// ErrGone is the cause of a call's end by its client: hung up, or not reached.
	ErrGone = errors.New("the client is gone")

	errClosing = errors.New("the daemon is shutting down")
)

// Serve accepts connections until ctx ends, then closes l, cancels the calls
// that run, waits for them and returns nil. An error means that l is useless;
// l is closed then too, and the calls have ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	settle := onEnd(ctx, func() { l.Close() })
	var calls sync.WaitGroup
	err := s.accept(ctx, l, &calls)
	cancel(errClosing)
	settle()
	calls.Wait()
	return err
}

func (s *Server) accept(ctx context.Context, l net.Listener, calls *sync.WaitGroup) error {
	const longest = time.Second
	pause := 5 * time.Millisecond
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case err == nil:
			pause = 5 * time.Millisecond
			calls.Go(func() { s.ServeConn(ctx, conn) })
		case passes(err):
			s.log().Warn("accept failed, trying again", "error", err, "after", pause)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, longest)
		default:
			return fmt.Errorf("accept: %w", err)
		}
	}
}

// passes reports errors of accept(2) that are not the listener's fault: too many
// open files, no memory, a client that left the queue.
func passes(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// ServeConn answers the one call of a connection and closes it. The end of ctx
// cuts the call short.
func (s *Server) ServeConn(ctx context.Context, conn net.Conn) {
	accepted := time.Now()
	log := s.log().With("remote", conn.RemoteAddr().String())
	r := bufio.NewReader(conn)

	var said bytes.Buffer // by the flag package
	c, run := &Call{}, s.Run
	args, err := s.readCall(ctx, conn, r)
	if err == nil {
		c, err = parseFlags(args, s.Service.Help, &said)
	}
	if err != nil {
		log.Info("call refused", "error", err)
		run = refuse(said.Bytes(), err)
	}
	c.Remote, c.Accepted = conn.RemoteAddr().String(), accepted

	if c.Framed {
		err = s.serveFramed(ctx, conn, r, c, run)
	} else {
		err = s.serveRaw(ctx, conn, r, c, run)
	}
	log.Debug("call ended", "wire", c.Wire, "args", c.Args, "took", time.Since(accepted), "error", err)

	s.linger(ctx, conn)
	if err := conn.Close(); err != nil {
		log.Debug("close", "error", err)
	}
}

// run is what a call does.
type run func(context.Context, *Call) error

// Run runs one call of the service. A panic in it becomes an error, and goes to
// the log with its stack. It is for other wires than this package's.
func (s *Server) Run(ctx context.Context, c *Call) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log().Error("panic in a call", "args", c.Args, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("internal error: %v (the daemon's log has the stack)", p)
		}
	}()
	return s.Service.Serve(ctx, c)
}

// refuse is the run of a call that never gets to the service.
func refuse(said []byte, why error) run {
	return func(_ context.Context, c *Call) error {
		w := c.Stderr
		if errors.Is(why, flag.ErrHelp) {
			w = c.Stdout // it was asked for
		}
		if _, err := w.Write(said); err != nil {
			return err
		}
		return why
	}
}

// readCall reads the call line within LineTimeout.
func (s *Server) readCall(ctx context.Context, conn net.Conn, r *bufio.Reader) ([]string, error) {
	timeout := s.LineTimeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	if err := conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	settle := onEnd(ctx, func() { conn.SetReadDeadline(past) })
	line, err := readLine(r)
	settle()
	switch {
	case ctx.Err() != nil:
		return nil, reason(ctx, context.Canceled)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, protocolError("no call line within %v", timeout)
	case err != nil:
		return nil, err
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return decodeLine(line)
}

// reason is what the client is told about a call that ended with err: where the
// call was cut short, why.
func reason(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	switch {
	case cause == nil:
		return err
	case errors.Is(cause, ErrProtocol):
		return cause
	case err == nil || !errors.Is(err, context.Canceled):
		return err
	case errors.Is(cause, context.Canceled):
		return errClosing
	default:
		return cause
	}
}

// linger ends a connection that was answered. A close(2) with unread bytes in
// the socket would send RST, which may take from the client what it hasn't read
// yet (RFC 1122, 4.2.2.13). So: FIN first, then read until the client's FIN.
func (s *Server) linger(ctx context.Context, conn net.Conn) {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	patience := s.Linger
	if patience == 0 {
		patience = 5 * time.Second
	}
	if ctx.Err() != nil {
		patience = min(patience, grace)
	}
	if conn.SetReadDeadline(time.Now().Add(patience)) != nil {
		return
	}
	defer onEnd(ctx, func() { conn.SetReadDeadline(time.Now().Add(min(patience, grace))) })()
	io.Copy(io.Discard, conn)
}

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

// onEnd runs f when ctx ends. After settle has returned, f has run to its end
// or never will.
func onEnd(ctx context.Context, f func()) (settle func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		f()
	})
	return sync.OnceFunc(func() {
		if !stop() {
			<-done
		}
	})
}
