package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"docker2013/durable"
)

// Open loads the containers below root and brings their states in line with the
// truth: what still runs is adopted, what doesn't is cleaned up and marked.
func Open(ctx context.Context, root string, opts Options) (*Store, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("open containers: %w", err)
	}
	w, err := newWatcher(opts.Log)
	if err != nil {
		return nil, err
	}
	s := &Store{root: root, opts: opts, watcher: w, ids: idPool{all: opts.IDs, taken: map[IDs]bool{}}, list: map[string]*Container{}, names: map[string]*Container{}}
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open containers: %w", err), w.close())
	}
	for _, e := range entries {
		s.open(ctx, filepath.Join(root, e.Name()))
	}
	return s, nil
}

// open takes up what is in one folder: a container, or what is left of one. One bad
// folder must not cost the others, so it tells the log alone.
func (s *Store) open(ctx context.Context, dir string) {
	if strings.HasPrefix(filepath.Base(dir), tmpPrefix) {
		if err := os.RemoveAll(dir); err != nil {
			s.opts.Log.Warn("remove a half-removed container", "dir", dir, "err", err)
		}
		return
	}
	if err := durable.Sweep(dir); err != nil {
		s.opts.Log.Warn("remove half-written files", "dir", dir, "err", err)
	}
	c, err := s.load(dir)
	switch {
	case errors.Is(err, errUnborn):
		s.opts.Log.Warn("removed a container that the daemon died over while it was made", "dir", dir)
		return
	case err != nil:
		s.opts.Log.Error("container can't be loaded; its folder is left alone", "dir", dir, "err", err)
		return
	}
	s.mu.Lock() // those that were adopted end meanwhile
	s.list[c.id] = c
	if name := c.record.Name; name != "" {
		s.names[name] = c
	}
	s.mu.Unlock()
	if err := c.restore(ctx); err != nil {
		s.opts.Log.Error("restore container", "container", c.id, "err", err)
	}
}

// errUnborn: there was nothing but the beginning of a container, and it is removed.
var errUnborn = errors.New("no config.json")

// load reads one container's folder.
func (s *Store) load(dir string) (*Container, error) {
	data, err := os.ReadFile(filepath.Join(dir, recordFile))
	if errors.Is(err, os.ErrNotExist) && removeUnborn(dir) {
		return nil, errUnborn
	}
	if err != nil {
		return nil, err
	}
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("read config.json: %w", err)
	}
	if r.Id != filepath.Base(dir) {
		return nil, fmt.Errorf("config.json is of container %q", r.Id)
	}
	s.rebase(&r, dir)
	c, err := s.container(r, map[string]string{})
	if err != nil {
		return nil, err
	}
	c.changes, c.written, c.flushed = 1, 1, 1 // it comes from the disk
	s.ids.keep(r.Filesystem.IDs)
	data, err = os.ReadFile(filepath.Join(dir, userDataFile))
	if err == nil {
		err = json.Unmarshal(data, &c.userData)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read userdata.json: %w", err)
	}
	return c, nil
}

// removeUnborn removes the folder of a container whose creation was cut short:
// no record, and nothing written by anybody. It reports whether it did.
func removeUnborn(dir string) bool {
	for _, sub := range []string{"rootfs", "rw"} {
		if err := os.Remove(filepath.Join(dir, sub)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return false
		}
	}
	_ = os.Remove(filepath.Join(dir, userDataFile))
	return os.Remove(dir) == nil
}

// rebase makes a record's absolute paths right for where it is now. In 2013 a
// data directory that was moved was lost.
func (s *Store) rebase(r *Record, dir string) {
	r.Root = dir
	r.Filesystem.RootFS = filepath.Join(dir, "rootfs")
	r.Filesystem.RWPath = filepath.Join(dir, "rw")
	r.Filesystem.Layers = slices.Clone(r.Filesystem.Layers)
	for i, layer := range r.Filesystem.Layers {
		r.Filesystem.Layers[i] = s.opts.Layer(filepath.Base(layer))
	}
}

// errNotAdopted: the log of the daemon's start says why.
var errNotAdopted = errors.New("it may run, but this daemon couldn't take it up: see its log, mend that, and start it again")

// restore finds out what became of a container while no daemon watched.
func (c *Container) restore(ctx context.Context) error {
	record := c.record // the process keeps what it is given, and this one changes
	process, err := c.runtime.Adopt(ctx, &record)
	if err == nil {
		c.adopt(ctx, process)
		return nil
	}
	if !errors.Is(err, ErrNotRunning) {
		return err
	}
	end, at := Exit{Code: ExitUnknown, Err: ErrUnseen}, time.Now()
	ended, known := errors.AsType[*EndedError](err)
	if known {
		end = ended.Exit
	}
	if known && !ended.At.IsZero() {
		at = ended.At
	}
	fsys := c.record.Filesystem
	mounted, err := c.union.Mounted(&fsys)
	if err == nil && mounted {
		err = c.unmount(ctx)
	}
	if c.record.State.Running || known {
		err = errors.Join(err, c.ended(end, at, ended))
	}
	if err == nil {
		err = c.removeEnded(ctx)
	}
	return err
}

// ended notes how and when a run ended that no daemon watched.
func (c *Container) ended(end Exit, at time.Time, told *EndedError) error {
	c.remember(func(r *Record) {
		r.State.Running, r.State.Paused, r.State.Pid = false, false, 0
		r.State.ExitCode, r.State.FinishedAt = end.Code, at
		r.State.Error = ""
		if end.Err != nil {
			r.State.Error = end.Err.Error()
		}
	})
	c.save()
	if c.unsaved.Load() || told == nil || told.Forget == nil {
		return nil
	}
	return told.Forget()
}

// adopt takes up a container that another daemon started.
func (c *Container) adopt(ctx context.Context, process Process) {
	r := newRun()
	r.process = process
	c.run = r
	c.mounts.users = 1 // its root
	close(r.started)
	c.remember(func(rec *Record) {
		rec.State.Running, rec.State.Pid = true, process.Pid()
		if rec.State.StartedAt.IsZero() {
			rec.State.StartedAt = time.Now()
		}
	})
	go c.monitor(context.WithoutCancel(c.ctx(ctx)), r)
	c.save()
}
