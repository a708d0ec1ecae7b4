package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	goruntime "runtime"
	"sync"
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
	layering sync.Mutex // held while a layer is read: the one who paused lets go on

	flushing sync.Mutex
	flushed  int // how many of the changes are durable
}

// run is one life of a container's process, from Start until it is cleaned up.
type run struct {
	started chan struct{} // closed when process is set, or done is closed
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

// Start mounts the container's file system and starts its process. When it
// returns nil the process has become the program; a *StartError says why it
// couldn't. The run goes on when ctx ends: ctx only carries the trace.
func (c *Container) Start(ctx context.Context) error {
	if _, err := c.begin(ctx, Window{}, byUser); err != nil {
		return err
	}
	return c.flush()
}

// Run starts the container, streams until it ends, and returns its exit code.
func (c *Container) Run(ctx context.Context, a Attach) (int, error) {
	out, err := c.outputs() // before it can end, and with --rm be removed
	if err != nil {
		return ExitUnknown, err
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
	c.flushLater()
	return r, nil
}

// occupy makes r the current run. One that is over is waited for. A policy doesn't
// begin what its user has stopped, a user does.
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
		*s = State{ExitCode: exitCode(cause), Error: cause.Error(), FinishedAt: time.Now()}
	})
	c.vacate()
	var err error
	if c.config.AutoRemove {
		err = c.store.Remove(ctx, c)
	} else {
		err = c.flush()
	}
	close(r.started)
	close(r.ended)
	close(r.done)
	return unlessRemoved(err)
}

// unlessRemoved makes nothing of what is not there any more.
func unlessRemoved(err error) error {
	if errors.Is(err, ErrRemoved) {
		return nil
	}
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

	err := c.write()
	r.process.Gone()
	if uerr := c.mounts.release(ctx, c); uerr != nil {
		c.log.Error("unmount after a container's end", "container", c.id, "err", uerr)
	}
	cleanup := trace.Step(ctx, "container.cleanup", "dir", c.dir, "rw", filepath.Join(c.dir, "rw"))
	c.vacate()
	if err == nil && c.config.AutoRemove {
		err = c.store.Remove(ctx, c)
	}
	cleanup.End(err)
	close(r.done)
	if err := unlessRemoved(errors.Join(err, c.flush())); err != nil {
		c.log.Error("clean up after a container's end", "container", c.id, "err", err)
	}
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

// current is the run that is under way, when it has started; ErrNotRunning if
// there is none.
func (c *Container) current() (*run, error) {
	c.mu.Lock()
	r := c.run
	c.mu.Unlock()
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
// and, when it hasn't within the grace period, kills it. It returns when the run is gone; a container that
// doesn't run is none of its business.
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
	if c.Record().State.Paused == to {
		return fmt.Errorf("container %s: %w", c.id, already)
	}
	if err := do(r.process); err != nil {
		return fmt.Errorf("container %s: %w", c.id, err)
	}
	if err := c.change(func(rec *Record) { rec.State.Paused = to && rec.State.Running }); err != nil {
		return err
	}
	if to {
		c.emit(ActionPause, nil)
	} else {
		c.emit(ActionUnpause, nil)
	}
	return c.flush()
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

// stream copies in both directions and returns when the run has ended. An input that the container
// doesn't take is left unread.
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

func (c *Container) outputs() (o *outputs, err error) {
	o = &outputs{}
	defer func() {
		if err != nil {
			o.close()
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
	o.errFrom, err = o.stderr.length()
	return o, err
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

// Changes lists what the container has changed, sorted by path.
func (c *Container) Changes() ([]Change, error) {
	fsys := c.Record().Filesystem
	return c.union.Changes(&fsys)
}

// remove deletes the container's folder. Nothing of it may run or be mounted.
func (c *Container) remove() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return ErrRemoved
	}
	if c.run != nil {
		return fmt.Errorf("remove container %s: %w", c.id, ErrRunning)
	}
	// Deleting a folder with a mount in it would delete through the mount.
	if mounted, err := c.union.Mounted(&c.record.Filesystem); err != nil {
		return fmt.Errorf("remove container %s: %w", c.id, err)
	} else if mounted {
		return fmt.Errorf("remove container %s: %w", c.id, ErrMounted)
	}
	// A rename first: a crash half way leaves a folder that the next start
	// knows to be rubbish, never a container with half its files.
	rubbish := filepath.Join(c.store.root, tmpPrefix+c.id)
	if err := os.Rename(c.dir, rubbish); err != nil {
		return fmt.Errorf("remove container %s: %w", c.id, err)
	}
	c.removed = true
	if err := os.RemoveAll(rubbish); err != nil {
		return fmt.Errorf("remove container %s: %w", c.id, err)
	}
	return nil
}

// Layer is what the container has changed, as the tar of a layer. A running
// container is paused until it is read or closed, so that the layer is the
// state of one moment.
func (c *Container) Layer(ctx context.Context) (io.ReadCloser, error) {
	c.layering.Lock()
	err := c.Pause()
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
