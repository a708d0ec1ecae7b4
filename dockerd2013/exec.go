package dockerd2013

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/creack/pty"

	"docker2013/container"
	"docker2013/rcli"
)

// exec runs e with the call's streams: pipes, or one pseudo-terminal. Nothing of
// it is logged; it belongs to the call and not to the container.
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
	resizing     sync.WaitGroup
	over         chan struct{} // closed at the end
}

// close closes what is open: pipes and terminals, in which we buffer nothing.
func (s *execStreams) close() {
	close(s.over)
	s.resizing.Wait() // whose descriptor must not be another file's by then
	s.closeTheirs()
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
	s.ours, s.theirs = []*os.File{master}, []*os.File{slave}
	resize := func(w container.Window) {
		_ = pty.Setsize(master, &pty.Winsize{Rows: w.Rows, Cols: w.Cols}) // it may be over
	}
	if size := firstSize(c); size != (container.Window{}) {
		resize(size)
	}
	s.resizing.Go(func() {
		for {
			select {
			case w := <-c.Resize:
				resize(container.Window(w))
			case <-s.over:
				return
			}
		}
	})
	if in != nil {
		go func() { _, _ = io.Copy(master, in) }() // ends with the call
	}
	s.copy(c.Stdout, master)
	return container.Streams{In: slave, Out: slave, Err: slave, Terminal: true}, nil
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
