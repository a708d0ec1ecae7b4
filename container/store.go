package container

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"docker2013/durable"
	"docker2013/trace"
)

// tmpPrefix begins the name of a folder that is being removed.
const tmpPrefix = "tmp-"

// Store is the list of all containers below one folder.
type Store struct {
	root    string
	opts    Options
	watcher *watcher
	events  events
	ids     idPool
	closing atomic.Bool // the daemon ends: nothing is started again

	mu    sync.Mutex
	list  map[string]*Container // by id
	names map[string]*Container // by name, of those that have one
}

// Names of the two paths.
const (
	Classic = "classic" // as in January 2013
	Modern  = "modern"  // as it is done now
)

// Engine is one of the two paths: what mounts and what starts its containers.
type Engine struct {
	Union   Union
	Runtime Runtime
}

// Options are what a store works with. All are needed.
type Options struct {
	// Engines are the paths there are, by their names: "classic", "modern".
	Engines map[string]Engine
	// Layer finds a layer's directory by its name, for records that were
	// written when the data directory was somewhere else.
	Layer func(name string) string
	// IDs are those that containers with a user namespace share out. If the
	// first is 0, every container has one, with all of them: the daemon itself
	// is in a user namespace, and these are what it is itself.
	IDs IDs
	Log *slog.Logger
}

// Spec is what Create makes a container from.
type Spec struct {
	Path     string
	Args     []string
	Layers   []string // top layer first
	Config   Config   // an empty Hostname becomes the id
	UserData map[string]string
	Engine   string
	Name     string // "": none
}

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
	s := &Store{root: root, opts: opts, watcher: w, ids: idPool{all: opts.IDs, taken: map[uint32]bool{}}, list: map[string]*Container{}, names: map[string]*Container{}}
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("open containers: %w", err)
	}
	for _, e := range entries {
		dir := filepath.Join(root, e.Name())
		if strings.HasPrefix(e.Name(), tmpPrefix) {
			if err := os.RemoveAll(dir); err != nil {
				opts.Log.Warn("remove a half-removed container", "dir", dir, "err", err)
			}
			continue
		}
		if err := durable.Sweep(dir); err != nil {
			opts.Log.Warn("remove half-written files", "dir", dir, "err", err)
		}
		c, err := s.load(dir)
		if err != nil {
			// One bad folder must not cost the others. It is left as it is.
			opts.Log.Error("container can't be loaded; its folder is left alone", "dir", dir, "err", err)
			continue
		}
		if err := c.restore(ctx); err != nil {
			opts.Log.Error("restore container", "container", c.id, "err", err)
		}
		s.list[c.id] = c
		if name := c.record.Name; name != "" {
			s.names[name] = c
		}
	}
	return s, nil
}

