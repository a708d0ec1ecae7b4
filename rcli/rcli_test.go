package rcli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// commands is a service made of functions.
type commands map[string]func(ctx context.Context, c *Call) error

func (commands) Help() string { return "the help\n" }

func (s commands) Serve(ctx context.Context, c *Call) error {
	f, ok := s[c.Args[0]]
	if !ok {
		return errors.New("No such command: " + c.Args[0])
	}
	return f(ctx, c)
}

// mirror is the service the wire's tests talk to most.
var mirror = commands{
	"help": func(_ context.Context, c *Call) error {
		_, err := io.WriteString(c.Stdout, "the help\n")
		return err
	},
	"mirror": func(_ context.Context, c *Call) error {
		_, err := io.Copy(c.Stdout, c.Stdin)
		return err
	},
	"args": func(_ context.Context, c *Call) error {
		_, err := io.WriteString(c.Stdout, strings.Join(c.Args[1:], "|"))
		return err
	},
	"hang": func(ctx context.Context, c *Call) error {
		<-ctx.Done()
		return ctx.Err()
	},
}

// listen serves on a free port. At the test's end the server must end, and
// leave no goroutine.
func listen(t testing.TB, s *Server) (addr string) {
	t.Helper()
	before := runtime.NumGoroutine()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-served:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("Serve does not return")
		}
		noMore(t, before)
	})
	return l.Addr().String()
}

// noMore fails the test if more goroutines than before stay.
func noMore(t testing.TB, before int) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before,
				stacks[:runtime.Stack(stacks, true)])
		}
	}
}

func dial(t testing.TB, addr string) *Conn {
	t.Helper()
	conn, err := Dial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second)) // a test never hangs
	return conn
}

func call(t testing.TB, addr string, args ...string) *Conn {
	t.Helper()
	conn := dial(t, addr)
	if err := conn.Send(args); err != nil {
		t.Fatal(err)
	}
	return conn
}

