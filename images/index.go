package images

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"docker2013/durable"
)

// index is index.json.
type index struct {
	Path   string              // where the store was when it was written
	ByName map[string][]*Image // newest first
	ById   map[string]*Image
}

// loadIndex reads index.json; where there is none the index is empty.
func loadIndex(path string) (index, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return index{Path: filepath.Dir(path), ByName: map[string][]*Image{}, ById: map[string]*Image{}}, nil
	}
	if err != nil {
		return index{}, err
	}
	x, err := parseIndex(data)
	if err != nil {
		return index{}, fmt.Errorf("%s: %w; it was left as it is: repair it, or move it away to begin with no images (the layers stay)", path, err)
	}
	return x, nil
}

// parseIndex understands index.json and makes sure that every image in it can
// be used as one. ErrCorrupt.
func parseIndex(data []byte) (index, error) {
	var x index
	if err := json.Unmarshal(data, &x); err != nil {
		return index{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if x.ByName == nil {
		x.ByName = map[string][]*Image{}
	}
	if x.ById == nil {
		x.ById = map[string]*Image{}
	}
	check := func(where string, img *Image) error {
		switch {
		case img == nil:
			return fmt.Errorf("%w: %s is null", ErrCorrupt, where)
		case img.Id == "":
			return fmt.Errorf("%w: %s has no id", ErrCorrupt, where)
		case len(img.Layers) == 0:
			return fmt.Errorf("%w: %s has no layers", ErrCorrupt, where)
		}
		for _, layer := range img.Layers {
			switch base := filepath.Base(layer); base {
			case ".", "..", "/":
				return fmt.Errorf("%w: %s has a layer %q", ErrCorrupt, where, layer)
			}
		}
		return nil
	}
	for name, history := range x.ByName {
		for _, img := range history {
			if err := check("an image of "+name, img); err != nil {
				return index{}, err
			}
		}
		if len(history) == 0 {
			delete(x.ByName, name)
		}
	}
	for id, img := range x.ById {
		if err := check("image "+id, img); err != nil {
			return index{}, err
		}
		if img.Id != id {
			return index{}, fmt.Errorf("%w: image %s says that it is %s", ErrCorrupt, id, img.Id)
		}
	}
	return x, nil
}

// save replaces index.json. In 2013 it was overwritten in place.
func (x *index) save(path string) error {
	data, err := json.Marshal(x)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, data, 0o600)
}

// rebase makes the layers' paths right for where the store is now.
func (x *index) rebase(root string, layerPath func(string) string) {
	x.Path = root
	for _, images := range x.ByName {
		for _, img := range images {
			rebase(img, layerPath)
		}
	}
	for _, img := range x.ById {
		rebase(img, layerPath)
	}
}

func rebase(img *Image, layerPath func(string) string) {
	for i, layer := range img.Layers {
		img.Layers[i] = layerPath(filepath.Base(layer))
	}
}

func (x *index) find(nameOrID string) *Image {
	if img := x.ById[nameOrID]; img != nil {
		return img
	}
	if history := x.ByName[nameOrID]; len(history) > 0 {
		return history[0]
	}
	return nil
}

func (x *index) names() []string { return slices.Sorted(maps.Keys(x.ByName)) }

// doomed are the images that the removal of a name or an id means.
func (x *index) doomed(nameOrID string) []*Image {
	if img := x.ById[nameOrID]; img != nil {
		return []*Image{img}
	}
	return x.ByName[nameOrID]
}

// add makes img the newest of its name.
func (x *index) add(img *Image) {
	x.remove(img.Id)
	name := img.Name()
	x.ByName[name] = slices.Insert(slices.Clone(x.ByName[name]), 0, img)
	x.ById[img.Id] = img
}

func (x *index) remove(id string) {
	img := x.ById[id]
	delete(x.ById, id)
	if img == nil {
		return
	}
	name := img.Name()
	left := slices.DeleteFunc(slices.Clone(x.ByName[name]), func(other *Image) bool { return other.Id == id })
	if len(left) == 0 {
		delete(x.ByName, name)
		return
	}
	x.ByName[name] = left
}

// uses reports whether an image has the layer.
func (x *index) uses(layer string) bool {
	for _, img := range x.ById {
		if slices.Contains(img.Layers, layer) {
			return true
		}
	}
	return false
}

// clone copies the maps; images in them are never changed.
func (x *index) clone() index {
	return index{Path: x.Path, ByName: maps.Clone(x.ByName), ById: maps.Clone(x.ById)}
}

func (i *Image) clone() *Image {
	if i == nil {
		return nil
	}
	c := *i
	c.Layers = slices.Clone(i.Layers)
	return &c
}
