package lxc

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"docker2013/container"
)

// pipeSize is asked of the kernel for the output pipes: what a container can
// write while no daemon reads. It is the most that an unprivileged pipe may
// have (/proc/sys/fs/pipe-max-size, pipe(7)).
const pipeSize = 1 << 20

// stdio is our side of a running container's standard streams.
//
//	container ──▶ stdout.pipe ──▶ daemon ──▶ stdout (file) ──▶ every reader
//	container ◀── anonymous pipe ◀── daemon ◀── attached clients
//
// With a terminal there is one pseudo-terminal in place of the three pipes
// (2013 had three of them, docker@bba4e36807:container.go:188).
type stdio struct {
	dir   string // the container's folder
	log   *slog.Logger
	pumps sync.WaitGroup // one a stream that is being copied to its log
	pipes []*os.File     // their reading ends, of those that are pipes

	mu       sync.Mutex
	stdin    io.WriteCloser // nil: none, or closed
	terminal *os.File       // the pseudo-terminal's master side, nil: none
	losses   []error        // of output
}

// childEnds are the other side of the streams, for lxc-start. They are closed when it
// has them, or has failed.
type childEnds struct{ container.Streams }

// openStdio makes the streams for a new run.
func openStdio(r *container.Record, size container.Window, log *slog.Logger) (*stdio, *childEnds, error) {
	s, child := &stdio{dir: r.Root, log: log}, &childEnds{}
	open := s.openPipes
	if r.Config.Tty {
		open = s.openTerminal
	}
	if err := open(child, r.Config.OpenStdin, size); err != nil {
		child.close()
		s.finish()
		s.removePipes() // by them a later daemon knows that there was a run
		return nil, nil, err
	}
	return s, child, nil
}

func (c *childEnds) close() {
	for _, f := range []*os.File{c.In, c.Out, c.Err} {
		if f != nil {
			_ = f.Close() // a terminal is closed three times, which does no harm
		}
	}
}

// openTerminal makes one pseudo-terminal for all three.
func (s *stdio) openTerminal(child *childEnds, _ bool, size container.Window) error {
	master, slave, err := pty.Open()
	if err != nil {
		return fmt.Errorf("open a terminal: %w", err)
	}
	child.Streams = container.Streams{In: slave, Out: slave, Err: slave, Terminal: true}
	s.terminal, s.stdin = master, nopCloser{master}
	if size != (container.Window{}) {
		if err := s.resize(size); err != nil {
			return fmt.Errorf("size the terminal: %w", err)
		}
	}
	s.pump("stdout", master)
	return nil
}

// openPipes makes a pipe for each.
func (s *stdio) openPipes(child *childEnds, stdin bool, _ container.Window) (err error) {
	if stdin {
		var w *os.File
		if child.In, w, err = os.Pipe(); err == nil {
			s.stdin = w
		}
	} else {
		child.In, err = os.Open(os.DevNull)
	}
	if err != nil {
		return fmt.Errorf("open stdin: %w", err)
	}
	for _, out := range []struct {
		name string
		end  **os.File
	}{{"stdout", &child.Out}, {"stderr", &child.Err}} {
		path := s.pipePath(out.name)
		r, err := makePipe(path)
		if err != nil {
			return err
		}
		if *out.end, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
			_ = r.Close()
			return fmt.Errorf("open output pipe: %w", err)
		}
		s.pump(out.name, r) // now: a pipe without a writer is at its end
	}
	return nil
}

func (s *stdio) pipePath(name string) string { return filepath.Join(s.dir, name+".pipe") }

// makePipe makes the named pipe anew and opens its reading end, which sees end
// of file when the last of the container's processes has gone.
func makePipe(path string) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("make output pipe: %w", err)
	}
	// Anybody inside may open /dev/stdout, whoever they run as; outside, the
	// container's folder is closed to all but root.
	if err := unix.Mkfifo(path, 0); err != nil {
		return nil, fmt.Errorf("make output pipe %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return nil, fmt.Errorf("make output pipe: %w", err)
	}
	return openPipe(path)
}

// openPipe opens the reading end of a named pipe, without waiting for a writer.
func openPipe(path string) (*os.File, error) {
	r, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open output pipe: %w", err)
	}
	raw, err := r.SyscallConn()
	if err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("open output pipe: %w", err)
	}
	_ = raw.Control(func(fd uintptr) {
		// More room is better, less is enough: the limit may be the system's.
		_, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize)
	})
	return r, nil
}

// pump copies one of the container's output streams to its log until it ends.
// It closes a pipe; the terminal is also written to, so finish closes that.
func (s *stdio) pump(name string, r *os.File) {
	var output io.Reader
	if r == s.terminal {
		output = &undoONLCR{r: r}
	} else {
		s.pipes = append(s.pipes, r)
		output = untilDeadline{r}
	}
	s.pumps.Go(func() {
		if err := appendTo(filepath.Join(s.dir, name), output); err != nil {
			s.log.Error("container output was lost", "dir", s.dir, "err", err)
			s.mu.Lock()
			s.losses = append(s.losses, err)
			s.mu.Unlock()
		}
		if r != s.terminal {
			_ = r.Close() // the reading end
		}
	})
}