// raw makes a raw call with all its input, and returns all its output.
func raw(t testing.TB, addr, stdin string, args ...string) string {
	t.Helper()
	conn := call(t, addr, args...)
	io.WriteString(conn, stdin)
	conn.CloseWrite()
	out, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// result is a framed call's answer.
type result struct {
	stdout, stderr bytes.Buffer
	events         []string
	err            error
}

func receiveAll(s *Session) *result {
	r := &result{}
	r.err = s.Receive(Answer{&r.stdout, &r.stderr, func(e []byte) { r.events = append(r.events, string(e)) }})
	return r
}

// framed makes a framed call with all its input.
func framed(t testing.TB, addr, stdin string, args ...string) *result {
	t.Helper()
	s := NewSession(call(t, addr, append([]string{"-framed"}, args...)...))
	io.WriteString(s.Stdin, stdin)
	s.Stdin.Close()
	return receiveAll(s)
}

func TestRaw(t *testing.T) {
	addr := listen(t, &Server{Service: mirror})
	for _, row := range []struct {
		name, stdin string
		args        []string
		want        string
	}{
		{"arguments", "", []string{"args", "a b", "", "é"}, "a b||é"},
		{"stdin", "in\nput", []string{"mirror"}, "in\nput"},
		{"an error", "", []string{"nope"}, "Error: No such command: nope\n"},
		{"an empty call", "", []string{}, "the help\n"},
		{"only flags", "", []string{"-progress"}, "the help\n"},
		{"an empty name", "", []string{""}, "Error: No such command: \n"},
		{"-h", "", []string{"-h"}, "the help\nError: flag: help requested\n"},
		{"an unknown flag", "", []string{"-x", "args"}, "flag provided but not defined: -x\nthe help\nError: flag provided but not defined: -x\n"},
		{"flags of the command", "", []string{"args", "-framed", "-x"}, "-framed|-x"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := raw(t, addr, row.stdin, row.args...); got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

func TestFramed(t *testing.T) {
	service := commands{
		"streams": func(_ context.Context, c *Call) error {
			io.WriteString(c.Stdout, "out")
			io.WriteString(c.Stderr, "err")
			c.Event([]byte(`{"seq":1}`))
			return nil
		},
		"status": func(context.Context, *Call) error { return &Exit{Code: 3} },
		"text":   func(context.Context, *Call) error { return Exitf(127, "no such program: %s", "x") },
		"zero":   func(context.Context, *Call) error { return Exitf(0, "a warning") },
		"error":  func(context.Context, *Call) error { return errors.New("No such container: x") },
		"bytes":  func(context.Context, *Call) error { return errors.New("bad \xff") },
		"long":   func(context.Context, *Call) error { return errors.New(strings.Repeat("x", 2<<20)) },
		"bad":    func(context.Context, *Call) error { return &Exit{Code: 256} },
		"panic":  func(context.Context, *Call) error { panic("a bug") },
		"mirror": mirror["mirror"],
	}
	addr := listen(t, &Server{Service: service})
	for _, row := range []struct {
		name                       string
		args                       []string
		stdin                      string
		stdout, stderr, text, code any
		events                     int
	}{
		{"streams", []string{"streams"}, "", "out", "err", "", 0, 0},
		{"trace", []string{"-trace", "streams"}, "", "out", "err", "", 0, 1},
		{"stdin", []string{"mirror"}, "in", "in", "", "", 0, 0},
		{"a status alone", []string{"status"}, "", "", "", "", 3, 0},
		{"a status and a text", []string{"text"}, "", "", "", "no such program: x", 127, 0},
		{"a text and status 0", []string{"zero"}, "", "", "", "a warning", 0, 0},
		{"an error", []string{"error"}, "", "", "", "No such container: x", 125, 0},
		{"an error that is not text", []string{"bytes"}, "", "", "", "bad \uFFFD", 125, 0},
		{"an error longer than a frame", []string{"long"}, "", "", "", strings.Repeat("x", MaxPayload), 125, 0},
		{"an impossible status", []string{"bad"}, "", "", "", "", 125, 0},
		{"a panic", []string{"panic"}, "", "", "", "internal error: a bug (the daemon's log has the stack)", 125, 0},
		{"-h", []string{"-h"}, "", "the help\n", "", "flag: help requested", 125, 0},
		{"an unknown flag", []string{"-x"}, "", "", "flag provided but not defined: -x\nthe help\n", "flag provided but not defined: -x", 125, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := framed(t, addr, row.stdin, row.args...)
			text, code := "", 0
			var exit *Exit
			if errors.As(got.err, &exit) {
				text, code = exit.Error(), exit.Code
			} else if got.err != nil {
				t.Fatal(got.err)
			}
			if got.stdout.String() != row.stdout || got.stderr.String() != row.stderr ||
				text != row.text || code != row.code || len(got.events) != row.events {
				t.Errorf("got stdout %q, stderr %q, text %.80q, code %d, events %q; want %+v",
					got.stdout.String(), got.stderr.String(), text, code, got.events, row)
			}
		})
	}
}

// A malformed call line is answered on the raw wire, and the daemon goes on.
func TestMalformedLine(t *testing.T) {
	addr := listen(t, &Server{Service: mirror, LineTimeout: 5 * time.Second})
	for _, row := range []struct{ name, line, want string }{
		{"nothing at all", "", "ended before the call line's newline"},
		{"no newline", `["help"]`, "ended before the call line's newline"},
		{"not JSON", "help\n", "not a JSON array of strings"},
		{"HTTP", "GET / HTTP/1.1\r\n\r\n", "not a JSON array of strings"},
		{"an empty line", "\n", "not a JSON array of strings"},
		{"an object", "{}\n", "not a JSON array of strings"},
		{"a string", "\"help\"\n", "not a JSON array of strings"},
		{"null", "null\n", "is null"},
		{"a number in it", "[\"a\",1]\n", "not a JSON array of strings"},
		{"an array in it", "[[\"a\"]]\n", "not a JSON array of strings"},
		{"null in it", "[\"a\",null]\n", "argument 1 is null"},
		{"two arrays", "[\"a\"][\"b\"]\n", "not a JSON array of strings"},
		{"deep nesting", strings.Repeat("[", 20000) + "\n", "not a JSON array of strings"},
		{"a NUL byte", "[\"args\",\"a\\u0000b\"]\n", "argument 1 has a NUL byte"},
		{"not UTF-8", "[\"args\",\"\xff\"]\n", "not valid UTF-8"},
		{"half a surrogate pair", "[\"args\",\"\\ud83d\"]\n", "half a surrogate pair"},
		{"two first halves", "[\"args\",\"\\ud83d\\ud83d\"]\n", "half a surrogate pair"},
		{"a byte too long", "[\"args\",\"" + strings.Repeat("x", MaxLine-len("[\"args\",\"\"]")) + "\"]\n", "longer than 1048576 bytes"},
		{"much too long", strings.Repeat("x", 4*MaxLine), "longer than 1048576 bytes"},
	} {
		t.Run(row.name, func(t *testing.T) {
			conn := dial(t, addr)
			io.WriteString(conn, row.line)
			conn.CloseWrite()
			out, err := io.ReadAll(conn)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(out); !strings.HasPrefix(got, "Error: protocol error: ") ||
				!strings.Contains(got, row.want) || strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "\n") {
				t.Errorf("got %q, want an error with %q", got, row.want)
			}
		})
	}
	for _, row := range []struct{ name, line, want string }{
		{"as long as can be", "[\"args\",\"" + strings.Repeat("x", MaxLine-len("[\"args\",\"\"]\n")) + "\"]\n", strings.Repeat("x", MaxLine-12)},
		{"a surrogate pair", "[\"args\",\"\\ud83d\\ude00\"]\n", "😀"},
		{"an escaped backslash", "[\"args\",\"\\\\ud83d\"]\n", `\ud83d`},
		{"U+FFFD itself", "[\"args\",\"\uFFFD\"]\n", "\uFFFD"},
		{"CR LF", "[\"args\",\"a\"]\r\n", "a"},
		{"white space", " [ \"args\" , \"a\" ] \n", "a"},
	} {
		t.Run(row.name, func(t *testing.T) {
			conn := dial(t, addr)
			io.WriteString(conn, row.line)
			conn.CloseWrite()
			if out, err := io.ReadAll(conn); err != nil || string(out) != row.want {
				t.Errorf("got %.80q, %v; want %.80q", out, err, row.want)
			}
		})
	}
}

// A client that is slow with its line is dropped, drip by drip or silent.
func TestLineTimeout(t *testing.T) {
	const timeout = 100 * time.Millisecond
	addr := listen(t, &Server{Service: mirror, LineTimeout: timeout, Linger: timeout})
	for _, drip := range []string{"", "["} {
		start := time.Now()
		conn := dial(t, addr)
		var dripping sync.WaitGroup
		stop := make(chan struct{})
		if drip != "" {
			dripping.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(timeout / 10):
						io.WriteString(conn, drip)
					}
				}
			})
		}
		out, _ := io.ReadAll(conn) // the drip may meet the closed connection
		if want := "Error: protocol error: no call line within 100ms\n"; string(out) != want {
			t.Errorf("drip %q: got %q, want %q", drip, out, want)
		}
		if took := time.Since(start); took < timeout || took > 20*timeout {
			t.Errorf("drip %q: dropped after %v", drip, took)
		}
		close(stop)
		dripping.Wait()
	}
}

