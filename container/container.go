package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"docker2013/trace"
)

// Container is one container: its record and, while it runs, its process.
// All methods can be called by several goroutines.
type Container struct {
	store   *Store
	union   Union
	runtime Runtime
	log     *slog.Logger

	// What never changes, to be read without the lock.
	id, dir, engine string
	config          Config
	created         time.Time
	userData        map[string]string

	mounts mounts

	mu      sync.Mutex
	record  Record
	run     *run // the current run, nil: none
	removed bool
	changes int // of the record, so far
	written int // how many of them the file has

	updating sync.Mutex // one update at a time
	pausing  sync.Mutex // the kernel's state and the record's change together
	layering sync.Mutex // held while a layer is read: the one who paused lets go on

	flushing sync.Mutex
	flushed  int // how many of the changes are durable

	saving  atomic.Bool // soon
	unsaved atomic.Bool // the disk has refused, and the log says so
}

// Id is the container's name, 8 hex digits, and its default hostname.
func (c *Container) Id() string { return c.id }

// Dir is the container's folder.
func (c *Container) Dir() string { return c.dir }

// Record is a copy of what is known of the container now.
func (c *Container) Record() Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.record
}

// UserData is a value the daemon keeps with the container: "image", "comment".
func (c *Container) UserData(key string) string { return c.userData[key] }

// ctx adds the container to what a trace says of its steps.
func (c *Container) ctx(ctx context.Context) context.Context {
	return trace.WithContainer(ctx, c.id, c.engine)
}

// current is the run that is under way, when it has started; ErrNotRunning if
// there is none.
func (c *Container) current() (*run, error) {
	c.mu.Lock()
	r, running := c.run, c.record.State.Running
	c.mu.Unlock()
	if r == nil && running {
		return nil, fmt.Errorf("container %s: %w", c.id, errNotAdopted)
	}
	if r == nil {
		return nil, fmt.Errorf("container %s: %w", c.id, ErrNotRunning)
	}
	<-r.started
	if r.process == nil || r.over() {
		return nil, fmt.Errorf("container %s: %w", c.id, ErrNotRunning)
	}
	return r, nil
}

