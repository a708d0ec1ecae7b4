package container

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
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

// container is one with this record, on the path that the record names.
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

// Create makes a container: its folder and its record. Nothing runs yet. Both
// are durable when Start or Save has returned. ErrCantRun.
func (s *Store) Create(ctx context.Context, spec Spec) (c *Container, err error) {
	step := trace.Step(ctx, "container.create", "command", spec.Path)
	defer func() { step.End(err) }()
	if s.opts.IDs.rootless() {
		spec.Config.UsernsMode = UsernsAuto
	}
	if err := s.check(spec); err != nil {
		return nil, cantRun{err}
	}
	id, dir, err := s.newDir()
	if err != nil {
		return nil, fmt.Errorf("create container: %w", err)
	}
	var ids *IDs
	defer func() {
		if err != nil {
			s.ids.release(ids)
			_ = os.RemoveAll(dir) // nothing is mounted and nobody has it
		}
	}()
	if spec.Config.UsernsMode == UsernsAuto {
		if ids, err = s.ids.take(); err != nil {
			return nil, cantRun{err}
		}
	}
	step.Container(id, spec.Engine)
	step.Set("dir", dir)
	c, err = s.container(newRecord(spec, id, dir, ids), maps.Clone(spec.UserData))
	if err == nil {
		c.record.Filesystem.Union = c.union.Name()
		err = c.makeFolder()
	}
	if err != nil {
		return nil, fmt.Errorf("create container: %w", err)
	}
	if err := s.add(c); err != nil {
		return nil, cantRun{err}
	}
	c.emit(ActionCreate, nil)
	return c, nil
}

// check says what no container can be made from, before anything is.
func (s *Store) check(spec Spec) error {
	if engine, ok := s.opts.Engines[cmp.Or(spec.Engine, Classic)]; ok {
		draft := Record{Path: spec.Path, Args: spec.Args, Config: spec.Config, Filesystem: Filesystem{Layers: spec.Layers}}
		if err := engine.Runtime.Check(&draft); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free(spec.Name)
}

// newRecord is the first record of a container whose folder is dir.
func newRecord(spec Spec, id, dir string, ids *IDs) Record {
	spec.Config.Hostname = cmp.Or(spec.Config.Hostname, id)
	if spec.Args == nil {
		spec.Args = []string{} // as 2013 wrote it: [] and not null
	}
	return Record{Id: id, Name: spec.Name, Root: dir, Created: time.Now(), Path: spec.Path, Args: spec.Args,
		Config: spec.Config, Engine: spec.Engine,
		Filesystem: Filesystem{
			RootFS: filepath.Join(dir, "rootfs"), RWPath: filepath.Join(dir, "rw"),
			Layers: spec.Layers, IDs: ids,
		}}
}

// makeFolder fills a new container's folder. The record is last: with it the folder
// is a container.
func (c *Container) makeFolder() error {
	for _, dir := range []string{c.record.Filesystem.RootFS, c.record.Filesystem.RWPath} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := saveJSON(filepath.Join(c.dir, userDataFile), c.userData); err != nil {
		return err
	}
	if err := saveJSON(filepath.Join(c.dir, recordFile), c.record); err != nil {
		return err
	}
	c.changes, c.written = 1, 1
	return nil
}

// add puts a container into the lists, unless somebody has just taken its name.
func (s *Store) add(c *Container) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.free(c.record.Name); err != nil {
		return err
	}
	s.list[c.id] = c
	if c.record.Name != "" {
		s.names[c.record.Name] = c
	}
	return nil
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

// Close stops every container and unmounts everything. From its beginning on nothing
// is started.
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
			err = errors.Join(err, c.flush()) // a disk that was full may take it now
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	wg.Wait()
	return errors.Join(append(errs, s.watcher.close())...)
}
