package images

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Image is one version of a name. The JSON is that of 2013.
type Image struct {
	Id      string    // NAME:HEX
	Layers  []string  // their folders, absolute, top layer first, the base image's last
	Created time.Time // when it got this name
	Parent  string    // id of the image it was made from, "" for none
}

// Name is the part of the id before the hash.
func (i *Image) Name() string { return i.Id[:max(0, strings.LastIndexByte(i.Id, ':'))] }

// LayerID is 16 hex digits, and the name of the layer's folder.
type LayerID string

const idBytes = 8 // of a SHA-256

func shortHash(sum []byte) string { return hex.EncodeToString(sum[:idBytes]) }

// isHash reports whether s could be a layer's id or an image's hash.
func isHash(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == 2*idBytes && s == strings.ToLower(s)
}

// newImage stacks a layer on a parent's, or takes the parent's alone if top is "".
func newImage(name, top string, parent *Image) *Image {
	img := &Image{Created: time.Now()}
	if top != "" {
		img.Layers = append(img.Layers, top)
	}
	if parent != nil {
		img.Parent = parent.Id
		for _, layer := range parent.Layers {
			if layer != top {
				img.Layers = append(img.Layers, layer)
			}
		}
	}
	img.Id = name + ":" + imageHash(img.Layers)
	return img
}

// imageHash is the one layer's id, or a hash over the ids of all.
func imageHash(layers []string) string {
	if len(layers) == 1 {
		return filepath.Base(layers[0])
	}
	h := sha256.New()
	for _, layer := range layers {
		h.Write([]byte(filepath.Base(layer)))
	}
	return shortHash(h.Sum(nil))
}

// maxName is the length in bytes of the longest name: room for a pull's URL.
const maxName = 1024

// checkName refuses names that would break a table, a terminal or the search
// for an id.
func checkName(name string) error {
	var why string
	switch i := strings.LastIndexByte(name, ':'); {
	case name == "":
		why = "it is empty"
	case len(name) > maxName:
		return fmt.Errorf("%w: it is longer than %d bytes", ErrBadName, maxName)
	case !utf8.ValidString(name):
		why = "it is not UTF-8"
	case strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }):
		why = "it has blanks or control characters"
	case name[0] == '-':
		why = "it begins like a flag"
	case i >= 0 && isHash(name[i+1:]):
		why = "it ends like an id"
	default:
		return nil
	}
	return fmt.Errorf("%w: %q: %s", ErrBadName, name, why)
}

func (i *Image) clone() *Image {
	c := *i
	c.Layers = slices.Clone(i.Layers)
	return &c
}

func clones(images []*Image) []*Image {
	var c []*Image
	for _, img := range images {
		c = append(c, img.clone())
	}
	return c
}
