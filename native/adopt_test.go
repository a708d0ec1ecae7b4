package native

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"docker2013/cgroups"
	"docker2013/container"
	"docker2013/native/shim"
)

// A daemon that has no file left to ask a shim with doesn't take its container for
// dead.
func TestAdoptWithoutFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIP: cgroups need root")
	}
	host, err := cgroups.Detect()
	if err != nil {
		t.Fatal(err)
	}
	parent, err := host.Parent(fmt.Sprintf("docker2013-adopt-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := parent.Close(); err != nil {
			t.Error(err)
		}
	})
	rt := &Runtime{host: host, parent: parent, log: slog.Default()}
	r := &container.Record{Id: "c", Root: t.TempDir()}
	group, err := parent.Create(r.Id, cgroups.Plan{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := group.End(); err != nil {
			t.Error(err)
		}
	})
	cmd := exec.Command("sleep", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	for _, place := range group.Places() {
		if err := os.WriteFile(filepath.Join(place.Dir, "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0); err != nil {
			t.Fatal(err)
		}
	}

	leaveOneFile(t, func() { _, err = rt.Adopt(t.Context(), r) })
	if !errors.Is(err, unix.EMFILE) || errors.Is(err, container.ErrNotRunning) {
		t.Errorf("adopt: %v; want %v", err, unix.EMFILE)
	}
	if pids, err := group.Pids(); err != nil || len(pids) != 1 {
		t.Errorf("in the cgroup are %v, %v; want %d", pids, err, cmd.Process.Pid)
	}
}

// A shim that ends while it is asked has nothing to tell any more: what it has written
// down counts.
func TestAdoptFromAShimThatEnds(t *testing.T) {
	parent, err := cgroups.None().Parent("")
	if err != nil {
		t.Fatal(err)
	}
	rt := &Runtime{host: cgroups.None(), parent: parent, log: slog.Default()}
	r := &container.Record{Id: "c", Root: t.TempDir()}
	listener, err := listen(r.Root)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(listener)
	note, err := json.Marshal(shim.ExitNote{Status: 7 << 8})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.Root, shim.ExitFile), note, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}, -1)
		if conn, _, err := unix.Accept(listener); err == nil {
			_ = unix.Close(conn)
		}
	}()
	_, err = rt.Adopt(t.Context(), r)
	if ended, ok := errors.AsType[*container.EndedError](err); !ok || ended.Exit.Code != 7 {
		t.Errorf("adopt: %v; want that it ended with 7", err)
	}
}

// leaveOneFile calls f while one file more can be opened.
func leaveOneFile(t *testing.T, f func()) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	few := before
	few.Cur = 64
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	var fds []int
	for {
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			break
		}
		fds = append(fds, fd)
	}
	_ = unix.Close(fds[0])
	f()
	for _, fd := range fds[1:] {
		_ = unix.Close(fd)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
}
