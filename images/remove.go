package images

import (
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// Copy gives the layers of the image src, a name or an id, a second name. The
// new image's parent is src. ErrNotFound, ErrBadName.
func (s *Store) Copy(src, name string) (*Image, error) {
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("copy: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	parent := s.Find(src)
	if parent == nil {
		return nil, fmt.Errorf("copy %s: %w", src, ErrNotFound)
	}
	img := newImage(name, "", parent)
	if err := s.update(func(x *index) { x.insert(img) }); err != nil {
		return nil, fmt.Errorf("copy %s: %w", src, err)
	}
	return img.clone(), nil
}

// Remove removes the image of an id, or all images of a name, and the layers
// that no other image has, whose folders it returns. ErrNotFound; ErrInUse if
// inUse says that a container needs one of those layers: then nothing is
// removed. inUse is called while no image can be added; it must not call back.
//
// What takes long, deleting the layers' files, is left to finish, which is never nil,
// so that the caller can let others go on before. What it doesn't come to, the next
// [Open] does.
func (s *Store) Remove(nameOrID string, inUse func(layer string) bool) (removedLayers []string, finish func() error, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	images := s.index.Load().find(nameOrID)
	var trash []string
	if len(images) == 0 {
		err = ErrNotFound
	} else {
		removedLayers, trash, err = s.remove(images, inUse)
	}
	finish = func() error {
		var errs []error
		for _, folder := range trash {
			errs = append(errs, os.RemoveAll(folder))
		}
		s.reserve()
		return errors.Join(errs...)
	}
	if err != nil {
		err = fmt.Errorf("remove %s: %w", nameOrID, err)
	}
	return removedLayers, finish, err
}

// remove takes images out of the index, and then their layers out of the way.
// The other way round a crash would leave images without layers. s.mu is held.
func (s *Store) remove(images []*Image, inUse func(string) bool) (removed, trash []string, err error) {
	rest := s.index.Load().clone()
	unused := map[string]bool{}
	for _, img := range images {
		rest.remove(img)
		for _, layer := range img.Layers {
			unused[layer] = true
		}
	}
	for layer := range rest.layers() {
		delete(unused, layer)
	}
	for _, layer := range slices.Sorted(maps.Keys(unused)) {
		if inUse != nil && inUse(layer) {
			return nil, nil, fmt.Errorf("layer %s: %w", filepath.Base(layer), ErrInUse)
		}
	}
	err = s.updateWithLess(func(x *index) {
		for _, img := range images {
			x.remove(img)
		}
	})
	if err != nil {
		return nil, nil, err
	}
	for _, layer := range slices.Sorted(maps.Keys(unused)) {
		if !isFolder(layer) {
			continue // somebody removed it by hand
		}
		// Renamed first: a crash in the middle of deleting leaves no half layer.
		tmp := filepath.Join(s.layers, tmpPrefix+rand.Text())
		if err := os.Rename(layer, tmp); err != nil {
			return removed, trash, err
		}
		removed, trash = append(removed, layer), append(trash, tmp)
	}
	return removed, trash, nil
}
