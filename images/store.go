package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"docker2013/durable"
	"docker2013/trace"
)

// tmpPrefix begins the name of a layer that isn't one yet, or is one no more.
const tmpPrefix = "tmp-"

// Defaults of Options.
const (
	defaultMaxLayerBytes   = 64 << 30
	defaultMaxLayerEntries = 4 << 20
)

// Options bound what an import may take. Zero is the default.
type Options struct {
	MaxLayerBytes   int64 // of all files of a layer, unpacked, holes included: 64 GiB
	MaxLayerEntries int64 // files, folders, links: 4 Mi
}

// Image is a name for a stack of layers. The JSON is that of 2013.
type Image struct {
	Id      string    // NAME:HEX
	Layers  []string  // the layers' directories, top layer first
	Created time.Time // when
	Parent  string    // the id of the image it was made from, "": none
}

// Name is the part of the id before the hash.
func (i *Image) Name() string { return i.Id[:max(0, strings.LastIndexByte(i.Id, ':'))] }

// Store is a store of images below one folder. One process has it at a time.
type Store struct {
	root string
	opts Options

	mu    sync.RWMutex
	index index
	// busy are layers that an import is about to name: not to be removed.
	busy map[string]int
}

// Open opens the store below root and removes what interrupted imports and
// removals left. An index that can't be read is ErrCorrupt, and is left alone.
func Open(root string, opts Options) (*Store, error) {
	if opts.MaxLayerBytes == 0 {
		opts.MaxLayerBytes = defaultMaxLayerBytes
	}
	if opts.MaxLayerEntries == 0 {
		opts.MaxLayerEntries = defaultMaxLayerEntries
	}
	s := &Store{root: root, opts: opts, busy: map[string]int{}}
	if err := os.MkdirAll(s.layersDir(), 0o700); err != nil {
		return nil, fmt.Errorf("open images: %w", err)
	}
	if err := durable.Sweep(root); err != nil {
		return nil, fmt.Errorf("open images: %w", err)
	}
	entries, err := os.ReadDir(s.layersDir())
	if err != nil {
		return nil, fmt.Errorf("open images: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tmpPrefix) {
			if err := os.RemoveAll(filepath.Join(s.layersDir(), e.Name())); err != nil {
				return nil, fmt.Errorf("remove what an interrupted import left: %w", err)
			}
		}
	}
	if s.index, err = loadIndex(s.indexPath()); err != nil {
		return nil, fmt.Errorf("open images: %w", err)
	}
	s.index.rebase(root, s.LayerPath)
	return s, nil
}

func (s *Store) indexPath() string { return filepath.Join(s.root, "index.json") }
func (s *Store) layersDir() string { return filepath.Join(s.root, "layers") }

// LayerPath is the directory of a layer, by its id. It needn't exist.
func (s *Store) LayerPath(id string) string { return filepath.Join(s.layersDir(), id) }

// Find finds an image by its id, or the newest of a name
// (docker@bba4e36807:image/image.go:94). It returns nil if there is none.
func (s *Store) Find(nameOrID string) *Image {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.index.find(nameOrID).clone()
}

// Names are the names of all images, sorted.
func (s *Store) Names() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.index.names()
}

// History is all images of a name, newest first.
func (s *Store) History(name string) []*Image {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var images []*Image
	for _, img := range s.index.ByName[name] {
		images = append(images, img.clone())
	}
	return images
}

// Len is how many images there are.
func (s *Store) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.index.ById)
}

// LayerPaths are the directories of all layers, sorted.
func (s *Store) LayerPaths() []string {
	entries, err := os.ReadDir(s.layersDir())
	if err != nil {
		return nil
	}
	var paths []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tmpPrefix) {
			paths = append(paths, s.LayerPath(e.Name()))
		}
	}
	return paths
}

// Import makes an image of a tar stream, plain or compressed with gzip, zstd or
// xz: one layer, on top of parent's if there is a parent. It reads r to its end.
// progress, if not nil, is told the number of bytes read so far.
//
// The errors are ErrBadName, ErrNotArchive, ErrUnsafe, ErrTooBig, and those of r
// and of the disk. After an error, and after the end of ctx, nothing is left.
func (s *Store) Import(ctx context.Context, name string, r io.Reader, parent *Image, progress func(bytes int64)) (*Image, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	id, err := s.addLayer(ctx, r, progress)
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", name, err)
	}
	defer s.unbusy(id)
	img := &Image{Layers: []string{s.LayerPath(id)}, Created: time.Now()}
	if parent != nil {
		img.Layers = append(img.Layers, parent.Layers...)
		img.Parent = parent.Id
	}
	img.Id = imageID(name, img.Layers)
	if err := s.add(img); err != nil {
		return nil, fmt.Errorf("import %s: %w", name, err)
	}
	return img.clone(), nil
}

