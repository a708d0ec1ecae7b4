package cli2013

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"docker2013/rcli"
)

// TestMain is also the main of the client that the tests start as a process.
func TestMain(m *testing.M) {
	if signal.Ignored(syscall.SIGHUP) { // by nohup make test
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	if text := os.Getenv("CLI2013_TEST_CALL"); text != "" {
		os.Exit(runProcess(text))
	}
	os.Exit(m.Run())
}

// service is a daemon made of functions.
type service map[string]func(ctx context.Context, c *rcli.Call) error

func (service) Help() string { return "the help\n" }

func (s service) Serve(ctx context.Context, c *rcli.Call) error {
	if f, ok := s[c.Args[0]]; ok {
		return f(ctx, c)
	}
	return errors.New("No such command: " + c.Args[0])
}

// serve runs the service until the test's end.
func serve(t *testing.T, s service) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- (&rcli.Server{Service: s, Linger: 100 * time.Millisecond}).Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// files are a client's three, off a terminal.
type files struct {
	in          *os.File // what the client reads
	out, errout *os.File
}

func newFiles(t *testing.T, stdin string) *files {
	t.Helper()
	f := &files{}
	for _, file := range []**os.File{&f.in, &f.out, &f.errout} {
		var err error
		if *file, err = os.CreateTemp(t.TempDir(), ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*file).Close() })
	}
	f.in.WriteString(stdin)
	f.in.Seek(0, io.SeekStart)
	return f
}

func (f *files) client(addr string) *Client {
	return &Client{Addr: addr, Stdin: f.in, Stdout: f.out, Stderr: f.errout}
}