// What a frame must not be ends the call with one error and one exit status.
func TestMalformedFrame(t *testing.T) {
	addr := listen(t, &Server{Service: mirror})
	for _, row := range []struct{ name, frames, want string }{
		{"a cut header", "\x00\x00\x00", "3 bytes into a frame's header"},
		{"a cut payload", "\x00\x00\x00\x00\x00\x00\x00\x05abc", "3 bytes into a frame (stdin) of 5"},
		{"no payload", "\x00\x00\x00\x00\x00\x00\x00\x05", "0 bytes into a frame (stdin) of 5"},
		{"no end of stdin", "\x00\x00\x00\x00\x00\x00\x00\x01a", "ended before a frame 5"},
		{"nothing", "", "ended before a frame 5"},
		{"a byte too big", "\x00\x00\x00\x00\x00\x10\x00\x01", "of 1048577 bytes"},
		{"the biggest length", "\x00\x00\x00\x00\xff\xff\xff\xff", "of 4294967295 bytes"},
		{"raw bytes", "hello, world", "not zero"},
		{"a reserved byte", "\x00\x00\x01\x00\x00\x00\x00\x00", "not zero"},
		{"a server's frame", "\x01\x00\x00\x00\x00\x00\x00\x00", "(stdout) that no client sends"},
		{"an unknown type", "\x09\x00\x00\x00\x00\x00\x00\x00", "(type 9) that no client sends"},
		{"stdin after its end", "\x05\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x01a", "after the end of stdin"},
		{"two ends of stdin", "\x05\x00\x00\x00\x00\x00\x00\x00" + "\x05\x00\x00\x00\x00\x00\x00\x00", "a second frame"},
		{"an end of stdin with bytes", "\x05\x00\x00\x00\x00\x00\x00\x01a", "it is empty"},
		{"a window of 3 bytes", "\x06\x00\x00\x00\x00\x00\x00\x03abc", "it has 4"},
		{"a window of 1 MiB", "\x06\x00\x00\x00\x00\x10\x00\x00", "it has 4"},
		{"a cut window", "\x06\x00\x00\x00\x00\x00\x00\x04ab", "2 bytes into a frame"},
		{"signal 0", "\x07\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00", "signal 0"},
		{"signal 65", "\x07\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x41", "signal 65"},
		{"a signal of no bytes", "\x07\x00\x00\x00\x00\x00\x00\x00", "it has 4"},
	} {
		t.Run(row.name, func(t *testing.T) {
			conn := call(t, addr, "-framed", "hang")
			io.WriteString(conn, row.frames)
			conn.CloseWrite()
			got := receiveAll(NewSession(conn))
			var exit *Exit
			if !errors.As(got.err, &exit) || exit.Code != StatusOurs || !strings.Contains(exit.Error(), row.want) {
				t.Errorf("got %v, want an error with %q", got.err, row.want)
			}
			if rest, err := io.ReadAll(conn); len(rest) > 0 || err != nil {
				t.Errorf("after the exit status came %q, %v", rest, err)
			}
		})
	}
}