// addLayer unpacks a layer and publishes it (docker@bba4e36807:image/layers.go:85).
// The layer is busy until unbusy.
func (s *Store) addLayer(ctx context.Context, r io.Reader, progress func(int64)) (id string, err error) {
	tmp, err := os.MkdirTemp(s.layersDir(), tmpPrefix)
	if err != nil {
		return "", err
	}
	defer func() {
		if tmp != "" {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	id, err = s.unpackLayer(ctx, tmp, r, progress)
	if err != nil {
		return "", err
	}
	step := trace.Step(ctx, "images.publish", "layer", id)
	defer func() { step.End(err) }()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := os.Lstat(s.LayerPath(id)); err == nil {
		s.busy[id]++
		return id, nil // it was there; this copy of it goes
	}
	if err := os.Rename(tmp, s.LayerPath(id)); err != nil {
		return "", err
	}
	tmp = ""
	if err := durable.SyncDir(s.layersDir()); err != nil {
		return "", err
	}
	s.busy[id]++
	return id, nil
}

// unpackLayer unpacks the stream into tmp and returns when all is on the disk.
func (s *Store) unpackLayer(ctx context.Context, tmp string, r io.Reader, progress func(int64)) (id string, err error) {
	step := trace.Step(ctx, "images.unpack", "dir", tmp)
	defer func() { step.End(err) }()
	// The root as a tar without an entry for it wants it; MkdirTemp made it 0700.
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", err
	}
	// A stream of nothing but headers must end too: 1 KiB an entry and the
	// padding are more than enough.
	most := s.opts.MaxLayerBytes + s.opts.MaxLayerEntries<<10
	stream := newStream(ctx, r, most, progress)
	defer stream.stop(nil)
	flush, err := newFlusher(tmp)
	if err != nil {
		return "", err
	}
	err = unpack(stream, tmp, limits{bytes: s.opts.MaxLayerBytes, entries: s.opts.MaxLayerEntries})
	if err = errors.Join(err, flush.finish()); err != nil {
		return "", err
	}
	return string(stream.id()), nil
}

func (s *Store) unbusy(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[id]--; s.busy[id] == 0 {
		delete(s.busy, id)
	}
}

// add puts an image into the index. An image that was there becomes the newest.
func (s *Store) add(img *Image) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.change(func(next *index) { next.add(img.clone()) })
}

// change replaces the index, on the disk and then in memory; s.mu is held.
func (s *Store) change(f func(*index)) error {
	next := s.index.clone()
	f(&next)
	if err := next.save(s.indexPath()); err != nil {
		return err
	}
	s.index = next
	return nil
}

// Copy gives the layers of an image a further name. The new image's parent is
// the old one. ErrNotFound, ErrBadName.
func (s *Store) Copy(src, name string) (*Image, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.index.find(src)
	if old == nil {
		return nil, fmt.Errorf("copy %s: %w", src, ErrNotFound)
	}
	img := &Image{Layers: slices.Clone(old.Layers), Created: time.Now(), Parent: old.Id}
	img.Id = imageID(name, img.Layers)
	if err := s.change(func(next *index) { next.add(img.clone()) }); err != nil {
		return nil, fmt.Errorf("copy %s: %w", src, err)
	}
	return img, nil
}

// Remove removes an image by its id, or all images of a name, and the layers
// that no other image has. It returns the directories of those. While inUse
// says that a container has one of the layers, it is ErrInUse and nothing is
// removed.
func (s *Store) Remove(nameOrID string, inUse func(layer string) bool) (removed []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	doomed := s.index.doomed(nameOrID)
	if len(doomed) == 0 {
		return nil, fmt.Errorf("remove %s: %w", nameOrID, ErrNotFound)
	}
	next := s.index.clone()
	for _, img := range doomed {
		next.remove(img.Id)
	}
	var orphans []string
	for _, img := range doomed {
		for _, layer := range img.Layers {
			if !next.uses(layer) && s.busy[filepath.Base(layer)] == 0 && !slices.Contains(orphans, layer) {
				orphans = append(orphans, layer)
			}
		}
	}
	for _, layer := range orphans {
		if inUse != nil && inUse(layer) {
			return nil, fmt.Errorf("remove %s: layer %s: %w", nameOrID, filepath.Base(layer), ErrInUse)
		}
	}
	// The index first: after a crash a layer without an image is only disk space.
	if err := next.save(s.indexPath()); err != nil {
		return nil, fmt.Errorf("remove %s: %w", nameOrID, err)
	}
	s.index = next
	for _, layer := range orphans {
		if err := s.removeLayer(layer); err != nil {
			return removed, fmt.Errorf("remove %s: %w", nameOrID, err)
		}
		removed = append(removed, layer)
	}
	return removed, nil
}

// removeLayer renames first, so that half a layer is never one.
func (s *Store) removeLayer(layer string) error {
	tmp, err := os.MkdirTemp(s.layersDir(), tmpPrefix)
	if err != nil {
		return err
	}
	err = os.Rename(layer, filepath.Join(tmp, "old"))
	if errors.Is(err, os.ErrNotExist) {
		err = nil // somebody removed it by hand
	}
	return errors.Join(err, os.RemoveAll(tmp))
}

// imageID is the id of an image with these layers, top first.
func imageID(name string, layers []string) string {
	if len(layers) == 1 {
		return name + ":" + filepath.Base(layers[0])
	}
	h := sha256.New()
	for _, layer := range layers {
		_, _ = io.WriteString(h, filepath.Base(layer)) // a hash never fails
	}
	return name + ":" + hex.EncodeToString(h.Sum(nil)[:8])
}

// maxName is plenty for a URL, which is what `pull` names an image by.
const maxName = 1024

// checkName finds names that a table, a log or an index would stumble over.
func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty", ErrBadName)
	case len(name) > maxName:
		return fmt.Errorf("%w: it has %d bytes, at most %d may be", ErrBadName, len(name), maxName)
	case strings.HasPrefix(name, "-"):
		return fmt.Errorf("%w: %q begins with a dash, like a flag", ErrBadName, name)
	}
	for _, r := range name {
		if r <= ' ' || r == 0x7f || r == '\uFFFD' {
			return fmt.Errorf("%w: %q has a space, a control character or no valid UTF-8", ErrBadName, name)
		}
	}
	return nil
}
