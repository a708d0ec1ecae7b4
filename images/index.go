package images

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"docker2013/durable"
)

// index is what index.json holds. An index in use is never changed: a writer
// changes a copy, saves it, and puts it in the place of the old one.
type index struct {
	Path   string              // of index.json itself
	ByName map[string][]*Image // newest first
	ById   map[string]*Image   // the same images
}

// loadIndex reads index.json; where there is none there are no images. All
// layers get paths in the folder layers, wherever the store was when the index
// was written: in 2013 a store could not be moved.
func loadIndex(path, layers string) (*index, error) {
	x := &index{Path: path, ByName: map[string][]*Image{}, ById: map[string]*Image{}}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return x, nil
	}
	if err != nil {
		return nil, err
	}
	var stored index
	if err := json.Unmarshal(data, &stored); err != nil {
		return nil, corrupt(path, err)
	}
	for name, history := range stored.ByName {
		for _, img := range history {
			if err := img.check(name); err != nil {
				return nil, corrupt(path, err)
			}
			// The 2013 daemon listed the same tar as often as it was imported.
			if x.ById[img.Id] == nil {
				x.ById[img.Id] = img
				x.ByName[name] = append(x.ByName[name], img)
			}
		}
	}
	for id, img := range stored.ById {
		if img == nil || img.Id != id {
			return nil, corrupt(path, fmt.Errorf("id %q is another image's", id))
		}
		if x.ById[id] != nil {
			continue
		}
		name := id[:max(strings.LastIndexByte(id, ':'), 0)]
		if err := img.check(name); err != nil {
			return nil, corrupt(path, err)
		}
		x.insert(img)
		slices.SortStableFunc(x.ByName[name], func(a, b *Image) int { return b.Created.Compare(a.Created) })
	}
	for _, img := range x.ById {
		for i, layer := range img.Layers {
			img.Layers[i] = filepath.Join(layers, filepath.Base(layer))
		}
	}
	return x, nil
}

func corrupt(path string, err error) error {
	return fmt.Errorf("%w: %s: %w; nothing has been changed: mend the file, or move it away to begin with no images", ErrCorrupt, path, err)
}

func isFolder(path string) bool {
	fi, err := os.Lstat(path)
	return err == nil && fi.IsDir()
}

// check reports whether a stored image makes sense under a name.
func (i *Image) check(name string) error {
	switch {
	case i == nil:
		return fmt.Errorf("%q has an image that is null", name)
	case !strings.HasPrefix(i.Id, name+":") || !isHash(i.Id[len(name)+1:]):
		return fmt.Errorf("%q has an image with the id %q", name, i.Id)
	case len(i.Layers) == 0:
		return fmt.Errorf("%q has no layers", i.Id)
	}
	for _, layer := range i.Layers {
		if !filepath.IsAbs(layer) || filepath.Clean(layer) != layer || !isHash(filepath.Base(layer)) {
			return fmt.Errorf("%q has the layer %q", i.Id, layer)
		}
	}
	return nil
}

// save replaces index.json.
func (x *index) save() error {
	data, err := json.Marshal(x)
	if err != nil {
		return err
	}
	return durable.WriteFile(x.Path, data, 0o600)
}

// clone is a copy that can be changed. The images are shared.
func (x *index) clone() *index {
	c := &index{Path: x.Path, ByName: map[string][]*Image{}, ById: maps.Clone(x.ById)}
	for name, history := range x.ByName {
		c.ByName[name] = slices.Clone(history)
	}
	return c
}

// insert makes img the newest of its name. An older one of the same id goes: the
// same tar again is no second entry.
func (x *index) insert(img *Image) {
	if old := x.ById[img.Id]; old != nil {
		if img.Parent == img.Id { // made from its older self
			img.Parent = old.Parent
		}
		x.remove(old)
	}
	x.ByName[img.Name()] = slices.Insert(x.ByName[img.Name()], 0, img)
	x.ById[img.Id] = img
}

func (x *index) remove(img *Image) {
	name := img.Name()
	x.ByName[name] = slices.DeleteFunc(x.ByName[name], func(i *Image) bool { return i.Id == img.Id })
	if len(x.ByName[name]) == 0 {
		delete(x.ByName, name)
	}
	delete(x.ById, img.Id)
}

// minPrefix is the shortest beginning of a hash that stands for an image.
const minPrefix = 4

// find returns the images that a user may mean: of an id or the beginning of a
// hash the one, of a name all, newest first.
func (x *index) find(nameOrID string) []*Image {
	if img := x.ById[nameOrID]; img != nil {
		return []*Image{img}
	}
	if history := x.ByName[nameOrID]; history != nil {
		return history
	}
	var found []*Image
	for id, img := range x.ById {
		hash := nameOrID
		if i := strings.LastIndexByte(nameOrID, ':'); i >= 0 && nameOrID[:i] == img.Name() {
			hash = nameOrID[i+1:]
		}
		if len(hash) >= minPrefix && strings.HasPrefix(id[len(img.Name())+1:], hash) {
			found = append(found, img)
		}
	}
	if len(found) > 1 { // ambiguous
		return nil
	}
	return found
}

// layers are the folders of all images' layers.
func (x *index) layers() map[string]bool {
	all := map[string]bool{}
	for _, img := range x.ById {
		for _, layer := range img.Layers {
			all[layer] = true
		}
	}
	return all
}