// load reads one container's folder.
func (s *Store) load(dir string) (*Container, error) {
	data, err := os.ReadFile(filepath.Join(dir, recordFile))
	if errors.Is(err, os.ErrNotExist) {
		if removeUnborn(dir) {
			return nil, fmt.Errorf("no config.json: the daemon died while it was made; removed")
		}
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

func (s *Store) container(r Record, userData map[string]string) (*Container, error) {
	if r.Engine == "" {
		r.Engine = Classic
	}
	engine, ok := s.opts.Engines[r.Engine]
	if !ok {
		return nil, fmt.Errorf("this daemon has no path %q", r.Engine)
	}
	c := &Container{store: s, union: engine.Union, runtime: engine.Runtime, log: s.opts.Log,
		id: r.Id, dir: r.Root, engine: r.Engine, config: r.Config, created: r.Created,
		record: r, userData: userData}
	return c, nil
}

// restore finds out what became of a container while no daemon watched.
func (c *Container) restore(ctx context.Context) error {
	process, err := c.runtime.Adopt(ctx, &c.record)
	if err == nil {
		return c.adopt(ctx, process)
	}
	if !errors.Is(err, ErrNotRunning) {
		return err
	}
	end := Exit{Code: ExitUnknown, Err: ErrUnseen}
	ended, known := errors.AsType[*EndedError](err)
	if known {
		end = ended.Exit
	}
	fsys := c.record.Filesystem
	mounted, err := c.union.Mounted(&fsys)
	if err == nil && mounted {
		err = c.unmount(ctx)
	}
	if !c.record.State.Running && !known {
		return err
	}
	serr := c.change(func(r *Record) {
		r.State.Running, r.State.Paused, r.State.Pid = false, false, 0
		r.State.ExitCode, r.State.FinishedAt = end.Code, time.Now()
		r.State.Error = ""
		if end.Err != nil {
			r.State.Error = end.Err.Error()
		}
	})
	if serr == nil {
		serr = c.flush()
	}
	if serr == nil && known && ended.Forget != nil {
		serr = ended.Forget()
	}
	return errors.Join(err, serr)
}

// adopt takes up a container that another daemon started.
func (c *Container) adopt(ctx context.Context, process Process) error {
	r := newRun()
	r.process = process
	c.run = r
	c.mounts.users = 1 // its root
	close(r.started)
	err := c.change(func(rec *Record) {
		rec.State.Running, rec.State.Pid = true, process.Pid()
		if rec.State.StartedAt.IsZero() {
			rec.State.StartedAt = time.Now()
		}
	})
	go c.monitor(context.WithoutCancel(c.ctx(ctx)), r)
	if err != nil {
		return err
	}
	return c.flush()
}

// Create makes a container: its folder and its record. Nothing runs yet. Both
// are durable when Start has returned.
func (s *Store) Create(ctx context.Context, spec Spec) (c *Container, err error) {
	step := trace.Step(ctx, "container.create", "command", spec.Path)
	defer func() { step.End(err) }()
	if s.opts.IDs.rootless() {
		spec.Config.UsernsMode = UsernsAuto
	}
	if engine, ok := s.opts.Engines[cmp.Or(spec.Engine, Classic)]; ok {
		draft := Record{Path: spec.Path, Args: spec.Args, Config: spec.Config, Filesystem: Filesystem{Layers: spec.Layers}}
		if err := engine.Runtime.Check(&draft); err != nil {
			return nil, cantRun{err}
		}
	}
	s.mu.Lock()
	err = s.free(spec.Name)
	s.mu.Unlock()
	if err != nil {
		return nil, cantRun{err}
	}
	id, dir, err := s.newDir()
	if err != nil {
		return nil, fmt.Errorf("create container: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(dir) // nothing is mounted and nobody has it
		}
	}()
	var ids *IDs
	if spec.Config.UsernsMode == UsernsAuto {
		if ids, err = s.ids.take(); err != nil {
			return nil, cantRun{err}
		}
		defer func() {
			if err != nil {
				s.ids.free(ids)
			}
		}()
	}
	step.Container(id, spec.Engine)
	step.Set("dir", dir)
	for _, sub := range []string{"rootfs", "rw"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("create container: %w", err)
		}
	}
	if spec.Config.Hostname == "" {
		spec.Config.Hostname = id
	}
	r := Record{Id: id, Name: spec.Name, Root: dir, Created: time.Now(), Path: spec.Path, Args: spec.Args,
		Config: spec.Config, Engine: spec.Engine,
		Filesystem: Filesystem{
			RootFS: filepath.Join(dir, "rootfs"), RWPath: filepath.Join(dir, "rw"),
			Layers: spec.Layers, IDs: ids,
		}}
	if r.Args == nil {
		r.Args = []string{} // as 2013 wrote it: [] and not null
	}
	if c, err = s.container(r, maps.Clone(spec.UserData)); err != nil {
		return nil, fmt.Errorf("create container: %w", err)
	}
	c.record.Filesystem.Union = c.union.Name()
	// The record is last: with it the folder is a container.
	for _, file := range []struct {
		name  string
		value any
	}{{userDataFile, c.userData}, {recordFile, c.record}} {
		if err := saveJSON(filepath.Join(dir, file.name), file.value); err != nil {
			return nil, fmt.Errorf("create container: %w", err)
		}
	}
	c.changes, c.written = 1, 1
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.free(spec.Name); err != nil {
		return nil, err
	}
	s.list[id] = c
	if spec.Name != "" {
		s.names[spec.Name] = c
	}
	c.emit(ActionCreate, nil)
	return c, nil
}

// newDir makes the folder of a new container, under an id that nobody has.
func (s *Store) newDir() (id, dir string, err error) {
	for range 100 {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails: crypto/rand
		id = hex.EncodeToString(b[:])
		dir = filepath.Join(s.root, id)
		if err = os.Mkdir(dir, 0o700); !errors.Is(err, os.ErrExist) {
			return id, dir, err
		}
	}
	return "", "", err
}

// Get finds a container by its id, its name, or by a beginning of its id that fits
// one alone. It returns nil if there is none.
func (s *Store) Get(id string) *Container {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.list[id]; c != nil || id == "" {
		return c
	}
	if c := s.names[id]; c != nil {
		return c
	}
	var found *Container
	for other, c := range s.list {
		if strings.HasPrefix(other, id) {
			if found != nil {
				return nil
			}
			found = c
		}
	}
	return found
}

// Fitting is how many ids begin with start.
func (s *Store) Fitting(start string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.list {
		if start != "" && strings.HasPrefix(id, start) {
			n++
		}
	}
	return n
}

// List is all containers, newest first.
func (s *Store) List() []*Container {
	s.mu.Lock()
	list := slices.Collect(maps.Values(s.list))
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b *Container) int {
		return cmp.Or(b.created.Compare(a.created), cmp.Compare(a.id, b.id))
	})
	return list
}

// UsesLayer reports whether a container's root file system has the layer.
func (s *Store) UsesLayer(dir string) bool {
	for _, c := range s.List() {
		if slices.Contains(c.Record().Filesystem.Layers, dir) {
			return true
		}
	}
	return false
}

// Remove deletes a container that doesn't run. A mount that was made by hand,
// or that an earlier unmount left, goes with it.
func (s *Store) Remove(ctx context.Context, c *Container) error {
	c.mounts.mu.Lock()
	defer c.mounts.mu.Unlock()
	if c.mounts.users == 0 {
		fsys := c.Record().Filesystem
		if mounted, err := c.union.Mounted(&fsys); err == nil && mounted {
			if err := c.unmount(c.ctx(ctx)); err != nil {
				return err
			}
		}
	}
	if err := c.remove(); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.list, c.id)
	if name := c.Record().Name; name != "" {
		delete(s.names, name)
	}
	s.mu.Unlock()
	s.ids.free(c.Record().Filesystem.IDs)
	c.emit(ActionDestroy, nil)
	return durable.SyncDir(s.root)
}

// Close stops every container and unmounts everything.
func (s *Store) Close(ctx context.Context, grace time.Duration) error {
	s.closing.Store(true)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for _, c := range s.List() {
		wg.Go(func() {
			err := c.Stop(ctx, grace)
			if c.mounts.byHandOnly() {
				err = errors.Join(err, c.Unmount(ctx))
			}
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	wg.Wait()
	return errors.Join(append(errs, s.watcher.close())...)
}

func (m *mounts) byHandOnly() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.byHand && m.users == 0
}
