package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Attach is what a client takes of a container's streams.
type Attach struct {
	Stdin          io.Reader // nil: the client sends nothing
	CloseStdin     bool      // the end of Stdin is the end of the container's input
	Stdout, Stderr io.Writer // nil: not wanted
	Size           Window    // of the client's terminal, for Run; zero: not known
	ToTheEnd       bool      // return when everything of the run is gone, not when its program is
}

// Attach streams from now on, until the run ends or ctx does.
func (c *Container) Attach(ctx context.Context, a Attach) error {
	r, err := c.current()
	if err != nil {
		return err
	}
	out, err := c.outputs()
	if err != nil {
		return err
	}
	defer out.close()
	return c.stream(ctx, r, a, out)
}

// stream copies in both directions and returns when the run has ended. An input that
// the container doesn't take is left unread.
func (c *Container) stream(ctx context.Context, r *run, a Attach, out *outputs) error {
	if w := r.process.Input(); a.Stdin != nil && w != nil {
		go func() {
			_, _ = io.Copy(w, a.Stdin) // ends with the client or with the container
			if a.CloseStdin {
				_ = w.Close() // it has ended, or takes no end
			}
		}()
	}
	if err := out.follow(ctx, a.Stdout, a.Stderr, r.ended); err != nil {
		return err
	}
	end := r.ended
	if a.ToTheEnd || c.config.AutoRemove {
		end = r.done
	}
	select {
	case <-end:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// outputs reads both of the container's logs, from where they were when it was
// made.
type outputs struct {
	stdout, stderr   *logReader
	outFrom, errFrom int64
}

func (c *Container) outputs() (_ *outputs, err error) {
	o := &outputs{}
	defer func() {
		if err != nil {
			o.close()
		}
		if errors.Is(err, os.ErrNotExist) { // its folder isn't there
			err = fmt.Errorf("container %s: %w", c.id, ErrRemoved)
		}
	}()
	if o.stdout, err = openLog(filepath.Join(c.dir, "stdout"), c.store.watcher); err != nil {
		return nil, err
	}
	if o.stderr, err = openLog(filepath.Join(c.dir, "stderr"), c.store.watcher); err != nil {
		return nil, err
	}
	if o.outFrom, err = o.stdout.length(); err != nil {
		return nil, err
	}
	if o.errFrom, err = o.stderr.length(); err != nil {
		return nil, err
	}
	return o, nil
}

func (o *outputs) close() {
	for _, r := range []*logReader{o.stdout, o.stderr} {
		if r != nil {
			r.close()
		}
	}
}

// follow copies both side by side until over is closed. A writer that is nil
// gets nothing.
func (o *outputs) follow(ctx context.Context, stdout, stderr io.Writer, over <-chan struct{}) error {
	errs := make(chan error, 2)
	one := func(r *logReader, w io.Writer, from int64) {
		if w == nil {
			errs <- nil
			return
		}
		errs <- r.copyTo(ctx, w, from, over)
	}
	go one(o.stdout, stdout, o.outFrom)
	go one(o.stderr, stderr, o.errFrom)
	return errors.Join(<-errs, <-errs)
}

// Logs writes what the container has written so far: all of stdout, then all of
// stderr, as in 2013. With follow it goes on until the run ends, both side by
// side.
func (c *Container) Logs(ctx context.Context, stdout, stderr io.Writer, follow bool) error {
	out, err := c.outputs()
	if err != nil {
		return err
	}
	defer out.close()
	if r, err := c.current(); err == nil && follow {
		out.outFrom, out.errFrom = 0, 0
		return out.follow(ctx, stdout, stderr, r.ended)
	}
	over := make(chan struct{})
	close(over)
	if err := out.stdout.copyTo(ctx, stdout, 0, over); err != nil {
		return err
	}
	return out.stderr.copyTo(ctx, stderr, 0, over)
}