func content(t *testing.T, f *os.File) string {
	t.Helper()
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var daemon = service{
	"args": func(_ context.Context, c *rcli.Call) error {
		fmt.Fprintf(c.Stdout, "%q progress %v trace %v wire %s\n", c.Args, c.Progress, c.Trace, c.Wire)
		return nil
	},
	"mirror": func(_ context.Context, c *rcli.Call) error {
		_, err := io.Copy(c.Stdout, c.Stdin)
		return err
	},
	"both": func(_ context.Context, c *rcli.Call) error {
		io.WriteString(c.Stdout, "out\n")
		io.WriteString(c.Stderr, "err\n")
		return nil
	},
	"status": func(context.Context, *rcli.Call) error { return &rcli.Exit{Code: 42} },
	"no":     func(context.Context, *rcli.Call) error { return errors.New("No such container: no") },
	"lost":   func(context.Context, *rcli.Call) error { return rcli.Exitf(127, "no such program: x") },
	"trace": func(_ context.Context, c *rcli.Call) error {
		if !c.Trace {
			return nil
		}
		return c.Event([]byte(`{"seq":991,"step":"union.mount","duration_ns":1200000,"source":"aufs/aufs.go:41","values":{"bytes":1048576}}`))
	},
}

func TestRun(t *testing.T) {
	addr := serve(t, daemon)
	for _, row := range []struct {
		name   string
		call   Call
		stdin  string
		status int
		stdout string
		stderr string
	}{
		{"output", Call{Args: []string{"both"}}, "", 0, "out\n", "err\n"},
		{"arguments", Call{Args: []string{"args", "-x", "a b"}}, "", 0, `["args" "-x" "a b"] progress false trace false wire framed` + "\n", ""},
		{"progress", Call{Args: []string{"args"}, Progress: true}, "", 0, `["args"] progress true trace false wire framed` + "\n", ""},
		{"the container's status", Call{Args: []string{"status"}}, "", 42, "", ""},
		{"the daemon's error", Call{Args: []string{"no"}}, "", 125, "", "Error: No such container: no\n"},
		{"a status and a text", Call{Args: []string{"lost"}}, "", 127, "", "Error: no such program: x\n"},
		{"a terminal that isn't there", Call{Args: []string{"both"}, TTY: true}, "", 0, "out\n", "err\n"},
		{"an argument with NUL", Call{Args: []string{"a\x00"}}, "", 125, "", "docker2013: protocol error: argument 1 has a NUL byte\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := newFiles(t, row.stdin)
			status := f.client(addr).Run(t.Context(), row.call)
			if out, errout := content(t, f.out), content(t, f.errout); status != row.status || out != row.stdout || errout != row.stderr {
				t.Errorf("got %d, stdout %q, stderr %q; want %d, %q, %q", status, out, errout, row.status, row.stdout, row.stderr)
			}
		})
	}
	t.Run("input", func(t *testing.T) {
		f := newFiles(t, "the input")
		if status := f.client(addr).Run(t.Context(), Call{Args: []string{"mirror"}, Stdin: f.in}); status != 0 {
			t.Errorf("status %d", status)
		}
		if got := content(t, f.out); got != "the input" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("its own output", func(t *testing.T) {
		f := newFiles(t, "")
		var out bytes.Buffer
		f.client(addr).Run(t.Context(), Call{Args: []string{"both"}, Stdout: &out})
		if out.String() != "out\n" || content(t, f.out) != "" {
			t.Errorf("got %q and %q", out.String(), content(t, f.out))
		}
	})
}

// The client of 2013: all is one stream, and the status tells nothing.
func TestRun2013(t *testing.T) {
	addr := serve(t, daemon)
	for _, row := range []struct {
		name, stdin string
		args        []string
		want        string
	}{
		{"output", "", []string{"both"}, "out\nerr\n"},
		{"as typed", "", []string{"args", "-a", "--", ""}, `["args" "-a" "--" ""] progress false trace false wire raw` + "\n"},
		{"input", "the input", []string{"mirror"}, "the input"},
		{"a status is not seen", "", []string{"status"}, ""},
		{"an error is output", "", []string{"no"}, "Error: No such container: no\n"},
		{"nothing", "", nil, "Error: No such command: help\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := newFiles(t, row.stdin)
			if status := f.client(addr).Run2013(t.Context(), row.args); status != 0 {
				t.Errorf("status %d", status)
			}
			if got := content(t, f.out); got != row.want || content(t, f.errout) != "" {
				t.Errorf("got %q, want %q; stderr %q", got, row.want, content(t, f.errout))
			}
		})
	}
}

// freeAddr is an address that nobody listens on.
func freeAddr(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestNoDaemon(t *testing.T) {
	addr := freeAddr(t)
	want := "docker2013: no daemon at " + addr + " (connection refused); if that is the right address, start one with: sudo dockerd2013 --tcp " + addr + "\n"
	f := newFiles(t, "")
	if status := f.client(addr).Run(t.Context(), Call{Args: []string{"ps"}}); status != 125 || content(t, f.errout) != want {
		t.Errorf("framed: %d, %q", status, content(t, f.errout))
	}
	f = newFiles(t, "")
	if status := f.client(addr).Run2013(t.Context(), []string{"ps"}); status != 1 || content(t, f.errout) != want {
		t.Errorf("2013: %d, %q", status, content(t, f.errout))
	}
}

// A daemon that breaks off, and one that knows no frames.
func TestBadDaemon(t *testing.T) {
	for _, row := range []struct{ name, answer, want string }{
		{"breaks off", "\x01\x00\x00\x00\x00\x00\x00\x01a", "docker2013: connection to the daemon lost: it ended before the exit status; the container may still run\n"},
		{"of 2013", "flag provided but not defined: -framed\n", "docker2013: protocol error: the answer is not framed: \"flag provided but not defined: -framed\\n\"\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				io.WriteString(conn, row.answer)
				conn.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, conn)
				conn.Close()
			}()
			f := newFiles(t, "")
			status := f.client(l.Addr().String()).Run(t.Context(), Call{Args: []string{"run"}, Attached: true})
			if status != 125 || content(t, f.errout) != row.want {
				t.Errorf("got %d, %q; want %q", status, content(t, f.errout), row.want)
			}
		})
	}
}