// appendTo appends r to a log until r ends.
func appendTo(path string, r io.Reader) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		// The container must not block on a pipe that nobody empties.
		_, _ = io.Copy(io.Discard, r)
		return fmt.Errorf("open log: %w", err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("close log: %w", cerr)
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, rerr := r.Read(buf)
		if n > 0 {
			if _, werr := f.Write(buf[:n]); werr != nil && err == nil {
				// A full disk loses output, but not the container: go on reading.
				err = fmt.Errorf("write log: %w", werr)
			}
		}
		if rerr != nil {
			return err // end of file, or a terminal that was hung up
		}
	}
}

// adoptStdio takes up the output of a container that another daemon started.
// Its stdin, and its terminal if it had one, went with that daemon.
func adoptStdio(r *container.Record, log *slog.Logger) (*stdio, error) {
	s := &stdio{dir: r.Root, log: log}
	if r.Config.Tty {
		return s, nil
	}
	for _, name := range []string{"stdout", "stderr"} {
		pipe, err := openPipe(s.pipePath(name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s.pump(name, pipe)
	}
	return s, nil
}

// Write gives input to the container.
func (s *stdio) Write(p []byte) (int, error) {
	s.mu.Lock()
	w := s.stdin
	s.mu.Unlock()
	if w == nil {
		return 0, io.ErrClosedPipe
	}
	return w.Write(p)
}

// Close gives the container the end of its input.
func (s *stdio) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stdin == nil {
		return nil
	}
	err := s.stdin.Close()
	s.stdin = nil
	return err
}

// takesInput reports whether there is anything to write to.
func (s *stdio) takesInput() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stdin != nil
}

// resize tells the container's terminal, if it has one, its size.
func (s *stdio) resize(w container.Window) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.terminal == nil {
		return nil
	}
	return pty.Setsize(s.terminal, &pty.Winsize{Rows: w.Rows, Cols: w.Cols})
}

// finish returns when the last byte of output is in the logs. No process of the
// container is left, but lxc-start may still hold the pipes' writing ends: what
// is in them now is all there will be.
func (s *stdio) finish() {
	for _, r := range s.pipes {
		_ = r.SetReadDeadline(time.Unix(1, 0)) // closed already: it has seen its end
	}
	s.pumps.Wait()
	_ = s.Close()
	s.mu.Lock()
	if s.terminal != nil {
		_ = s.terminal.Close()
		s.terminal = nil
	}
	s.mu.Unlock()
}

// lost is why not all output is in the logs, nil: it is. To be asked after finish.
func (s *stdio) lost() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(s.losses...); err != nil {
		return fmt.Errorf("output was lost: %w", err)
	}
	return nil
}

// removePipes removes the named pipes of a run that is over.
func (s *stdio) removePipes() {
	for _, name := range []string{"stdout", "stderr"} {
		if err := os.Remove(s.pipePath(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.log.Error("remove output pipe", "dir", s.dir, "err", err)
		}
	}
}

// untilDeadline reads a pipe until its end, or until its read deadline and then
// what is in it without waiting for more.
type untilDeadline struct{ *os.File }

func (u untilDeadline) Read(p []byte) (int, error) {
	n, err := u.File.Read(p)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := raw.Control(func(fd uintptr) { n, err = unix.Read(int(fd), p) })
	switch {
	case cerr != nil:
		return 0, cerr
	case errors.Is(err, unix.EAGAIN) || err == nil && n == 0:
		return 0, io.EOF
	default:
		return max(n, 0), err
	}
}

// nopCloser is a terminal as stdin: one doesn't close it to end the input.
type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// undoONLCR takes back what our terminal does to the output. LXC gives the
// container a terminal of its own, which turns each \n into \r\n, and passes the
// bytes on to ours, which does so again (ONLCR, termios(3); LXC insists on it). So
// before every \n there is one \r too many.
type undoONLCR struct {
	r    io.Reader
	held bool // a \r was read and not given out: it may be the one
}

func (u *undoONLCR) Read(p []byte) (int, error) {
	if len(p) < 2 {
		return 0, io.ErrShortBuffer
	}
	n, err := u.r.Read(p[1:]) // room for the one that is held
	out := p[:0]
	for _, b := range p[1 : 1+n] {
		if u.held && b != '\n' {
			out = append(out, '\r')
		}
		if u.held = b == '\r'; !u.held {
			out = append(out, b)
		}
	}
	if err != nil && u.held {
		out, u.held = append(out, '\r'), false
	}
	return len(out), err
}
