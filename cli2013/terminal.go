package cli2013

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/term"

	"docker2013/rcli"
)

// terminal is the one the user sits at, if there is one on stdin.
type terminal struct {
	fd   int
	here bool // stdin is a terminal

	mu     sync.Mutex
	before *term.State // not nil: in raw mode, and how it was before
}

func newTerminal(stdin *os.File) *terminal {
	fd := int(stdin.Fd())
	return &terminal{fd: fd, here: term.IsTerminal(fd)}
}

// makeRaw gives every key to the container. Without a terminal it does nothing.
func (t *terminal) makeRaw() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.here || t.before != nil {
		return nil
	}
	before, err := term.MakeRaw(t.fd)
	if err != nil {
		return fmt.Errorf("put the terminal in raw mode: %w", err)
	}
	t.before = before
	return nil
}

// restore ends raw mode, if it is on.
func (t *terminal) restore() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.before != nil {
		term.Restore(t.fd, t.before) // fails when the terminal is gone, then it doesn't matter
		t.before = nil
	}
}

func (t *terminal) raw() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.before != nil
}

// guard runs f, the body of a goroutine. A panic in it ends the program without
// the deferred calls of the others, so the terminal is restored here.
func (t *terminal) guard(f func()) {
	done := false
	defer func() {
		if !done {
			t.restore()
		}
	}()
	f()
	done = true
}

// lines is w for text whose lines end in \n: in raw mode the terminal wants \r\n.
func (t *terminal) lines(w io.Writer) io.Writer { return &lineWriter{t, w} }

type lineWriter struct {
	tty *terminal
	w   io.Writer
}

func (l *lineWriter) Write(p []byte) (int, error) {
	out := p
	if l.tty.raw() {
		out = bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n"))
	}
	if _, err := l.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// resize tells the daemon the terminal's size, now and whenever it changes, for
// a command that runs on a terminal.
func (call Call) resize(tty *terminal, session *rcli.Session) (stop func()) {
	if !call.TTY || !tty.here {
		return func() {}
	}
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	done := make(chan struct{})
	go tty.guard(func() {
		for {
			if cols, rows, err := term.GetSize(tty.fd); err == nil {
				session.Resize(rcli.Window{Rows: uint16(rows), Cols: uint16(cols)}) // Receive tells of a broken wire
			}
			select {
			case <-changed:
			case <-done:
				return
			}
		}
	})
	return func() {
		signal.Stop(changed)
		close(done)
	}
}
