package cli2013

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"docker2013/rcli"
)

// background is a client without a terminal.
type background struct {
	*process
	stdout io.Reader
	stderr bytes.Buffer
	stdin  io.WriteCloser
}

func startWithout(t *testing.T, p processCall) *background {
	t.Helper()
	b := &background{process: &process{t: t, cmd: command(t, p), done: make(chan struct{})}}
	b.cmd.Stderr = &b.stderr
	var err error
	if b.stdin, err = b.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if b.stdout, err = b.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.cmd.Process.Kill()
		<-b.done
	})
	return b
}

// ready waits for the daemon's first output, then for the end on its own.
func (b *background) ready() {
	b.t.Helper()
	if _, err := io.ReadFull(b.stdout, make([]byte, len("ready"))); err != nil {
		b.t.Fatalf("%v; stderr %q", err, b.stderr.String())
	}
	go func() {
		b.cmd.Wait()
		close(b.done)
	}()
}

// silentDaemon takes connections and says nothing.
type silentDaemon struct {
	addr  string
	conns chan net.Conn
}

func silent(t *testing.T) silentDaemon {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	d := silentDaemon{l.Addr().String(), make(chan net.Conn, 1)}
	go func() {
		if conn, err := l.Accept(); err == nil {
			d.conns <- conn
		}
	}()
	return d
}

// Without a terminal the container gets the client's signals.
func TestSignalsGoToTheContainer(t *testing.T) {
	got := make(chan syscall.Signal, 8)
	addr := serve(t, service{"signals": func(ctx context.Context, c *rcli.Call) error {
		io.WriteString(c.Stdout, "ready")
		for {
			select {
			case sig := <-c.Signals:
				got <- sig
				if sig == syscall.SIGTERM {
					return &rcli.Exit{Code: 143}
				}
			case <-ctx.Done():
				return nil
			}
		}
	}})
	b := startWithout(t, processCall{Addr: addr, Args: []string{"signals"}, Attached: true})
	b.ready()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGINT, syscall.SIGUSR1,
		syscall.SIGINT, syscall.SIGUSR2, syscall.SIGTERM} {
		b.cmd.Process.Signal(sig)
		select {
		case s := <-got:
			if s != sig {
				t.Errorf("got %v, want %v", s, sig)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%v never came; stderr %q", sig, b.stderr.String())
		}
	}
	if status := b.status(); status != 143 {
		t.Errorf("status %d", status)
	}
}

// Ignored signals stay ignored: the container must survive a logout under nohup.
func TestIgnoredSignal(t *testing.T) {
	got := make(chan syscall.Signal, 8)
	addr := serve(t, service{"signals": func(ctx context.Context, c *rcli.Call) error {
		io.WriteString(c.Stdout, "ready")
		got <- <-c.Signals
		return nil
	}})
	b := startWithout(t, processCall{Addr: addr, Args: []string{"signals"}, Attached: true, Mute: true})
	b.ready()
	b.cmd.Process.Signal(syscall.SIGHUP)
	time.Sleep(20 * time.Millisecond)
	b.cmd.Process.Signal(syscall.SIGUSR1)
	if sig := <-got; sig != syscall.SIGUSR1 {
		t.Errorf("got %v", sig)
	}
	b.status()
}

// The third ^C in a row ends the client, and says what it leaves, though the
// wire is stuck behind input that nobody reads.
func TestThirdInterrupt(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		d := silent(t)
		b := startWithout(t, processCall{Addr: d.addr, Args: []string{"run"}, Attached: true, Stdin: stuck})
		conn := <-d.conns
		defer conn.Close()
		io.WriteString(conn, "\x01\x00\x00\x00\x00\x00\x00\x05ready")
		b.ready()
		if stuck {
			go b.stdin.Write(make([]byte, 64<<20))
			time.Sleep(200 * time.Millisecond) // all buffers on the way are full
		}
		for range 3 {
			select {
			case <-b.done:
				t.Fatalf("stuck %v: ended too soon: %q", stuck, b.stderr.String())
			default:
			}
			b.cmd.Process.Signal(syscall.SIGINT)
			time.Sleep(30 * time.Millisecond)
		}
		if status := b.status(); status != 130 || !strings.Contains(b.stderr.String(), "the container still runs") {
			t.Errorf("stuck %v: status %d, %q", stuck, status, b.stderr.String())
		}
	}
}

// A call that is no process dies of a signal as any program does, and the
// daemon notices at once.
func TestSignalOfAPlainCall(t *testing.T) {
	gone := make(chan error, 1)
	addr := serve(t, service{"logs": func(ctx context.Context, c *rcli.Call) error {
		io.WriteString(c.Stdout, "ready")
		<-ctx.Done()
		gone <- context.Cause(ctx)
		return nil
	}})
	b := startWithout(t, processCall{Addr: addr, Args: []string{"logs"}})
	b.ready()
	b.cmd.Process.Signal(syscall.SIGINT)
	b.status()
	if ws, ok := b.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGINT {
		t.Errorf("it ended by %v", b.cmd.ProcessState)
	}
	select {
	case cause := <-gone:
		if !errors.Is(cause, rcli.ErrGone) {
			t.Errorf("the cause is %v", cause)
		}
	case <-time.After(10 * time.Second):
		t.Error("the daemon did not notice")
	}
}
