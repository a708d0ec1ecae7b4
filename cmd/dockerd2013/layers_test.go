package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"docker2013/container"
	"docker2013/images"
	"docker2013/overlay"
)

// What two layers mean is seen when they are mounted. Each row puts them into a
// store, beside a folder that must not change, mounts them, and lists what is there.
//
// A line is an entry: d DIR, f FILE [CONTENT], l LINK TARGET, h HARDLINK TARGET. In
// the listing a folder ends in a slash, and a link shows where it leads.
var hostileLayers = []struct {
	name         string
	lower, upper string
	want         string // "": the upper one is refused
}{
	{"a whiteout", "f etc/passwd; f etc/group", "f etc/.wh.passwd", "etc/ etc/group"},
	{"a whiteout of a full folder", "f etc/passwd; f usr/x", "f .wh.etc", "usr/ usr/x"},
	{"a whiteout of what isn't there", "f etc/passwd", "f etc/.wh.shadow", "etc/ etc/passwd"},
	{"a whiteout, and the same name again", "f etc/passwd old", "f etc/.wh.passwd; f etc/passwd new", "etc/ etc/passwd=new"},
	{"the name, and then its whiteout", "f etc/passwd old", "f etc/passwd new; f etc/.wh.passwd", "etc/ etc/passwd=new"},
	{"a whiteout of a folder, and the folder again", "f etc/passwd; f etc/group", "f .wh.etc; f etc/new", "etc/ etc/new"},
	{"a whiteout behind a symlinked folder of its own layer", "f etc/passwd; f etc/group", "d etc; l link etc; f link/.wh.passwd", "etc/ etc/group link->etc"},
	{"a whiteout behind an absolute symlink of its own layer", "f etc/passwd; f etc/group", "d etc; l link /etc; f link/.wh.passwd", "etc/ etc/group link->/etc"},
	{"a whiteout behind a symlinked folder of the layer below", "f etc/passwd; l link etc", "f link/.wh.passwd", "etc/ etc/passwd link/"},
	{"a whiteout behind a symlink out", "f etc/passwd", "l link ../../beside; f link/.wh.canary", ""},
	{"a whiteout behind a symlink out in the layer below", "f etc/passwd; l link ../../beside", "f link/.wh.canary", "etc/ etc/passwd link/"},
	{"a whiteout behind an absolute symlink out in the layer below", "f etc/passwd; l link BESIDE", "f link/.wh.canary; f link/x", "etc/ etc/passwd link/ link/x"},
	{"a whiteout of a symlink out", "l link BESIDE; f x", "f .wh.link", "x"},
	{"an opaque folder", "f etc/passwd; f etc/deep/x", "f etc/.wh..wh..opq", "etc/"},
	{"an opaque folder, with entries behind the mark", "f etc/passwd; f etc/deep/x", "f etc/.wh..wh..opq; f etc/new; f etc/deep/y", "etc/ etc/deep/ etc/deep/y etc/new"},
	{"an opaque folder, with entries before the mark", "f etc/passwd; f etc/deep/x", "f etc/new; f etc/deep/y; f etc/.wh..wh..opq", "etc/ etc/deep/ etc/deep/y etc/new"},
	{"an opaque folder, with a whiteout in it", "f etc/passwd; f etc/group", "f etc/.wh..wh..opq; f etc/.wh.passwd; f etc/new", "etc/ etc/new"},
	{"an opaque mark behind a symlinked folder of its own layer", "f etc/passwd", "d etc; l link etc; f link/.wh..wh..opq; f link/new", "etc/ etc/new link->etc"},
	{"an opaque mark behind a symlinked folder of the layer below", "f etc/passwd; l link etc", "f link/.wh..wh..opq; f link/new", "etc/ etc/passwd link/ link/new"},
	{"an opaque mark behind a symlink out", "f etc/passwd", "l link BESIDE; f link/.wh..wh..opq", ""},
	{"an opaque root means nothing", "f etc/passwd", "f .wh..wh..opq; f x", "etc/ etc/passwd x"},
	{"an opaque folder where a file was", "f etc", "f etc/.wh..wh..opq; f etc/new", "etc/ etc/new"},
	{"a file where a folder was", "f etc/passwd", "f etc", "etc"},
	{"a folder where a file was", "f etc", "f etc/passwd", "etc/ etc/passwd"},
	{"a symlink out where a folder was", "f etc/passwd", "l etc BESIDE", "etc->BESIDE"},
	{"a folder where a symlink out was", "l etc BESIDE", "f etc/canary new", "etc/ etc/canary=new"},
	{"a hard link to a file of the layer below", "f etc/passwd", "h copy etc/passwd", ""},
	{"whiteouts of nothing, of dot and of dots", "f a", "f .wh.", ""},
	{"a whiteout of dot", "f a", "f .wh..", ""},
	{"a whiteout of dots", "f a", "f .wh...", ""},
	{"AUFS's own files don't show", "f a", "d .wh..wh.plnk; f .wh..wh.plnk/1.2; f .wh..wh.aufs", "a"},
}

