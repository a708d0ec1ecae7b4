package images

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"docker2013/durable"
)

// Options are the limits of a store. Zero values are replaced by the defaults.
type Options struct {
	// MaxLayerBytes bounds what the files of a layer hold together, holes
	// included. 64 GiB.
	MaxLayerBytes int64
	// MaxLayerEntries bounds the number of its files, folders, links and the
	// rest. 4 Mi.
	MaxLayerEntries int64
}

const (
	defaultLayerBytes   = 64 << 30
	defaultLayerEntries = 4 << 20
)

func (o Options) limits() limits {
	l := limits{bytes: o.MaxLayerBytes, entries: o.MaxLayerEntries}
	if l.bytes <= 0 {
		l.bytes = defaultLayerBytes
	}
	if l.entries <= 0 {
		l.entries = defaultLayerEntries
	}
	// A stream of nothing but headers must end too. 1 KiB an entry, and the
	// padding, are more than archivers take.
	l.stream = math.MaxInt64
	if most := float64(l.bytes) + float64(l.entries)*1024; most < math.MaxInt64/2 {
		l.stream = l.bytes + l.entries<<10
	}
	return l
}

// Store is the images below one folder. All its methods can be called by
// several goroutines at once. Readers never wait: not for an import, not for
// the disk. The images they get are copies.
type Store struct {
	layers   string // the folder of layers
	reserved string // the file of reserve
	opts     Options
	limits   limits // of opts

	index atomic.Pointer[index]
	mu    sync.Mutex // held while the index and the folders in layers change
}

// Open opens the store in the folder root, which one process may do at a time,
// and creates it if need be. It removes what an interrupted import left. A store
// that was moved, or written by the 2013 daemon, is fine. The error of an
// index.json that makes no sense is ErrCorrupt; nothing is changed then.
func Open(root string, opts Options) (*Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	s := &Store{layers: filepath.Join(root, "layers"), reserved: filepath.Join(root, "reserve"), opts: opts, limits: opts.limits()}
	if err := os.MkdirAll(s.layers, 0o700); err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	if err := os.Chmod(s.layers, 0o700); err != nil { // 2013 let everybody in
		return nil, fmt.Errorf("images: %w", err)
	}
	x, err := loadIndex(filepath.Join(root, "index.json"), s.layers)
	if err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	s.index.Store(x)
	if err := errors.Join(s.sweep(), durable.Sweep(root)); err != nil {
		return nil, fmt.Errorf("images: clean up: %w", err)
	}
	s.reserve()
	return s, nil
}

// tmpPrefix begins the names of folders that are not, or no more, a layer.
const tmpPrefix = "tmp-"

// sweep removes them.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(s.layers)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tmpPrefix) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.layers, e.Name())))
		}
	}
	return err
}

// Find returns the image of this id, else the newest of this name, else the one
// whose id is NAME:HEX or has the hash HEX, of which at least 4 digits must be given
// and no other image may begin with; nil if there is none.
func (s *Store) Find(nameOrID string) *Image {
	if found := s.index.Load().find(nameOrID); len(found) > 0 {
		return found[0].clone()
	}
	return nil
}

// Names returns the names of all images, sorted.
func (s *Store) Names() []string {
	return slices.Sorted(maps.Keys(s.index.Load().ByName))
}

// History returns the images of one name, newest first.
func (s *Store) History(name string) []*Image {
	return clones(s.index.Load().ByName[name])
}

// All returns all images by name, the newest of each name first.
func (s *Store) All() []*Image {
	x := s.index.Load()
	var all []*Image
	for _, name := range slices.Sorted(maps.Keys(x.ByName)) {
		all = append(all, clones(x.ByName[name])...)
	}
	return all
}

// Len is the number of images.
func (s *Store) Len() int { return len(s.index.Load().ById) }

// LayerPath is the folder of a layer, by its id. It needn't exist.
func (s *Store) LayerPath(id string) string { return filepath.Join(s.layers, id) }

// LayerPaths returns the folders of all images' layers, sorted.
func (s *Store) LayerPaths() []string {
	return slices.Sorted(maps.Keys(s.index.Load().layers()))
}

// update saves a changed copy of the index, and then makes it the one that
// readers see. s.mu is held.
func (s *Store) update(change func(*index)) error {
	x := s.index.Load().clone()
	change(x)
	if err := x.save(); err != nil {
		return err
	}
	s.index.Store(x)
	return nil
}

// Limits are what the store was opened with, for Unpack.
func (s *Store) Limits() Options { return s.opts }
