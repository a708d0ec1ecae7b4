package cli2013

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"docker2013/rcli"
)

// process is a client that runs as a process of its own.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	tty  *os.File // the other end of its terminal
	done chan struct{}
}

func command(t *testing.T, p processCall) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CLI2013_TEST_CALL="+string(text))
	return cmd
}

// start starts a client on a terminal of 24 rows and 80 columns. before changes
// the command, where it isn't nil.
func start(t *testing.T, p processCall, before func(*exec.Cmd)) *process {
	t.Helper()
	cmd := command(t, p)
	if before != nil {
		before(cmd)
	}
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		t.Fatal(err)
	}
	proc := &process{t, cmd, tty, make(chan struct{})}
	go func() {
		cmd.Wait()
		close(proc.done)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-proc.done
		tty.Close()
	})
	return proc
}

// raw reports whether the terminal is in raw mode.
func (p *process) raw() bool {
	p.t.Helper()
	mode, err := unix.IoctlGetTermios(int(p.tty.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatal(err)
	}
	return mode.Lflag&(unix.ECHO|unix.ICANON|unix.ISIG) == 0
}

// status waits for the end.
func (p *process) status() int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(10 * time.Second):
		p.t.Fatal("the client does not end")
		return 0
	}
}

// until reads the terminal until text came.
func (p *process) until(text string) string {
	p.t.Helper()
	p.tty.SetReadDeadline(time.Now().Add(10 * time.Second))
	var got strings.Builder
	r := bufio.NewReader(p.tty)
	for !strings.Contains(got.String(), text) {
		b, err := r.ReadByte()
		if err != nil {
			p.t.Fatalf("got %q, then %v; want %q", got.String(), err, text)
		}
		got.WriteByte(b)
	}
	return got.String()
}

// shell says "ready", then what it gets, until a q.
var shell = service{
	"shell": func(ctx context.Context, c *rcli.Call) error {
		io.WriteString(c.Stdout, "ready")
		in := bufio.NewReader(c.Stdin)
		for {
			b, err := in.ReadByte()
			if err != nil {
				return err
			}
			if b == 'q' {
				return &rcli.Exit{Code: 7}
			}
			if _, err := c.Stdout.Write([]byte{'<', '0' + b/16, '0' + b%16, '>'}); err != nil {
				return err
			}
		}
	},
	"hang": func(ctx context.Context, c *rcli.Call) error {
		io.WriteString(c.Stdout, "ready")
		<-ctx.Done()
		return ctx.Err()
	},
	"text": func(ctx context.Context, c *rcli.Call) error {
		io.WriteString(c.Stderr, "one\ntwo\n")
		return errors.New("the end")
	},
}

// Every key reaches the container, and the terminal is given back.
func TestRawMode(t *testing.T) {
	addr := serve(t, shell)
	for _, row := range []struct {
		name   string
		call   processCall
		status int
	}{
		{"framed", processCall{Addr: addr, Args: []string{"shell"}, TTY: true, Stdin: true, Attached: true}, 7},
		{"2013", processCall{Addr: addr, Args: []string{"shell"}, Wire2013: true}, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := start(t, row.call, nil)
			p.until("ready")
			if !p.raw() {
				t.Error("the terminal is not raw")
			}
			p.tty.WriteString("\x03\x1a\x04\r")
			if got := p.until("<0=>"); got != "<03><1:><04><0=>" { // nothing was echoed
				t.Errorf("got %q", got)
			}
			p.tty.WriteString("q")
			if got := p.status(); got != row.status {
				t.Errorf("status %d", got)
			}
			if p.raw() {
				t.Error("the terminal stays raw")
			}
		})
	}
}

// The terminal is not raw where it must not be.
func TestNotRaw(t *testing.T) {
	addr := serve(t, shell)
	for _, row := range []struct {
		name string
		call processCall
	}{
		{"NORAW", processCall{Addr: addr, Args: []string{"hang"}, TTY: true, Stdin: true, NoRaw: true}},
		{"NORAW 2013", processCall{Addr: addr, Args: []string{"hang"}, Wire2013: true, NoRaw: true}},
		{"no terminal of its own", processCall{Addr: addr, Args: []string{"hang"}, Stdin: true}},
		{"no input", processCall{Addr: addr, Args: []string{"hang"}, TTY: true}},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := start(t, row.call, nil)
			p.until("ready")
			if p.raw() {
				t.Error("the terminal is raw")
			}
		})
	}
}