// The server goes on sending after the client's half close.
func TestRawHalfClose(t *testing.T) {
	addr := listen(t, &Server{Service: commands{"late": func(_ context.Context, c *Call) error {
		in, err := io.ReadAll(c.Stdin)
		time.Sleep(20 * time.Millisecond)
		io.WriteString(c.Stdout, "late "+string(in))
		return err
	}}})
	if got := raw(t, addr, "input", "late"); got != "late input" {
		t.Errorf("got %q", got)
	}
}

// The call's line and its stdin may come in one packet, or the line in many.
func TestLineAndStdinTogether(t *testing.T) {
	addr := listen(t, &Server{Service: mirror})
	for _, size := range []int{1, 3, 1000} {
		conn := dial(t, addr)
		text := "[\"mirror\"]\nbehind the line"
		for i := 0; i < len(text); i += size {
			io.WriteString(conn, text[i:min(i+size, len(text))])
		}
		conn.CloseWrite()
		if out, err := io.ReadAll(conn); err != nil || string(out) != "behind the line" {
			t.Errorf("pieces of %d: got %q, %v", size, out, err)
		}
	}
}

// A client gets the whole answer though the command never read what it sends.
func TestLinger(t *testing.T) {
	answer := bytes.Repeat([]byte("answer\n"), 1<<17)
	service := commands{
		"deaf": func(_ context.Context, c *Call) error {
			c.Stdin.Close()
			_, err := c.Stdout.Write(answer)
			return err
		},
		"absent": func(_ context.Context, c *Call) error {
			time.Sleep(30 * time.Millisecond) // until no more stdin has room
			_, err := c.Stdout.Write(answer)
			return err
		},
	}
	addr := listen(t, &Server{Service: service})
	for command := range service {
		t.Run("raw "+command, func(t *testing.T) {
			conn := call(t, addr, command)
			var sending sync.WaitGroup
			sending.Go(func() {
				conn.Write(make([]byte, 8<<20))
				conn.CloseWrite()
			})
			time.Sleep(50 * time.Millisecond) // the server has answered, and still is sent to
			out, err := io.ReadAll(conn)
			if err != nil || !bytes.Equal(out, answer) {
				t.Errorf("got %d bytes, %v; want %d", len(out), err, len(answer))
			}
			sending.Wait()
		})
		t.Run("framed "+command, func(t *testing.T) {
			s := NewSession(call(t, addr, "-framed", command))
			var sending sync.WaitGroup
			sending.Go(func() {
				s.Stdin.Write(make([]byte, 8<<20))
				s.Stdin.Close()
			})
			time.Sleep(50 * time.Millisecond)
			got := receiveAll(s)
			if got.err != nil || !bytes.Equal(got.stdout.Bytes(), answer) {
				t.Errorf("got %d bytes, %v; want %d", got.stdout.Len(), got.err, len(answer))
			}
			s.conn.(*Conn).Close()
			sending.Wait()
		})
	}
	t.Run("bounded", func(t *testing.T) {
		conn := call(t, listen(t, &Server{Service: service, Linger: 50 * time.Millisecond}), "deaf")
		start := time.Now()
		go io.Copy(io.Discard, conn)
		for {
			if _, err := conn.Write(make([]byte, 1<<16)); err != nil {
				break
			}
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("the server listened for %v", took)
		}
	})
}

