package images

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCopy(t *testing.T) {
	needRoot(t)
	s := newStore(t)
	data := makeTar(t, file("f", "x"))
	src := put(t, s, "src", data, nil)
	img, err := s.Copy("src", "copy")
	if err != nil {
		t.Fatal(err)
	}
	if img.Id != "copy:"+layerID(data) || img.Parent != src.Id || !slices.Equal(img.Layers, src.Layers) {
		t.Errorf("copy %+v of %+v", img, src)
	}
	if self, err := s.Copy("src", "src"); err != nil || self.Id != src.Id || self.Parent != "" || s.Len() != 2 {
		t.Errorf("copy to itself %+v, %v", self, err)
	}
	if _, err := s.Copy("nosuch", "x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no source: %v", err)
	}
	if _, err := s.Copy("src", "a b"); !errors.Is(err, ErrBadName) {
		t.Errorf("bad name: %v", err)
	}
}

func TestRemove(t *testing.T) {
	needRoot(t)
	s := newStore(t)
	one, two, up := makeTar(t, file("f", "1")), makeTar(t, file("f", "2")), makeTar(t, file("f", "3"))
	base := put(t, s, "base", one, nil)
	put(t, s, "base", two, nil)
	mine := put(t, s, "mine", up, base)

	remove := func(what string, inUse func(string) bool, want ...string) {
		t.Helper()
		removed, finish, err := s.Remove(what, inUse)
		for _, layer := range removed {
			if _, err := os.Lstat(layer); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("remove %s: %s is still there: %v", what, layer, err)
			}
		}
		if err := errors.Join(err, finish()); err != nil {
			t.Errorf("remove %s: %v", what, err)
		}
		var ids []string
		for _, layer := range removed {
			ids = append(ids, filepath.Base(layer))
		}
		slices.Sort(want)
		if !slices.Equal(ids, want) {
			t.Errorf("remove %s: layers %v, want %v", what, ids, want)
		}
	}
	usesUp := func(layer string) bool { return layer == s.LayerPath(layerID(up)) }
	if _, _, err := s.Remove("mine", usesUp); !errors.Is(err, ErrInUse) || s.Len() != 3 {
		t.Errorf("in use: %v, %d images", err, s.Len())
	}
	if _, _, err := s.Remove("nosuch", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such: %v", err)
	}
	remove("base", usesUp, layerID(two)) // both images; mine keeps the other layer
	onlyLayers(t, s, layerID(one), layerID(up))
	if got := ids(s); !slices.Equal(got, []string{mine.Id}) {
		t.Errorf("images %v", got)
	}
	if _, err := s.Copy("mine", "copy"); err != nil {
		t.Fatal(err)
	}
	remove("mine", usesUp) // the copy has all its layers
	remove("copy:"+imageHash(mine.Layers), nil, layerID(one), layerID(up))
	onlyLayers(t, s)
	if again := openStore(t, filepath.Dir(s.layers)); again.Len() != 0 || len(again.Names()) != 0 || len(again.LayerPaths()) != 0 {
		t.Errorf("left: %v", ids(again))
	}

	lost := put(t, s, "lost", one, nil)
	remove("lost", nil, layerID(one))
	if _, err := s.Import(t.Context(), "late", bytes.NewReader(up), lost, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("on a parent that was removed: %v", err)
	}
	onlyLayers(t, s)

	put(t, s, "half", one, nil)
	if _, _, err := s.Remove("half", nil); err != nil { // a crash before finish
		t.Fatal(err)
	}
	onlyLayers(t, openStore(t, filepath.Dir(s.layers)))

	gone := put(t, s, "gone", one, nil)
	if err := os.RemoveAll(gone.Layers[0]); err != nil {
		t.Fatal(err)
	}
	remove("gone", nil)
}

// On a full disk there is nothing to do but to remove something.
func TestRemoveFull(t *testing.T) {
	needRoot(t)
	for name, most := range map[string]func(dir string, n int) error{
		"blocks": func(dir string, n int) error {
			return os.WriteFile(filepath.Join(dir, strconv.Itoa(n)), make([]byte, os.Getpagesize()), 0o600)
		},
		"inodes": func(dir string, n int) error { return os.Mkdir(filepath.Join(dir, strconv.Itoa(n)), 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			disk := t.TempDir()
			if err := unix.Mount("disk", disk, "tmpfs", 0, "size=2m,nr_inodes=200"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := unix.Unmount(disk, 0); err != nil {
					t.Error(err)
				}
			})
			root, full := filepath.Join(disk, "images"), filepath.Join(disk, "full")
			s := openStore(t, root)
			for i := range 3 {
				put(t, s, fmt.Sprint("image", i), makeTar(t, file("f", fmt.Sprint(i))), nil)
			}
			if err := os.Mkdir(full, 0o700); err != nil {
				t.Fatal(err)
			}
			var err error
			for n := 0; err == nil; n++ {
				err = most(full, n)
			}
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
			if _, err := s.Copy("image0", "copy"); !errors.Is(err, unix.ENOSPC) {
				t.Errorf("something new: %v, want ENOSPC", err)
			}
			removed, finish, err := s.Remove("image0", nil)
			if err := errors.Join(err, finish()); err != nil || len(removed) != 1 {
				t.Fatalf("remove: %v, %v", removed, err)
			}
			if s = openStore(t, root); s.Find("image0") != nil || s.Len() != 2 {
				t.Errorf("there are %v", s.Names())
			}
		})
	}
}