// The terminal is given back whatever ends the client.
func TestRestore(t *testing.T) {
	addr := serve(t, shell)
	call := processCall{Addr: addr, Args: []string{"hang"}, TTY: true, Stdin: true, Attached: true}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT} {
		t.Run(sig.String(), func(t *testing.T) {
			p := start(t, call, nil)
			p.until("ready")
			if !p.raw() {
				t.Fatal("the terminal is not raw")
			}
			p.cmd.Process.Signal(sig)
			if got := p.status(); got != 128+int(sig) {
				t.Errorf("status %d", got)
			}
			if p.raw() {
				t.Error("the terminal stays raw")
			}
		})
	}
	t.Run("a panic", func(t *testing.T) {
		call := call
		call.Panic = true
		p := start(t, call, nil)
		go io.Copy(io.Discard, p.tty)
		if got := p.status(); got != 2 {
			t.Errorf("status %d", got)
		}
		if p.raw() {
			t.Error("the terminal stays raw")
		}
	})
	t.Run("stdout is a broken pipe", func(t *testing.T) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		p := start(t, call, func(cmd *exec.Cmd) { cmd.Stdout = w })
		w.Close()
		if got := p.status(); got != 128+int(syscall.SIGPIPE) {
			t.Errorf("status %d", got)
		}
		if p.raw() {
			t.Error("the terminal stays raw")
		}
	})
	t.Run("a daemon that goes away", func(t *testing.T) {
		l := silent(t)
		call := call
		call.Addr = l.addr
		p := start(t, call, nil)
		conn := <-l.conns
		for end := time.Now().Add(5 * time.Second); !p.raw() && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		conn.Close()
		p.until("docker2013: connection to the daemon lost")
		if got := p.status(); got != 125 {
			t.Errorf("status %d", got)
		}
		if p.raw() {
			t.Error("the terminal stays raw")
		}
	})
	// The client writes to the connection before it has read to its end.
	t.Run("a daemon that has gone away", func(t *testing.T) {
		l := silent(t)
		call := call
		call.Addr = l.addr
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		p := start(t, call, func(cmd *exec.Cmd) { cmd.Stdout = w })
		w.Close()
		conn := (<-l.conns).(*net.TCPConn)
		frame := append([]byte{1, 0, 0, 0, 0, 0, 0x80, 0}, make([]byte, 0x8000)...)
		for range 4 { // twice what the pipe holds
			conn.Write(frame)
		}
		for n := 0; n < 0x10000; time.Sleep(time.Millisecond) {
			if n, err = unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ); err != nil {
				t.Fatal(err)
			}
		}
		conn.SetLinger(0)
		conn.Close()
		for rows := range uint16(20) {
			pty.Setsize(p.tty, &pty.Winsize{Rows: 30 + rows, Cols: 80})
			time.Sleep(5 * time.Millisecond)
		}
		go io.Copy(io.Discard, r)
		p.until("docker2013: connection to the daemon lost")
		if got := p.status(); got != 125 {
			t.Errorf("status %d", got)
		}
		if p.raw() {
			t.Error("the terminal stays raw")
		}
	})
}

// Text of the daemon's own is in lines though the terminal is raw.
func TestLinesInRawMode(t *testing.T) {
	p := start(t, processCall{Addr: serve(t, shell), Args: []string{"text"}, TTY: true, Stdin: true}, nil)
	if got := p.until("the end\r\n"); got != "one\r\ntwo\r\nError: the end\r\n" {
		t.Errorf("got %q", got)
	}
}

// The terminal's size is sent at the start, and at every change.
func TestWindow(t *testing.T) {
	sizes := make(chan rcli.Window, 8)
	addr := serve(t, service{"sizes": func(ctx context.Context, c *rcli.Call) error {
		for {
			select {
			case w := <-c.Resize:
				sizes <- w
			case <-ctx.Done():
				return nil
			}
		}
	}})
	want := func(w rcli.Window) {
		t.Helper()
		select {
		case got := <-sizes:
			if got != w {
				t.Errorf("got %+v, want %+v", got, w)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%+v never came", w)
		}
	}
	p := start(t, processCall{Addr: addr, Args: []string{"sizes"}, TTY: true, Stdin: true}, nil)
	want(rcli.Window{Rows: 24, Cols: 80})
	for _, w := range []rcli.Window{{Rows: 50, Cols: 132}, {Rows: 10, Cols: 40}} {
		if err := pty.Setsize(p.tty, &pty.Winsize{Rows: w.Rows, Cols: w.Cols}); err != nil {
			t.Fatal(err)
		}
		want(w)
	}
}
