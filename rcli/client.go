package rcli

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"
)

// dialTimeout is how long a host may take to answer a SYN.
const dialTimeout = 10 * time.Second

// Conn is a client's connection to the daemon. It carries one call: after Send,
// it is the call's raw wire, or [NewSession] makes it framed.
type Conn struct{ halfCloser }

// halfCloser is a connection whose two directions end one by one: TCP's, and a
// unix socket's.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// UnixPrefix begins the address of a unix socket.
const UnixPrefix = "unix://"

// Dial connects to the daemon at addr, "host:port" or "unix:///path". The error is a
// *net.OpError.
func Dial(ctx context.Context, addr string) (*Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	network := "tcp"
	if path, ok := strings.CutPrefix(addr, UnixPrefix); ok {
		network, addr = "unix", path
	}
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &Conn{conn.(halfCloser)}, nil
}

// Send sends the call line. After it, on the raw wire, Write and CloseWrite are
// the command's standard input, and Read is its output.
func (c *Conn) Send(args []string) error {
	line, err := EncodeCall(args)
	if err != nil {
		return err
	}
	if _, err := c.Write(line); err != nil {
		return fmt.Errorf("send call: %w", err)
	}
	return nil
}

// Session is the client's side of a framed call.
type Session struct {
	// Stdin is the command's standard input. Write waits while the command
	// doesn't read, once the room on the way is full. Close sends its end.
	Stdin io.WriteCloser

	conn io.Reader
	out  *frameWriter
}

// NewSession makes c framed. The call that was sent began with -framed.
func NewSession(c *Conn) *Session {
	out := &frameWriter{w: c.halfCloser}
	return &Session{Stdin: &stdinWriter{out: out}, conn: c, out: out}
}

// Resize tells the size of the client's terminal.
func (s *Session) Resize(w Window) error { return s.out.frame(kindWindow, putWindow(w)) }

// Signal sends a signal to the command.
func (s *Session) Signal(sig syscall.Signal) error {
	return s.out.frame(kindSignal, binary.BigEndian.AppendUint32(nil, uint32(sig)))
}

// stdinWriter sends stdin frames.
type stdinWriter struct {
	out *frameWriter

	mu     sync.Mutex
	closed bool
}

func (w *stdinWriter) Write(p []byte) (int, error) { return w.out.stream(kindStdin, p) }

// Close sends the end of stdin. A second Close does nothing.
func (w *stdinWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	return w.out.frame(kindEndOfStdin, nil)
}

// Answer is where a framed call's output goes.
type Answer struct {
	Stdout, Stderr io.Writer
	Event          func(json []byte) // takes one trace event; nil: thrown away
}

// ErrLost is in the error of a call whose connection broke before its end.
var ErrLost = errors.New("connection to the daemon lost")

// Receive hands out the answer until the call's end. It returns what the
// service returned: nil for status 0, an [Exit] for a status or an error text.
// Any other error is about the connection ([ErrLost], [ErrProtocol]) or about
// writing the answer.
func (s *Session) Receive(a Answer) error {
	return receive(bufio.NewReaderSize(s.conn, chunk), a)
}

func receive(r *bufio.Reader, a Answer) error {
	if head, err := r.Peek(4); err == nil && head[1]|head[2]|head[3] != 0 {
		said, _ := r.Peek(r.Buffered())
		return protocolError("the answer is not framed: %.60q", said)
	}
	var text string // of the error frame
	failed := false // there was one
	buf := make([]byte, chunk)
	for {
		k, size, err := readHeader(r)
		if err != nil {
			return lost(err)
		}
		if failed && k != kindExit {
			return protocolError("a frame (%v) after the error", k)
		}
		switch k {
		case kindStdout:
			err = copyPayload(a.Stdout, r, k, size, buf)
		case kindStderr:
			err = copyPayload(a.Stderr, r, k, size, buf)
		case kindEvent:
			p := make([]byte, size)
			if err = readPayload(r, k, p); err == nil && a.Event != nil {
				a.Event(p)
			}
		case kindError:
			p := make([]byte, size)
			err = readPayload(r, k, p)
			text, failed = string(p), true
		case kindExit:
			var code uint32
			if code, err = readUint32(r, k, size); err == nil {
				return exit(code, text)
			}
		default:
			return protocolError("a frame (%v) that no server sends", k)
		}
		if err != nil {
			return lost(err)
		}
	}
}

// exit is what the service returned.
func exit(code uint32, text string) error {
	switch {
	case code > 255:
		return protocolError("exit status %d", code)
	case text != "":
		return &Exit{Code: int(code), Err: errors.New(text)}
	case code != 0:
		return &Exit{Code: int(code)}
	default:
		return nil
	}
}

// outputError is a failure of the client's own stdout or stderr.
type outputError struct {
	kind kind
	err  error
}

func (e *outputError) Error() string { return fmt.Sprintf("write %v: %v", e.kind, e.err) }
func (e *outputError) Unwrap() error { return e.err }

// copyPayload copies a frame's payload to w.
func copyPayload(w io.Writer, r io.Reader, k kind, size int, buf []byte) error {
	for size > 0 {
		p := buf[:min(size, len(buf))]
		if err := readPayload(r, k, p); err != nil {
			return err
		}
		if _, err := w.Write(p); err != nil {
			return &outputError{k, err}
		}
		size -= len(p)
	}
	return nil
}

// lost marks an error of the connection itself.
func lost(err error) error {
	var output *outputError
	switch {
	case err == io.EOF:
		return fmt.Errorf("%w: it ended before the exit status", ErrLost)
	case errors.Is(err, ErrProtocol), errors.As(err, &output):
		return err
	default:
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
}