// Window sizes and signals come through while nobody reads stdin, and of the
// sizes only the newest counts.
func TestControlPassesBlockedStdin(t *testing.T) {
	addr := listen(t, &Server{Service: commands{"busy": func(ctx context.Context, c *Call) error {
		var sig syscall.Signal
		select {
		case sig = <-c.Signals:
		case <-ctx.Done():
			return ctx.Err()
		}
		size := <-c.Resize
		n, err := io.Copy(io.Discard, c.Stdin)
		if err != nil {
			return err
		}
		return Exitf(7, "%v at %v, %d bytes of stdin", sig, size, n)
	}}})
	s := NewSession(call(t, addr, "-framed", "busy"))
	s.Stdin.Write(make([]byte, stdinRoom))
	for cols := range uint16(133) {
		if err := s.Resize(Window{Rows: 50, Cols: cols}); err != nil {
			t.Fatal(err)
		}
	}
	s.Signal(syscall.SIGINT)
	s.Stdin.Close()
	got := receiveAll(s)
	if want := "interrupt at {50 132}, 1048576 bytes of stdin"; got.err == nil || got.err.Error() != want {
		t.Errorf("got %v, want %q", got.err, want)
	}
}

// A framed client that goes away ends its call's context; raw, a half close is
// no such thing.
func TestClientGone(t *testing.T) {
	causes := make(chan error, 1)
	service := commands{
		"wait": func(ctx context.Context, c *Call) error {
			_, stdin := io.Copy(io.Discard, c.Stdin)
			<-ctx.Done()
			causes <- errors.Join(context.Cause(ctx), stdin)
			return ctx.Err()
		},
		"write": func(ctx context.Context, c *Call) error {
			for {
				if _, err := c.Stdout.Write(make([]byte, 1000)); err != nil {
					causes <- context.Cause(ctx)
					return err
				}
			}
		},
	}
	addr := listen(t, &Server{Service: service})
	for _, row := range []struct {
		name string
		args []string
		end  bool // with an end of stdin
	}{
		{"framed, in the middle of stdin", []string{"-framed", "wait"}, false},
		{"framed, being written to", []string{"-framed", "write"}, true},
		{"raw, being written to", []string{"write"}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			conn := call(t, addr, row.args...)
			if row.end {
				NewSession(conn).Stdin.Close()
			}
			conn.Close()
			select {
			case cause := <-causes:
				if !errors.Is(cause, ErrGone) {
					t.Errorf("the cause is %v", cause)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("the call goes on")
			}
		})
	}
	t.Run("framed, half closed after the end of stdin", func(t *testing.T) {
		addr := listen(t, &Server{Service: mirror})
		s := NewSession(call(t, addr, "-framed", "mirror"))
		io.WriteString(s.Stdin, "text")
		s.Stdin.Close()
		s.conn.(*Conn).CloseWrite()
		if got := receiveAll(s); got.err != nil || got.stdout.String() != "text" {
			t.Errorf("got %q, %v", got.stdout.String(), got.err)
		}
	})
}

