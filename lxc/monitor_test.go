package lxc

import (
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The pipe is where LXC looks for it: below /run/lxc, so these tests need root.
func testMonitor(t *testing.T) *monitor {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: LXC's pipe is below /run/lxc")
	}
	path := t.TempDir()
	m, err := openMonitor(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		removeEmptyUpTo(fifoDir(path), "/run/lxc")
	})
	return m
}

// tell writes a message as lxc-start does: it opens the pipe by its name.
func tell(t *testing.T, m *monitor, kind uint32, name string, value uint32) {
	t.Helper()
	var b [msgSize]byte
	binary.NativeEndian.PutUint32(b[:], kind)
	copy(b[4:], name)
	binary.NativeEndian.PutUint32(b[4+msgName:], value)
	f, err := os.OpenFile(m.path, os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(b[:]); err != nil {
		t.Fatal(err)
	}
}

func TestMonitorHearsTheExitStatus(t *testing.T) {
	m := testMonitor(t)
	w := m.watch("a")
	tell(t, m, typeState, "a", 1) // STARTING
	tell(t, m, typeState, "b", stateRunning)
	tell(t, m, typeState, "a", stateRunning)
	select {
	case <-w.running:
	case <-time.After(10 * time.Second):
		t.Fatal("RUNNING was not heard")
	}
	tell(t, m, typeExit, "a", 7<<8)
	if err := m.settle(); err != nil {
		t.Fatal(err)
	}
	status, exited, aborted := w.outcome()
	if !exited || aborted || status.ExitStatus() != 7 {
		t.Errorf("heard status %v, exited %v, aborted %v; want exit 7", status, exited, aborted)
	}
}

func TestMonitorHearsAFailedStart(t *testing.T) {
	m := testMonitor(t)
	w := m.watch("a")
	tell(t, m, typeState, "a", stateAborting)
	<-w.running
	if _, exited, aborted := w.outcome(); exited || !aborted {
		t.Errorf("exited %v, aborted %v; want an abort without a status", exited, aborted)
	}
}

func TestUnwatchKeepsANewerWatch(t *testing.T) {
	m := testMonitor(t)
	old := m.watch("a")
	now := m.watch("a")
	m.unwatch("a", old)
	tell(t, m, typeExit, "a", 0)
	if err := m.settle(); err != nil {
		t.Fatal(err)
	}
	if _, exited, _ := now.outcome(); !exited {
		t.Error("the newer watch heard nothing")
	}
}

func TestMonitorTakesOverAnExistingPipe(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: LXC's pipe is below /run/lxc")
	}
	path := t.TempDir()
	if err := os.MkdirAll(fifoDir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(fifoDir(path), "monitor-fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := openMonitor(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	removeEmptyUpTo(fifoDir(path), "/run/lxc")
}
