package lxc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"docker2013/container"
	"docker2013/lxc"
	"docker2013/overlay"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "attach" {
		lxc.AttachMain()
	}
	os.Exit(m.Run())
}

// engine is a container store on real LXC and overlayfs, with one layer that has
// bash and busybox.
type engine struct {
	*container.Store
	rt    *lxc.Runtime
	union *overlay.Union
	layer string
	root  string
	name  string
}

func newEngine(t *testing.T) *engine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes containers")
	}
	root := t.TempDir()
	layer := filepath.Join(root, "layer")
	for _, dir := range []string{"bin", "proc", "sys", "dev/pts", "etc", "tmp"} {
		if err := os.MkdirAll(filepath.Join(layer, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for to, from := range map[string]string{"bash": "/bin/bash-static", "busybox": "/bin/busybox"} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Skipf("needs Debian's bash-static and busybox-static: %v", err)
		}
		if err := os.WriteFile(filepath.Join(layer, "bin", to), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, applet := range []string{"sh", "cat", "sleep", "true", "echo", "ls", "stty", "kill", "dd"} {
		if err := os.Symlink("busybox", filepath.Join(layer, "bin", applet)); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range map[string]string{"etc/resolv.conf": "", "bin/garbage": "\x7fELFnot", "bin/readable": "x"} {
		mode := os.FileMode(0o644)
		if strings.HasSuffix(name, "garbage") {
			mode = 0o755
		}
		if err := os.WriteFile(filepath.Join(layer, name), []byte(data), mode); err != nil {
			t.Fatal(err)
		}
	}
	e := &engine{layer: layer, root: root, name: fmt.Sprintf("docker2013-lxctest-%d-%s", os.Getpid(), filepath.Base(root))}
	e.open(t)
	t.Cleanup(func() {
		if err := e.Close(context.Background(), 2*time.Second); err != nil {
			t.Error(err)
		}
		if err := errors.Join(e.union.Close(), e.rt.Close()); err != nil {
			t.Error(err)
		}
		for _, h := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*", "/run/lxc"} {
			if left, _ := filepath.Glob(filepath.Join(h, e.name)); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		}
	})
	return e
}

// open is what a daemon does at its start; a second one after a crash too.
func (e *engine) open(t *testing.T) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(e.root, "containers")
	if e.rt, err = lxc.New(lxc.Options{Path: dir, Cgroup: e.name, Self: []string{self, "attach"}, Log: log}); err != nil {
		t.Fatal(err)
	}
	if e.union, err = overlay.New(filepath.Join(e.root, "overlay")); err != nil {
		t.Fatal(err)
	}
	e.Store, err = container.Open(context.Background(), dir, container.Options{
		Engines: map[string]container.Engine{container.Classic: {Union: e.union, Runtime: e.rt}}, Log: log,
		Layer: func(name string) string { return filepath.Join(e.root, name) },
	})
	if err != nil {
		t.Fatal(err)
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("log: %s", p)
	return len(p), nil
}

func (e *engine) create(t *testing.T, config container.Config, command ...string) *container.Container {
	t.Helper()
	config.Env = append([]string{"PATH=/bin"}, config.Env...)
	c, err := e.Create(context.Background(), container.Spec{
		Path: command[0], Args: command[1:], Layers: []string{e.layer}, Config: config, Engine: "classic",
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// run runs a command to its end.
func (e *engine) run(t *testing.T, config container.Config, stdin string, command ...string) (stdout, stderr string, code int, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	a := container.Attach{Stdout: &out, Stderr: &errs}
	if config.OpenStdin {
		a.Stdin, a.CloseStdin = strings.NewReader(stdin), true
	}
	code, err = e.create(t, config, command...).Run(context.Background(), a)
	return out.String(), errs.String(), code, err
}

func TestRun(t *testing.T) {
	e := newEngine(t)
	for name, c := range map[string]struct {
		config  container.Config
		stdin   string
		command []string
		out     string
		errs    string
		code    int
	}{
		"output":       {command: []string{"/bin/echo", "hello"}, out: "hello\n"},
		"by PATH":      {command: []string{"echo", "hello"}, out: "hello\n"},
		"two streams":  {command: []string{"sh", "-c", "echo a; echo b >&2"}, out: "a\n", errs: "b\n"},
		"/dev/stderr":  {command: []string{"sh", "-c", "echo a >/dev/stderr; echo b >/dev/stderr"}, errs: "a\nb\n"},
		"exit status":  {command: []string{"sh", "-c", "exit 7"}, code: 7},
		"status 255":   {command: []string{"sh", "-c", "exit 255"}, code: 255},
		"stdin":        {config: container.Config{OpenStdin: true}, stdin: "x\ny\n", command: []string{"cat"}, out: "x\ny\n"},
		"no stdin":     {command: []string{"cat"}},
		"environment":  {config: container.Config{Env: []string{"A=b c"}}, command: []string{"sh", "-c", "echo $A"}, out: "b c\n"},
		"PID 1":        {command: []string{"sh", "-c", "echo $$"}, out: "1\n"},
		"a dead child": {command: []string{"sh", "-c", "sh -c 'kill -9 $$'; echo $?"}, out: "137\n", errs: "Killed\n"},
		"much output":  {command: []string{"dd", "if=/dev/zero", "bs=1000", "count=3000", "status=none"}, out: strings.Repeat("\x00", 3000000)},
	} {
		t.Run(name, func(t *testing.T) {
			out, errs, code, err := e.run(t, c.config, c.stdin, c.command...)
			if err != nil || code != c.code || out != c.out || errs != c.errs {
				t.Errorf("stdout %.100q, stderr %q, code %d, %v; want %.100q, %q, %d", out, errs, code, err, c.out, c.errs, c.code)
			}
		})
	}
}

func TestProgramThatCannotBeExecuted(t *testing.T) {
	e := newEngine(t)
	for program, want := range map[string]int{
		"/bin/nosuch": 127, "nosuch": 127, "/bin/readable": 126, "/bin": 126,
	} {
		t.Run(program, func(t *testing.T) {
			c := e.create(t, container.Config{}, program)
			code, err := c.Run(context.Background(), container.Attach{})
			se, ok := errors.AsType[*container.StartError](err)
			if !ok || code != want || se.Code != want || !strings.Contains(se.Text, program) {
				t.Errorf("code %d, %v; want %d and its name", code, err, want)
			}
			if s := c.Record().State; s.Running || s.ExitCode != want || s.Error == "" {
				t.Errorf("state %+v", s)
			}
		})
	}
}

// A container whose folder can't be deleted is gone nevertheless; the next start of a
// daemon deletes what is left.
func TestRemoveHalfWay(t *testing.T) {
	e := newEngine(t)
	c, other := e.create(t, container.Config{}, "/bin/true"), e.create(t, container.Config{}, "/bin/true")
	busy := filepath.Join(c.Dir(), "rw/busy")
	if err := errors.Join(os.Mkdir(busy, 0o755), unix.Mount("none", busy, "tmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(filepath.Dir(c.Dir()), "tmp-"+c.Id())
	t.Cleanup(func() { _ = unix.Unmount(filepath.Join(left, "rw/busy"), unix.MNT_DETACH) })
	if err := e.Remove(t.Context(), c); !errors.Is(err, unix.EBUSY) {
		t.Errorf("it was removed: %v", err)
	}
	if e.Get(c.Id()) != nil || len(e.List()) != 1 {
		t.Error("it is in the list")
	}
	if err := e.Remove(t.Context(), c); !errors.Is(err, container.ErrRemoved) {
		t.Errorf("a second time: %v", err)
	}
	if err := unix.Unmount(filepath.Join(left, "rw/busy"), 0); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if err := other.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "the daemon is ending") {
		t.Errorf("a start after Close: %v", err)
	}
	if err := e.rt.Close(); err != nil {
		t.Fatal(err)
	}
	e.open(t)
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left after the next start: %v", err)
	}
}

func TestLifeAndDeath(t *testing.T) {
	e := newEngine(t)
	ctx := context.Background()
	c := e.create(t, container.Config{OpenStdin: true}, "sh", "-c", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done")
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(ctx); !errors.Is(err, container.ErrRunning) {
		t.Errorf("a second start: %v", err)
	}
	s := c.Record().State
	if !s.Running || s.Pid <= 0 {
		t.Errorf("state %+v", s)
	}
	if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", s.Pid)); err != nil || string(comm) != "sh\n" {
		t.Errorf("PID %d is %q, %v; want sh", s.Pid, comm, err)
	}
	if err := c.Unpause(); !errors.Is(err, container.ErrNotPaused) {
		t.Errorf("unpause: %v", err)
	}
	if err := c.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := c.Pause(); !errors.Is(err, container.ErrPaused) {
		t.Errorf("a second pause: %v", err)
	}
	if err := c.Unpause(); err != nil {
		t.Fatal(err)
	}
	stats, err := c.Stats()
	if err != nil || stats.Memory <= 0 || stats.Pids < 1 || stats.CPU <= 0 {
		t.Errorf("stats %+v, %v", stats, err)
	}
	if pids, err := c.Pids(); err != nil || !slices.Contains(pids, s.Pid) {
		t.Errorf("pids %v, %v; want %d among them", pids, err, s.Pid)
	}
	waitFor(t, func() bool { var b bytes.Buffer; _ = c.Logs(ctx, &b, io.Discard, false); return b.String() == "up\n" })
	if err := c.Stop(ctx, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if s := c.Record().State; s.Running || s.ExitCode != 3 || s.Pid != 0 || s.FinishedAt.IsZero() {
		t.Errorf("state after stop %+v", s)
	}
	var b bytes.Buffer
	if err := c.Logs(ctx, &b, io.Discard, false); err != nil || b.String() != "up\nbye\n" {
		t.Errorf("logs %q, %v", b.String(), err)
	}
	if err := e.Remove(ctx, c); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(c.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
}

func TestStopKillsWhoDoesNotListen(t *testing.T) {
	e := newEngine(t)
	c := e.create(t, container.Config{}, "sleep", "1000") // PID 1 ignores what it doesn't handle
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(context.Background(), 300*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if s := c.Record().State; s.Running || s.ExitCode != 137 {
		t.Errorf("state %+v, want exit 137", s)
	}
}

func TestKillPaused(t *testing.T) {
	e := newEngine(t)
	c := e.create(t, container.Config{}, "sleep", "1000")
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := c.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := c.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if code, err := c.Wait(ctx); err != nil || code != 137 {
		t.Errorf("code %d, %v", code, err)
	}
}

func TestTerminal(t *testing.T) {
	e := newEngine(t)
	var out bytes.Buffer
	c := e.create(t, container.Config{Tty: true, OpenStdin: true}, "/bin/bash", "-c", "stty size; tty=$(busybox tty); echo $tty; test -t 0 -a -t 1 -a -t 2 && echo a terminal; exit 5")
	code, err := c.Run(context.Background(), container.Attach{Stdout: &out, Size: container.Window{Rows: 33, Cols: 99}})
	want := "33 99\r\n/dev/pts/0\r\na terminal\r\n"
	if err != nil || code != 5 || out.String() != want {
		t.Errorf("%q, %d, %v; want %q, 5", out.String(), code, err, want)
	}
	// The last byte of a terminal's output is as safe as that of a pipe.
	out.Reset()
	c = e.create(t, container.Config{Tty: true}, "/bin/bash", "-c", "for ((i=0;i<20000;i++)); do echo $i; done")
	if _, err := c.Run(context.Background(), container.Attach{Stdout: &out}); err != nil || !strings.HasSuffix(out.String(), "\r\n19999\r\n") {
		t.Errorf("%d bytes that end in %q, %v", out.Len(), out.String()[max(0, out.Len()-20):], err)
	}
}

func TestExec(t *testing.T) {
	e := newEngine(t)
	ctx := context.Background()
	c := e.create(t, container.Config{}, "sleep", "1000")
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		args  []string
		stdin string
		out   string
		code  int
	}{
		"output":  {args: []string{"/bin/echo", "hi"}, out: "hi\n"},
		"by PATH": {args: []string{"echo", "hi"}, out: "hi\n"},
		"inside":  {args: []string{"/bin/bash", "-c", "echo $HOSTNAME"}, out: c.Id() + "\n"},
		"status":  {args: []string{"sh", "-c", "exit 9"}, code: 9},
		"signal":  {args: []string{"sh", "-c", "kill -15 $$; sleep 5"}, code: 143},
		"stdin":   {args: []string{"cat"}, stdin: "abc", out: "abc"},
		"127":     {args: []string{"sh", "-c", "exit 127"}, code: 127},
		"env":     {args: []string{"sh", "-c", "echo $X"}, out: "y\n"},
		"missing": {args: []string{"nosuch"}, code: -127},
		"no x":    {args: []string{"/bin/readable"}, code: -126},
	} {
		t.Run(name, func(t *testing.T) {
			inR, inW, outR, outW := pipe(t)
			if _, err := inW.WriteString(x.stdin); err != nil {
				t.Fatal(err)
			}
			inW.Close()
			exit, err := c.Exec(ctx, container.Exec{Args: x.args, Env: []string{"PATH=/bin", "X=y"},
				Streams: container.Streams{In: inR, Out: outW, Err: outW}})
			outW.Close()
			out, _ := io.ReadAll(outR)
			code := exit.Code
			if se, ok := errors.AsType[*container.StartError](err); ok {
				code, err, out = -se.Code, nil, nil
			}
			if err != nil || code != x.code || string(out) != x.out {
				t.Errorf("%q, %d, %v; want %q, %d", out, code, err, x.out, x.code)
			}
		})
	}
}

// What LXC has to say is never said on the container's stderr.
func TestLXCIsQuiet(t *testing.T) {
	e := newEngine(t)
	ctx := context.Background()
	c := e.create(t, container.Config{}, "sleep", "1000")
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if exit, err := c.Exec(ctx, container.Exec{Args: []string{"true"}, Env: []string{"PATH=/bin"}}); err != nil || exit.Code != 0 {
		t.Errorf("exec: %+v, %v", exit, err)
	}
	missing := e.create(t, container.Config{}, "/bin/nosuch")
	if err := missing.Start(ctx); err == nil {
		t.Error("a missing program was started")
	}
	for _, c := range []*container.Container{c, missing} {
		var out bytes.Buffer
		if err := c.Logs(ctx, &out, &out, false); err != nil || out.Len() > 0 {
			t.Errorf("logs %q, %v; want nothing", out.String(), err)
		}
	}
}

func pipe(t *testing.T) (inR, inW, outR, outW *os.File) {
	t.Helper()
	inR, inW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	outR, outW, err = os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, f := range []*os.File{inR, inW, outR, outW} {
			f.Close()
		}
	})
	return inR, inW, outR, outW
}

func TestLimits(t *testing.T) {
	e := newEngine(t)
	c := e.create(t, container.Config{Ram: 64 << 20, Limits: container.Limits{Pids: 50, CPUShares: 512, CPUs: 500}}, "sleep", "1000")
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	s, err := c.Stats()
	if err != nil || s.MemoryLimit != 64<<20 {
		t.Errorf("stats %+v, %v; want a limit of 64 MiB", s, err)
	}
}

func TestOutOfMemoryIsKilled(t *testing.T) {
	e := newEngine(t)
	_, _, code, err := e.run(t, container.Config{Ram: 16 << 20}, "", "/bin/bash", "-c", "x=a; while :; do x=$x$x; done")
	if err != nil || code != 137 {
		t.Errorf("code %d, %v; want 137", code, err)
	}
}

func waitFor(t *testing.T, ready func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ready(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never happened")
		}
	}
}