func TestHostileLayers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: NOT ROOT: layers can't be unpacked and mounted")
	}
	for _, row := range hostileLayers {
		t.Run(row.name, func(t *testing.T) {
			home := t.TempDir()
			beside := filepath.Join(home, "beside")
			if err := errors.Join(os.Mkdir(beside, 0o755), os.WriteFile(filepath.Join(beside, "canary"), []byte("alive"), 0o600)); err != nil {
				t.Fatal(err)
			}
			store, err := images.Open(filepath.Join(home, "images"), images.Options{})
			if err != nil {
				t.Fatal(err)
			}
			union, err := overlay.New(filepath.Join(home, "overlay"))
			if err != nil {
				t.Fatal(err)
			}
			defer union.Close()
			place := func(s string) string { return strings.ReplaceAll(s, "BESIDE", beside) }
			lower, err := store.Import(t.Context(), "x", bytes.NewReader(layerOf(t, place(row.lower))), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			img, err := store.Import(t.Context(), "x", bytes.NewReader(layerOf(t, place(row.upper))), lower, nil)
			if (err != nil) != (row.want == "") {
				t.Fatalf("the upper layer: %v", err)
			}
			if err == nil {
				if got := listMounted(t, union, home, img.Layers); got != place(row.want) {
					t.Errorf("mounted, there is\n\t%s\nwant\n\t%s", got, place(row.want))
				}
			} else if layers, _ := os.ReadDir(filepath.Join(home, "images/layers")); len(layers) != 1 {
				t.Errorf("of a refused layer something is left: %v", layers)
			}
			if got := listTree(t, beside); got != "canary=alive" {
				t.Errorf("the folder beside has %s", got)
			}
		})
	}
}

// layerOf packs a layer.
func layerOf(t *testing.T, script string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for line := range strings.SplitSeq(script, "; ") {
		f := append(strings.Fields(line), "")
		h := tar.Header{Name: f[1], Mode: 0o644, Typeflag: map[string]byte{"d": tar.TypeDir, "f": tar.TypeReg, "l": tar.TypeSymlink, "h": tar.TypeLink}[f[0]]}
		content := ""
		switch f[0] {
		case "d":
			h.Mode = 0o755
		case "f":
			content = f[2]
		default:
			h.Linkname = f[2]
		}
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// listMounted mounts the layers as a container's, and lists what is there.
func listMounted(t *testing.T, union *overlay.Union, home string, layers []string) string {
	t.Helper()
	dir := filepath.Join(home, "container")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	fsys := &container.Filesystem{RootFS: filepath.Join(dir, "rootfs"), RWPath: filepath.Join(dir, "rw"), Layers: layers, Union: overlay.Name}
	if err := union.Mount(t.Context(), fsys); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := union.Unmount(t.Context(), fsys); err != nil {
			_ = unix.Unmount(fsys.RootFS, unix.MNT_DETACH)
			t.Error(err)
		}
	}()
	return listTree(t, fsys.RootFS)
}

func listTree(t *testing.T, root string) string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			name += "/"
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			name += "->" + target
		default:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if len(data) > 0 {
				name += fmt.Sprintf("=%s", data)
			}
		}
		list = append(list, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(list, " ")
}
