package container

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	goruntime "runtime"
	"time"

	"docker2013/trace"
)

// run is one life of a container's process, from Start until it is cleaned up.
type run struct {
	started chan struct{} // closed when process is set, or there will be none
	ended   chan struct{} // closed when the last process has ended and its output is in the logs
	done    chan struct{} // closed when everything of the run is gone
	process Process
	code    int   // valid after ended
	err     error // why code isn't the program's own, valid after ended
}

func newRun() *run {
	return &run{started: make(chan struct{}), ended: make(chan struct{}), done: make(chan struct{})}
}

// over reports whether the last process has ended.
func (r *run) over() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

// Start mounts the container's file system and starts its process. When it
// returns nil the process has become the program; a *StartError says why it
// couldn't. The run goes on when ctx ends: ctx only carries the trace.
func (c *Container) Start(ctx context.Context) error {
	if _, err := c.begin(ctx, Window{}, byUser); err != nil {
		return err
	}
	c.save()
	return nil
}

// Run starts the container, streams until it ends, and returns its exit code.
func (c *Container) Run(ctx context.Context, a Attach) (int, error) {
	out, err := c.outputs() // before it can end, and with --rm be removed
	if err != nil {
		return exitOurs, err
	}
	defer out.close()
	r, err := c.begin(ctx, a.Size, byUser)
	if err != nil {
		return exitCode(err), err
	}
	if err := c.stream(ctx, r, a, out); err != nil {
		return ExitUnknown, err
	}
	return r.code, r.err
}

// starter is who begins a run.
type starter int

const (
	byUser starter = iota
	byPolicy
)

// begin begins a run, in a terminal of the given size if it has one.
func (c *Container) begin(ctx context.Context, size Window, by starter) (*run, error) {
	ctx = context.WithoutCancel(c.ctx(ctx))
	r := newRun()
	record, err := c.occupy(r, by)
	if err != nil {
		return nil, fmt.Errorf("start container %s: %w", c.id, err)
	}

	if err := c.start(ctx, r, &record, size); err != nil {
		return nil, errors.Join(err, c.failed(ctx, r, err))
	}
	close(r.started)
	c.emit(ActionStart, nil)
	go c.monitor(ctx, r)
	c.saveAfter(flushDelay)
	return r, nil
}

// occupy makes r the current run. One that is over is waited for. A policy doesn't
// begin what its user has stopped, a user does; nobody begins anything once the store
// is being closed, which stops what runs.
func (c *Container) occupy(r *run, by starter) (Record, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.run != nil && c.run.over() {
		old := c.run
		c.mu.Unlock()
		<-old.done
		c.mu.Lock()
	}
	switch {
	case c.removed:
		return Record{}, ErrRemoved
	case c.run != nil:
		return Record{}, ErrRunning
	case c.record.State.Running:
		return Record{}, errNotAdopted
	case c.store.closing.Load():
		return Record{}, errClosing
	case by == byPolicy && c.record.State.Stopped:
		return Record{}, errStopped
	}
	c.record.State.Stopped = false
	c.run = r
	return c.record, nil
}

// start is the straight line of a run up to the running process. Each step that
// made something takes it back if a later one fails.
func (c *Container) start(ctx context.Context, r *run, record *Record, size Window) (err error) {
	if err := c.runtime.Configure(ctx, record); err != nil {
		return fmt.Errorf("configure container %s: %w", record.Id, err)
	}
	if err := c.mounts.acquire(ctx, c); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.mounts.release(ctx, c))
		}
	}()
	process, err := c.runtime.Start(ctx, record, size)
	if err != nil {
		return err
	}
	r.process = process
	c.remember(func(rec *Record) {
		// Somebody may want it to end already.
		rec.State = State{Running: true, Pid: process.Pid(), StartedAt: time.Now(), Stopped: rec.State.Stopped}
	})
	return nil
}

// failed ends a run that never was: the record says why.
func (c *Container) failed(ctx context.Context, r *run, cause error) error {
	c.end(r, func(s *State) {
		*s = State{ExitCode: exitCode(cause), Error: cause.Error(), FinishedAt: time.Now(), Stopped: s.Stopped}
	})
	c.vacate()
	close(r.started) // who waits for it may have what is needed to remove it
	err := c.removeEnded(ctx)
	if err == nil {
		c.save()
	}
	close(r.ended)
	close(r.done)
	return err
}

// monitor waits for the end of a run and takes away what it used. It is the only
// place where a container stops being a running one.
//
// Whoever waits for the program has its answer when the last process has ended
// and all it wrote is in the logs; what the kernel and the disk still have to do
// goes on behind that. Until the record has the exit code the runtime keeps it.
func (c *Container) monitor(ctx context.Context, r *run) {
	wait := trace.Step(ctx, "container.wait", "pid", r.process.Pid())
	exit := r.process.Wait()
	r.err = exit.Err
	c.end(r, func(s *State) {
		s.Running, s.Paused, s.Pid = false, false, 0
		s.ExitCode, s.FinishedAt = exit.Code, time.Now()
		s.OOMKilled = exit.OOMKilled
		s.Error = ""
		if exit.Err != nil {
			s.Error = exit.Err.Error()
		}
	})
	wait.Set("exit", exit.Code)
	wait.End(exit.Err)
	if exit.OOMKilled {
		c.emit(ActionOOM, nil)
	}
	c.emit(ActionDie, &exit.Code)
	close(r.ended)
	goruntime.Gosched() // whoever waits goes first

	r.process.Gone(c.write() == nil)
	if uerr := c.mounts.release(ctx, c); uerr != nil {
		c.log.Error("unmount after a container's end", "container", c.id, "err", uerr)
	}
	cleanup := trace.Step(ctx, "container.cleanup", "dir", c.dir, "rw", filepath.Join(c.dir, "rw"))
	c.vacate()
	err := c.removeEnded(ctx)
	cleanup.End(err)
	close(r.done)
	if err != nil {
		c.log.Error("clean up after a container's end", "container", c.id, "err", err)
	}
	c.save()
	c.again(ctx)
}

// end sets the final state of a run, which a flush will save.
func (c *Container) end(r *run, f func(*State)) {
	c.remember(func(rec *Record) {
		f(&rec.State)
		r.code = rec.State.ExitCode
	})
}

// vacate lets go of the current run.
func (c *Container) vacate() {
	c.mu.Lock()
	c.run = nil
	c.mu.Unlock()
}