// The end of the server reaches calls that read, write or wait.
func TestShutdown(t *testing.T) {
	service := commands{
		"read":  func(_ context.Context, c *Call) error { _, err := io.Copy(io.Discard, c.Stdin); return err },
		"hang":  mirror["hang"],
		"flood": func(_ context.Context, c *Call) error { _, err := io.Copy(c.Stdout, endless{}); return err },
	}
	before := runtime.NumGoroutine()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- (&Server{Service: service}).Serve(ctx, l) }()

	addr := l.Addr().String()
	silent := dial(t, addr)
	rawRead, rawHang, rawFlood := call(t, addr, "read"), call(t, addr, "hang"), call(t, addr, "flood")
	read, hang := NewSession(call(t, addr, "-framed", "read")), NewSession(call(t, addr, "-framed", "hang"))
	flood := NewSession(call(t, addr, "-framed", "flood"))
	time.Sleep(100 * time.Millisecond) // the floods are stuck

	start := time.Now()
	cancel()
	for name, conn := range map[string]*Conn{"silent": silent, "read": rawRead, "hang": rawHang} {
		if out, err := io.ReadAll(conn); err != nil || string(out) != "Error: the daemon is shutting down\n" {
			t.Errorf("raw %s: got %q, %v", name, out, err)
		}
		conn.Close()
	}
	for name, s := range map[string]*Session{"read": read, "hang": hang} {
		if got := receiveAll(s); got.err == nil || got.err.Error() != "the daemon is shutting down" {
			t.Errorf("framed %s: got %v", name, got.err)
		}
		s.conn.(*Conn).Close()
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	rawFlood.Close()
	flood.conn.(*Conn).Close()
	noMore(t, before)
}