// An input that can't be read to its end must not pass for a complete one.
func TestBrokenInput(t *testing.T) {
	got := make(chan error, 1)
	addr := serve(t, service{"put": func(_ context.Context, c *rcli.Call) error {
		_, err := io.Copy(io.Discard, c.Stdin)
		got <- err
		return err
	}})
	f := newFiles(t, "")
	input := io.MultiReader(strings.NewReader("half of it"), broken{})
	if status := f.client(addr).Run(t.Context(), Call{Args: []string{"put"}, Stdin: input}); status != 125 ||
		content(t, f.errout) != "docker2013: read the input: bad disk\n" {
		t.Errorf("got %d, %q", status, content(t, f.errout))
	}
	if err := <-got; !errors.Is(err, rcli.ErrGone) {
		t.Errorf("the daemon read to %v", err)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("bad disk") }

func TestTrace(t *testing.T) {
	addr := serve(t, daemon)
	t.Run("text", func(t *testing.T) {
		f := newFiles(t, "")
		c := f.client(addr)
		c.Trace = TraceText
		c.Run(t.Context(), Call{Args: []string{"trace"}})
		lines := strings.Split(content(t, f.errout), "\n")
		for i, want := range []string{" 1  cli.dial ", " 2  cli.call ", " 3  union.mount "} {
			if !strings.HasPrefix(lines[i], want) {
				t.Errorf("line %d is %q, want %q", i, lines[i], want)
			}
		}
		if !strings.Contains(lines[1], `["-framed","-trace","trace"]`) || !strings.Contains(lines[2], "bytes=1048576") {
			t.Errorf("got %q", lines)
		}
	})
	t.Run("json", func(t *testing.T) {
		f := newFiles(t, "")
		c := f.client(addr)
		c.Trace = TraceJSON
		c.Run(t.Context(), Call{Args: []string{"trace"}})
		d := json.NewDecoder(strings.NewReader(content(t, f.errout)))
		for i, step := range []string{"cli.dial", "cli.call", "union.mount"} {
			var e struct {
				Seq    int
				Step   string
				Source string
			}
			if err := d.Decode(&e); err != nil || e.Seq != i+1 || e.Step != step || e.Source == "" {
				t.Errorf("got %+v, %v; want %d %s", e, err, i+1, step)
			}
		}
	})
	t.Run("the client of 2013", func(t *testing.T) {
		f := newFiles(t, "")
		c := f.client(addr)
		c.Trace = TraceText
		c.Run2013(t.Context(), []string{"trace"})
		if got := content(t, f.errout); strings.Count(got, "\n") != 2 || !strings.Contains(got, `line=["trace"]`) {
			t.Errorf("got %q", got)
		}
	})
	t.Run("no daemon", func(t *testing.T) {
		f := newFiles(t, "")
		c := f.client(freeAddr(t))
		c.Trace = TraceText
		c.Run(t.Context(), Call{Args: []string{"trace"}})
		if got := content(t, f.errout); !strings.HasPrefix(got, " 1  cli.dial ") || !strings.Contains(got, "failed: ") {
			t.Errorf("got %q", got)
		}
	})
}

func TestOutput(t *testing.T) {
	hang := service{"hang": func(ctx context.Context, _ *rcli.Call) error { <-ctx.Done(); return nil }, "both": daemon["both"], "no": daemon["no"]}
	c := &Client{Addr: serve(t, hang)}
	if got, err := c.Output(t.Context(), "both"); got != "out\n" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := c.Output(t.Context(), "no"); err == nil || err.Error() != "No such container: no" {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Output(ctx, "hang"); err == nil {
		t.Error("no error from a daemon that hangs")
	}
}

// processCall is a client to be run as a process.
type processCall struct {
	Addr                         string
	Args                         []string
	TTY, Attached, Stdin         bool
	NoRaw, Panic, Wire2013, Mute bool
}

// runProcess is the main of that process.
func runProcess(text string) int {
	var p processCall
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		panic(err)
	}
	c := &Client{Addr: p.Addr, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, NoRaw: p.NoRaw}
	if p.Wire2013 {
		return c.Run2013(context.Background(), p.Args)
	}
	call := Call{Args: p.Args, TTY: p.TTY, Attached: p.Attached}
	if p.Stdin {
		call.Stdin = os.Stdin
	}
	if p.Panic {
		call.Stdout = panicking{}
	}
	if p.Mute {
		signal.Ignore(syscall.SIGHUP) // as nohup(1) does
	}
	return c.Run(context.Background(), call)
}

type panicking struct{}

func (panicking) Write([]byte) (int, error) { panic("a bug in the client") }