// Wait blocks until the container doesn't run, and everything of its run is
// gone, or ctx ends. It returns the exit code of that run, or of the last one.
func (c *Container) Wait(ctx context.Context) (int, error) {
	c.mu.Lock()
	r, code := c.run, c.record.State.ExitCode
	c.mu.Unlock()
	if r == nil {
		return code, nil
	}
	select {
	case <-r.done:
		return r.code, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// Signal sends a signal to the container's first process. SIGKILL also ends a
// paused container.
func (c *Container) Signal(sig syscall.Signal) error {
	r, err := c.current()
	if err != nil {
		return err
	}
	if c.config.Init && sig != syscall.SIGKILL {
		awaitInit(r.process.Pid())
	}
	if err := r.process.Signal(sig); err != nil {
		return fmt.Errorf("signal container %s: %w", c.id, err)
	}
	if sig == syscall.SIGKILL {
		// A frozen process dies only when it is let go. v1's freezer does so;
		// v2 kills frozen ones anyway.
		_ = r.process.Thaw()
	}
	return nil
}

// awaitInit waits, a second at most, until an init has its child: before that it is
// a Go program that doesn't listen yet, and ends on a signal.
func awaitInit(pid int) {
	for range 1000 {
		lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
		for _, list := range lists {
			if children, err := os.ReadFile(list); err == nil && len(children) > 0 {
				return
			}
		}
		if len(lists) == 0 { // it has ended
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// stopSignal is the one that asks it to end.
func (c *Container) stopSignal() syscall.Signal {
	if c.config.StopSignal != 0 {
		return c.config.StopSignal
	}
	return syscall.SIGTERM
}

// Kill sends a signal by a user's wish. After SIGKILL no policy starts it again.
func (c *Container) Kill(sig syscall.Signal) error {
	if _, err := c.current(); err != nil {
		return err
	}
	if sig == syscall.SIGKILL {
		if err := c.stoppedByUser(); err != nil {
			return err
		}
	}
	return c.Signal(sig)
}

// Stop asks the container to end, with SIGTERM unless it has a signal of its own,
// and, when it hasn't within the grace period, kills it. It returns when the run is
// gone; a container that doesn't run is none of its business.
func (c *Container) Stop(ctx context.Context, grace time.Duration) error {
	if err := c.stoppedByUser(); err != nil {
		return err
	}
	err := c.Signal(c.stopSignal())
	if errors.Is(err, ErrNotRunning) {
		_, err = c.Wait(ctx) // it may be ending just now
		return err
	}
	if err != nil {
		return err
	}
	if c.Record().State.Paused { // it can't see the signal until it goes on
		if err := c.Unpause(); err != nil { // it may have ended at once
			c.log.Debug("unpause to stop", "container", c.id, "err", err)
		}
	}
	patient, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if _, err := c.Wait(patient); err == nil {
		c.emit(ActionStop, nil)
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := c.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, ErrNotRunning) {
		return err
	}
	if _, err = c.Wait(ctx); err == nil {
		c.emit(ActionStop, nil)
	}
	return err
}

// Pause stops all the container's processes where they are; Unpause lets them
// go on.
func (c *Container) Pause() error {
	return c.setPaused(true, ErrPaused, func(p Process) error { return p.Freeze() })
}

// Unpause undoes Pause.
func (c *Container) Unpause() error {
	return c.setPaused(false, ErrNotPaused, func(p Process) error { return p.Thaw() })
}

func (c *Container) setPaused(to bool, already error, do func(Process) error) error {
	r, err := c.current()
	if err != nil {
		return err
	}
	c.pausing.Lock()
	defer c.pausing.Unlock()
	if c.Record().State.Paused == to {
		return fmt.Errorf("container %s: %w", c.id, already)
	}
	if err := do(r.process); err != nil {
		select {
		case <-r.done: // it was about to end, which is why
			err = ErrNotRunning
		case <-time.After(time.Second):
		}
		return fmt.Errorf("container %s: %w", c.id, err)
	}
	c.remember(func(rec *Record) { rec.State.Paused = to && rec.State.Running })
	if to {
		c.emit(ActionPause, nil)
	} else {
		c.emit(ActionUnpause, nil)
	}
	c.save()
	return nil
}

// Exec runs a further program in the container and returns how it ended.
func (c *Container) Exec(ctx context.Context, e Exec) (Exit, error) {
	r, err := c.current()
	if err != nil {
		return Exit{}, err
	}
	if c.Record().State.Paused {
		return Exit{}, fmt.Errorf("container %s: %w", c.id, ErrPaused)
	}
	return r.process.Exec(c.ctx(ctx), e)
}

// Stats reads what the running container has used.
func (c *Container) Stats() (Stats, error) {
	r, err := c.current()
	if err != nil {
		return Stats{}, err
	}
	return r.process.Stats()
}

// Pids lists the running container's processes in the host's PID namespace.
func (c *Container) Pids() ([]int, error) {
	r, err := c.current()
	if err != nil {
		return nil, err
	}
	return r.process.Pids()
}

// Resize tells the container's terminal, if it has one, its size in character cells.
func (c *Container) Resize(rows, cols uint16) error {
	r, err := c.current()
	if err != nil {
		return err
	}
	return r.process.Resize(Window{Rows: rows, Cols: cols})
}

// Window is a terminal's size in character cells.
type Window struct{ Rows, Cols uint16 }

// Changes lists what the container has changed, sorted by path.
func (c *Container) Changes() ([]Change, error) {
	fsys := c.Record().Filesystem
	return c.union.Changes(&fsys)
}

// Layer is what the container has changed, as the tar of a layer. A running
// container is paused until it is read or closed, so that the layer is the
// state of one moment.
func (c *Container) Layer(ctx context.Context) (io.ReadCloser, error) {
	c.layering.Lock()
	err := c.there()
	if err == nil {
		err = c.Pause()
	}
	paused := err == nil
	if err != nil && !errors.Is(err, ErrNotRunning) && !errors.Is(err, ErrPaused) {
		c.layering.Unlock()
		return nil, fmt.Errorf("pause for commit: %w", err)
	}
	fsys := c.Record().Filesystem
	r, w := io.Pipe()
	go func() {
		defer c.layering.Unlock()
		err := c.union.WriteLayer(ctx, &fsys, w)
		if paused {
			if uerr := c.Unpause(); uerr != nil && !errors.Is(uerr, ErrNotRunning) {
				err = errors.Join(err, uerr)
			}
		}
		w.CloseWithError(err)
	}()
	return r, nil
}