// endless is a reader without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// A panic is in the log with its stack, and the next call is served.
func TestPanic(t *testing.T) {
	var log lockedBuffer
	addr := listen(t, &Server{
		Log: slog.New(slog.NewTextHandler(&log, nil)),
		Service: commands{
			"panic": func(_ context.Context, c *Call) error { return errors.New(c.Args[5]) },
			"fine":  func(context.Context, *Call) error { return nil },
		},
	})
	if got := raw(t, addr, "", "panic"); !strings.HasPrefix(got, "Error: internal error: runtime error: index out of range [5]") {
		t.Errorf("got %q", got)
	}
	if got := raw(t, addr, "", "fine"); got != "" {
		t.Errorf("the next call: %q", got)
	}
	if got := log.String(); !strings.Contains(got, "rcli_test.go") {
		t.Errorf("no stack in the log: %s", got)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// The exit status stays the last frame whatever a command leaves running, and
// what it leaves running is told that it is over.
func TestNothingAfterTheEnd(t *testing.T) {
	left := make(chan error, 2)
	addr := listen(t, &Server{Linger: 100 * time.Millisecond, Service: commands{"leave": func(_ context.Context, c *Call) error {
		writing := make(chan struct{})
		go func() {
			_, err := io.WriteString(c.Stdout, "x")
			close(writing)
			for err == nil {
				_, err = io.WriteString(c.Stdout, "x")
			}
			left <- err
		}()
		go func() {
			_, err := io.Copy(io.Discard, c.Stdin)
			left <- err
		}()
		<-writing
		return nil
	}}})
	for _, wire := range [][]string{{"-framed", "leave"}, {"leave"}} {
		conn := call(t, addr, wire...)
		out, err := io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		if exit := "\x03\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00"; len(wire) == 2 && !strings.HasSuffix(string(out), exit) {
			t.Errorf("the answer ends in %q", out[max(0, len(out)-30):])
		}
		for range 2 {
			if err := <-left; err == nil {
				t.Errorf("%q: used a stream after the end, and no error", wire)
			}
		}
	}
}

func TestLastFrame(t *testing.T) {
	var sent bytes.Buffer
	w := &frameWriter{w: &sent}
	if err := w.last("why", 7); err != nil {
		t.Fatal(err)
	}
	size := sent.Len()
	if err := w.frame(kindStdout, []byte("late")); !errors.Is(err, errEnded) || sent.Len() != size {
		t.Errorf("a frame after the last: %v, %d bytes more", err, sent.Len()-size)
	}
}

// 100 MB go through both directions of both wires at once, unchanged.
func TestBigStreams(t *testing.T) {
	if testing.Short() {
		t.Skip("100 MB")
	}
	const size = 100e6
	addr := listen(t, &Server{Service: mirror})
	t.Run("raw", func(t *testing.T) {
		conn := call(t, addr, "mirror")
		go func() {
			io.Copy(conn, io.LimitReader(&counting{}, size))
			conn.CloseWrite()
		}()
		check := &counting{}
		if n, err := io.Copy(check, conn); n != size || err != nil || check.wrong {
			t.Errorf("%d bytes, %v, wrong: %v", n, err, check.wrong)
		}
	})
	t.Run("framed", func(t *testing.T) {
		s := NewSession(call(t, addr, "-framed", "mirror"))
		go func() {
			io.Copy(s.Stdin, io.LimitReader(&counting{}, size))
			s.Stdin.Close()
		}()
		check := &counting{}
		if err := s.Receive(Answer{Stdout: check, Stderr: io.Discard}); err != nil || check.n != size || check.wrong {
			t.Errorf("%d bytes, %v, wrong: %v", check.n, err, check.wrong)
		}
	})
}

// counting is a stream in which every byte follows from its place; written to,
// it checks that.
type counting struct {
	n     int
	wrong bool
}

func (c *counting) at(i int) byte { return byte(i) ^ byte(i>>8) ^ byte(i>>16) }

func (c *counting) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = c.at(c.n + i)
	}
	c.n += len(p)
	return len(p), nil
}

func (c *counting) Write(p []byte) (int, error) {
	for i, b := range p {
		c.wrong = c.wrong || b != c.at(c.n+i)
	}
	c.n += len(p)
	return len(p), nil
}

// Broken calls leave no memory behind.
func TestBrokenCallsCostNothing(t *testing.T) {
	addr := listen(t, &Server{Service: mirror})
	long := strings.Repeat("x", 2*MaxLine)
	for range 50 {
		conn := dial(t, addr)
		io.WriteString(conn, long)
		conn.Close()
	}
	for range 50 {
		conn := call(t, addr, "-framed", "hang")
		conn.Write(append([]byte{0, 0, 0, 0, 0, 0x10, 0, 0}, long[:MaxPayload]...))
		conn.Close()
	}
	var heap runtime.MemStats
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		runtime.GC()
		runtime.ReadMemStats(&heap)
		if heap.HeapAlloc < 16<<20 { // 50 lines or stdin buffers would be 50 MiB
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d MiB stay", heap.HeapAlloc>>20)
		}
	}
}
