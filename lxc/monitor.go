package lxc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// monitor hears what every lxc-start below one LXC path reports.
//
//	lxc-start ──▶ /run/lxc/LXCPATH/monitor-fifo ──▶ monitor ──▶ the container's watch
//
// LXC made this pipe for lxc-monitord, the daemon behind lxc-monitor(1); we read
// it in that daemon's place. lxc-start opens it by name for each message and
// goes on without it when nobody reads (lxc: src/lxc/monitor.c,
// lxc_monitor_fifo_send). A message is one struct lxc_msg (src/lxc/monitor.h), in the
// machine's byte order:
//
//	int  type        0 state, 2 exit status of the first process
//	char name[256]   the container's, NUL-terminated
//	int  value       a state (src/lxc/state.h), or a status as wait(2) gives it
//
// A pipe write of up to 4096 bytes is atomic (pipe(7)), so messages don't mix.
type monitor struct {
	path string
	fifo *os.File // both ends: we never see end of file
	log  *slog.Logger
	done chan struct{} // closed when the reader has ended

	mu      sync.Mutex
	watches map[string]*watch
	settles int // so far
}

const (
	msgName = 256
	msgSize = 4 + msgName + 4

	typeState = 0
	typeExit  = 2
	typeOurs  = 1 << 16 // never sent by LXC: our own barrier

	stateRunning  = 2
	stateAborting = 4
)

// watch is what has been heard of one container's run.
type watch struct {
	running  chan struct{} // closed when LXC says RUNNING, or gives up
	ended    chan struct{} // closed when LXC has told the exit status
	mu       sync.Mutex
	told     bool // running is closed
	status   unix.WaitStatus
	exited   bool // status is valid
	aborting bool
}

// fifoDir is where LXC looks for its monitor's pipe (get_rundir for root).
func fifoDir(lxcpath string) string { return filepath.Join("/run/lxc", lxcpath) }

func openMonitor(lxcpath string, log *slog.Logger) (*monitor, error) {
	path := filepath.Join(fifoDir(lxcpath), "monitor-fifo")
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	for tries := 0; errors.Is(err, os.ErrNotExist) && tries < 100; tries++ {
		err = os.MkdirAll(filepath.Dir(path), 0o755) // another daemon has just removed a folder above
	}
	if err != nil {
		return nil, fmt.Errorf("open LXC monitor: %w", err)
	}
	if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("open LXC monitor %s: %w", path, err)
	}
	fifo, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open LXC monitor: %w", err)
	}
	m := &monitor{path: path, fifo: fifo, log: log, done: make(chan struct{}), watches: map[string]*watch{}}
	go m.read()
	return m, nil
}

// Close ends the monitor and removes its pipe.
func (m *monitor) Close() error {
	err := m.fifo.Close()
	<-m.done
	return errors.Join(err, os.Remove(m.path))
}

// watch begins to listen for a container. It replaces an older watch.
func (m *monitor) watch(name string) *watch {
	w := &watch{running: make(chan struct{}), ended: make(chan struct{})}
	m.mu.Lock()
	m.watches[name] = w
	m.mu.Unlock()
	return w
}

// unwatch ends a watch, unless a newer one took its place.
func (m *monitor) unwatch(name string, w *watch) {
	m.mu.Lock()
	if m.watches[name] == w {
		delete(m.watches, name)
	}
	m.mu.Unlock()
}

// settle returns when everything that was in the pipe has been read. Called
// after lxc-start has ended, it makes sure that its last words were heard.
func (m *monitor) settle() error {
	m.mu.Lock()
	m.settles++
	name := fmt.Sprintf("settle %d", m.settles) // a blank: no container's
	m.mu.Unlock()
	w := m.watch(name)
	defer m.unwatch(name, w)
	var b [msgSize]byte
	binary.NativeEndian.PutUint32(b[:], typeOurs)
	copy(b[4:], name)
	if _, err := m.fifo.Write(b[:]); err != nil {
		return fmt.Errorf("settle LXC monitor: %w", err)
	}
	select {
	case <-w.running:
		return nil
	case <-m.done:
		return errors.New("settle LXC monitor: it is closed")
	}
}

func (m *monitor) read() {
	defer close(m.done)
	var b [msgSize]byte
	for {
		if _, err := io.ReadFull(m.fifo, b[:]); err != nil {
			if !errors.Is(err, os.ErrClosed) {
				m.log.Error("LXC monitor ended: exit statuses will not be known", "err", err)
			}
			return
		}
		kind := binary.NativeEndian.Uint32(b[:])
		name, _, _ := strings.Cut(string(b[4:4+msgName]), "\x00")
		value := binary.NativeEndian.Uint32(b[4+msgName:])
		m.mu.Lock()
		w := m.watches[name]
		m.mu.Unlock()
		if w != nil {
			w.hear(kind, value)
		}
	}
}

func (w *watch) hear(kind, value uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case kind == typeExit && !w.exited:
		w.status, w.exited = unix.WaitStatus(value), true
		if !w.aborting {
			close(w.ended)
		}
	case kind == typeState && value == stateAborting:
		w.aborting = true
	}
	up := kind == typeState && (value == stateRunning || value == stateAborting)
	if !w.told && (up || kind == typeExit || kind == typeOurs) {
		w.told = true
		close(w.running)
	}
}

// outcome is how the first process ended, if LXC has said so. An abort, which
// is a failed start, has no exit status.
func (w *watch) outcome() (status unix.WaitStatus, exited, aborted bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status, w.exited && !w.aborting, w.aborting
}
