package rcli

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// serveFramed runs a call whose both directions are frames.
func (s *Server) serveFramed(ctx context.Context, conn net.Conn, r *bufio.Reader, c *Call, run run) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	in := newInput()
	settle := onEnd(ctx, func() {
		conn.SetWriteDeadline(past) // nothing stays blocked
		in.stdin.end(context.Cause(ctx))
	})
	defer settle()

	out := &frameWriter{w: conn}
	c.Wire, c.Stdin, c.Resize, c.Signals = "framed", in.stdin, in.resize, in.signals
	c.Stdout = &framedOutput{ctx, cancel, out, kindStdout}
	c.Stderr = &framedOutput{ctx, cancel, out, kindStderr}
	events := &framedOutput{ctx, cancel, out, kindEvent}
	c.Event = func(json []byte) error {
		if !c.Trace {
			return nil
		}
		return events.event(json)
	}

	demuxed := make(chan struct{})
	go func() {
		defer close(demuxed)
		if err := in.demux(r); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			cancel(err)
		}
	}()

	err := run(ctx, c)

	in.stdin.Close()
	conn.SetReadDeadline(past)
	<-demuxed
	err = reason(ctx, err)
	if ctx.Err() != nil {
		settle()
		conn.SetWriteDeadline(time.Now().Add(grace))
	}
	text := ""
	if err != nil {
		text = strings.ToValidUTF8(err.Error(), "\uFFFD")
	}
	if sent := out.last(text, uint32(ExitStatus(err))); sent != nil && err == nil {
		err = fmt.Errorf("send the exit status: %w", sent)
	}
	return err
}

// ExitStatus is the exit status of a call that ended with err: 0 for nil, an
// [Exit]'s code, else [StatusOurs].
func ExitStatus(err error) int {
	var exit *Exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.Code >= 0 && exit.Code <= 255:
		return exit.Code
	default:
		return StatusOurs
	}
}

// framedOutput is one of the streams to a framed client.
type framedOutput struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	out    *frameWriter
	kind   kind
}

func (o *framedOutput) Write(p []byte) (int, error) {
	if err := context.Cause(o.ctx); err != nil {
		return 0, err
	}
	n, err := o.out.stream(o.kind, p)
	return n, o.failed(err)
}

// event sends p as one frame, whole or not at all.
func (o *framedOutput) event(p []byte) error {
	if err := context.Cause(o.ctx); err != nil {
		return err
	}
	if len(p) > MaxPayload {
		return fmt.Errorf("trace event of %d bytes; at most %d fit a frame", len(p), MaxPayload)
	}
	return o.failed(o.out.frame(o.kind, p))
}

// failed ends the call of a client that can't be written to.
func (o *framedOutput) failed(err error) error {
	if err != nil && !errors.Is(err, errEnded) {
		o.cancel(fmt.Errorf("%w: %w", ErrGone, err))
	}
	return err
}

// input is what a framed client's frames become.
type input struct {
	stdin   *stdinBuffer
	resize  chan Window         // at most one: the newest
	signals chan syscall.Signal // more than it holds are lost, as in os/signal
}

func newInput() *input {
	return &input{newStdinBuffer(), make(chan Window, 1), make(chan syscall.Signal, 16)}
}

// demux reads the client's frames until the connection's end, and deals them
// out. It returns nil if that end was a fair one, after the end of stdin.
func (in *input) demux(r io.Reader) error {
	var piece []byte // made when the first stdin comes
	ended := false
	for {
		k, size, err := readHeader(r)
		switch {
		case err == io.EOF && ended:
			return nil
		case err == io.EOF:
			return fmt.Errorf("%w: its connection ended before a frame 5, the end of stdin", ErrGone)
		case err != nil:
			return gone(err)
		}

		switch k {
		case kindStdin:
			if ended {
				return protocolError("a frame (%v) after the end of stdin", k)
			}
			if piece == nil {
				piece = make([]byte, chunk)
			}
			for left := size; left > 0 && err == nil; {
				p := piece[:min(left, len(piece))]
				if err = readPayload(r, k, p); err == nil {
					in.stdin.put(p)
				}
				left -= len(p)
			}
		case kindEndOfStdin:
			switch {
			case ended:
				return protocolError("a second frame (%v)", k)
			case size != 0:
				return protocolError("a frame (%v) of %d bytes; it is empty", k, size)
			}
			ended = true
			in.stdin.end(io.EOF)
		case kindWindow:
			var n uint32
			if n, err = readUint32(r, k, size); err == nil {
				in.newest(Window{Rows: uint16(n >> 16), Cols: uint16(n)})
			}
		case kindSignal:
			var n uint32
			if n, err = readUint32(r, k, size); err == nil {
				if n < 1 || n > 64 {
					return protocolError("signal %d; there are 1 to 64", n)
				}
				select {
				case in.signals <- syscall.Signal(n):
				default:
				}
			}
		default:
			return protocolError("a frame (%v) that no client sends", k)
		}
		if err != nil {
			return gone(err)
		}
	}
}

// newest puts w in the place of a size that nobody has taken yet.
func (in *input) newest(w Window) {
	select {
	case <-in.resize:
	default:
	}
	in.resize <- w // the only sender: there is room
}

// gone marks an error of the connection itself.
func gone(err error) error {
	if errors.Is(err, ErrProtocol) || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrGone, err)
}

// putWindow is the payload of a window frame.
func putWindow(w Window) []byte {
	p := binary.BigEndian.AppendUint16(nil, w.Rows)
	return binary.BigEndian.AppendUint16(p, w.Cols)
}
