package lxc_test

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"docker2013/cgroups"
	"docker2013/container"
	"docker2013/lxc"
)

// What is done to one container at the same time.

// LXC leaves a cgroup that somebody is in, as one who execs is before he has joined the
// PID namespace. With it the container couldn't be started again.
func TestSomebodyElseInTheCgroup(t *testing.T) {
	e := newEngine(t)
	c := e.create(t, container.Config{}, "sleep", "1000")
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
	hierarchies, err := cgroups.Hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	group := filepath.Join(hierarchies[0], e.name, c.Id())
	if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(group); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cgroup is left: %v", err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Error(err)
	}
}

// A container of --rm ends while somebody reads a file of it.
func TestRemovedBehindAReader(t *testing.T) {
	e := newEngine(t)
	c := e.create(t, container.Config{AutoRemove: true}, "sleep", "1000")
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := c.WithRoot(t.Context(), func(rootfs string) error {
		err := c.Stop(t.Context(), 0)
		_, serr := os.Stat(filepath.Join(rootfs, "bin/sh"))
		return errors.Join(err, serr)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(c.Dir()); !errors.Is(err, os.ErrNotExist) || len(e.List()) != 0 {
		t.Errorf("it is left: %v", err)
	}
}

// A container is removed while a commit reads it: the layer has all of it.
func TestRemovedBehindACommit(t *testing.T) {
	e := newEngine(t)
	c := e.create(t, container.Config{}, "/bin/true")
	const files, size = 200, 10 << 10
	for i := range files {
		if err := os.WriteFile(filepath.Join(c.Dir(), "rw", fmt.Sprint(i)), make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	layer, err := c.Layer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer layer.Close()
	tr := tar.NewReader(layer)
	if _, err := tr.Next(); err != nil {
		t.Fatal(err)
	}
	removed := make(chan error, 1)
	go func() { removed <- e.Remove(t.Context(), c) }()
	select {
	case err := <-removed:
		t.Errorf("it was removed before it was read: %v", err)
	case <-time.After(200 * time.Millisecond):
		defer func() {
			if err := <-removed; err != nil {
				t.Error(err)
			}
		}()
	}
	n := 0
	for {
		if _, err := tr.Next(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != files {
		t.Errorf("%d files, want %d", n, files)
	}
}

// Whoever found a container just before it was removed hears that it was.
func TestRemovedBeforeItIsAsked(t *testing.T) {
	e := newEngine(t)
	c := e.create(t, container.Config{}, "/bin/true")
	if err := e.Remove(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	_, err := c.Run(t.Context(), container.Attach{})
	_, lerr := c.Layer(t.Context())
	for name, err := range map[string]error{
		"run":    err,
		"commit": lerr,
		"logs":   c.Logs(t.Context(), io.Discard, io.Discard, true),
		"reset":  c.Reset(t.Context()),
		"start":  c.Start(t.Context()),
		"mount":  c.Mount(t.Context()),
		"cat":    c.WithRoot(t.Context(), func(string) error { return nil }),
	} {
		if !errors.Is(err, container.ErrRemoved) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A container that is mounted by hand is removed and started at once. The start comes
// first, but for the mount.
func TestStartedBehindARemoval(t *testing.T) {
	e := newEngine(t)
	if err := e.Close(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	slow := slowRuntime{e.rt, make(chan bool), make(chan bool)}
	var err error
	e.Store, err = container.Open(t.Context(), filepath.Join(e.root, "containers"), container.Options{
		Engines: map[string]container.Engine{container.Classic: {Union: e.union, Runtime: slow}},
		Log:     slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	c := e.create(t, container.Config{}, "/bin/true")
	if err := c.Mount(t.Context()); err != nil {
		t.Fatal(err)
	}
	started := make(chan error)
	go func() { started <- c.Start(t.Context()) }()
	<-slow.starts
	if err := e.Remove(t.Context(), c); !errors.Is(err, container.ErrRunning) {
		t.Errorf("remove: %v", err)
	}
	close(slow.goOn)
	if err := <-started; err != nil {
		t.Error(err)
	}
}

// slowRuntime is LXC's, and waits before each start.
type slowRuntime struct {
	*lxc.Runtime
	starts, goOn chan bool
}

func (s slowRuntime) Configure(ctx context.Context, r *container.Record) error {
	s.starts <- true
	<-s.goOn
	return s.Runtime.Configure(ctx, r)
}

// What was mounted by our command is unmounted by the host's.
func TestUnmountedOnTheHost(t *testing.T) {
	e := newEngine(t)
	c := e.create(t, container.Config{}, "/bin/true")
	if err := c.Mount(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(filepath.Join(c.Dir(), "rootfs"), 0); err != nil {
		t.Fatal(err)
	}
	if code, err := c.Run(t.Context(), container.Attach{}); code != 0 || err != nil {
		t.Errorf("code %d, %v", code, err)
	}
}
