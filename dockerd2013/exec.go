package dockerd2013

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"docker2013/container"
	"docker2013/rcli"
)

// exec runs e with the call's streams: pipes, or one pseudo-terminal. Nothing of
// it is logged; it belongs to the call and not to the container. So when the client
// goes, its terminal hangs up, or its pipes break.
func (d *Daemon) exec(ctx context.Context, c *rcli.Call, ctr *container.Container, e container.Exec, in io.Reader, tty bool) (int, error) {
	s := &execStreams{over: make(chan struct{})}
	defer s.close()
	open := s.openPipes
	if tty {
		open = s.openTerminal
	}
	var err error
	if e.Streams, err = open(c, in); err != nil {
		return rcli.StatusOurs, err
	}
	defer context.AfterFunc(ctx, s.hangUp)()
	exit, err := ctr.Exec(ctx, e)
	s.closeTheirs() // now only the program's descendants hold the ends
	s.output.Wait()
	if err != nil {
		return rcli.StatusOurs, err
	}
	return exit.Code, exit.Err
}

// execStreams is our side of a further program's standard streams.
type execStreams struct {
	ours, theirs []*os.File
	output       sync.WaitGroup
	over         chan struct{} // closed at the end
}

// close closes what is open.
func (s *execStreams) close() {
	close(s.over)
	s.closeTheirs()
	s.hangUp()
}

// hangUp closes our side: pipes and terminals, in which we buffer nothing.
func (s *execStreams) hangUp() {
	for _, f := range s.ours {
		_ = f.Close()
	}
}

func (s *execStreams) closeTheirs() {
	for _, f := range s.theirs {
		_ = f.Close()
	}
	s.theirs = nil
}

// copy passes output on, until the program has ended. The client may be gone.
func (s *execStreams) copy(w io.Writer, r *os.File) {
	s.output.Go(func() { _, _ = io.Copy(w, r) })
}

// openTerminal makes a terminal of the size that the client's has, and goes on having.
func (s *execStreams) openTerminal(c *rcli.Call, in io.Reader) (container.Streams, error) {
	master, slave, err := pty.Open()
	if err != nil {
		return container.Streams{}, fmt.Errorf("open a terminal: %w", err)
	}
	s.theirs = []*os.File{slave}
	if master, err = nonblocking(master); err != nil {
		return container.Streams{}, fmt.Errorf("open a terminal: %w", err)
	}
	s.ours = []*os.File{master}
	raw, err := master.SyscallConn()
	if err != nil {
		return container.Streams{}, fmt.Errorf("open a terminal: %w", err)
	}
	resize := func(w container.Window) { // or it is over
		_ = raw.Control(func(fd uintptr) {
			_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: w.Rows, Col: w.Cols})
		})
	}
	if size := firstSize(c); size != (container.Window{}) {
		resize(size)
	}
	go func() {
		for {
			select {
			case w := <-c.Resize:
				resize(container.Window(w))
			case <-s.over:
				return
			}
		}
	}()
	if in != nil {
		go func() { _, _ = io.Copy(master, in) }() // ends with the call
	}
	s.copy(c.Stdout, master)
	return container.Streams{In: slave, Out: slave, Err: slave, Terminal: true}, nil
}

// nonblocking is a terminal whose Close ends a read that is under way. It takes over f,
// which the library has made a blocking one.
func nonblocking(f *os.File) (*os.File, error) {
	defer f.Close() // a second name from here on
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	return os.NewFile(uintptr(fd), f.Name()), err
}

// openPipes makes a pipe for each stream; without in there is no input.
func (s *execStreams) openPipes(c *rcli.Call, in io.Reader) (streams container.Streams, err error) {
	if in != nil {
		r, w, err := os.Pipe()
		if err != nil {
			return streams, fmt.Errorf("open a pipe: %w", err)
		}
		s.theirs = append(s.theirs, r)
		streams.In = r
		go func() {
			_, _ = io.Copy(w, in) // ends with the call, or with the program
			_ = w.Close()
		}()
	}
	for _, out := range []struct {
		end **os.File
		to  io.Writer
	}{{&streams.Out, c.Stdout}, {&streams.Err, c.Stderr}} {
		r, w, err := os.Pipe()
		if err != nil {
			return streams, fmt.Errorf("open a pipe: %w", err)
		}
		s.ours, s.theirs = append(s.ours, r), append(s.theirs, w)
		*out.end = w
		s.copy(out.to, r)
	}
	return streams, nil
}
