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
	var ours, theirs []*os.File
	defer func() {
		for _, f := range append(ours, theirs...) {
			_ = f.Close() // pipes and terminals: nothing is buffered in them by us
		}
	}()
	var output sync.WaitGroup
	copyOut := func(w io.Writer, r *os.File) {
		output.Go(func() { _, _ = io.Copy(w, r) }) // ends with the program; the client may be gone
	}
	if tty {
		master, slave, err := pty.Open()
		if err != nil {
			return rcli.StatusOurs, fmt.Errorf("open a terminal: %w", err)
		}
		ours, theirs = append(ours, master), append(theirs, slave)
		if size := firstSize(c); size != (container.Window{}) {
			_ = pty.Setsize(master, &pty.Winsize{Rows: size.Rows, Cols: size.Cols})
		}
		e.Streams = container.Streams{In: slave, Out: slave, Err: slave, Terminal: true}
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			for {
				select {
				case w := <-c.Resize:
					_ = pty.Setsize(master, &pty.Winsize{Rows: w.Rows, Cols: w.Cols})
				case <-stop:
					return
				}
			}
		}()
		if in != nil {
			go func() { _, _ = io.Copy(master, in) }()
		}
		copyOut(c.Stdout, master)
	} else {
		pipe := func() (r, w *os.File, err error) {
			if r, w, err = os.Pipe(); err != nil {
				return nil, nil, fmt.Errorf("open a pipe: %w", err)
			}
			return r, w, nil
		}
		if in != nil {
			r, w, err := pipe()
			if err != nil {
				return rcli.StatusOurs, err
			}
			theirs = append(theirs, r)
			e.Streams.In = r
			go func() {
				_, _ = io.Copy(w, in)
				_ = w.Close()
			}()
		}
		for _, out := range []struct {
			end **os.File
			to  io.Writer
		}{{&e.Streams.Out, c.Stdout}, {&e.Streams.Err, c.Stderr}} {
			r, w, err := pipe()
			if err != nil {
				return rcli.StatusOurs, err
			}
			ours, theirs = append(ours, r), append(theirs, w)
			*out.end = w
			copyOut(out.to, r)
		}
	}
	exit, err := ctr.Exec(ctx, e)
	for _, f := range theirs { // now only the program's descendants hold the ends
		_ = f.Close()
	}
	theirs = nil
	output.Wait()
	if err != nil {
		return rcli.StatusOurs, err
	}
	return exit.Code, exit.Err
}
