package overlay_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"docker2013/overlay"
)

func mountedLayers(t *testing.T, rootfs string) string {
	t.Helper()
	info, err := os.ReadFile("/proc/self/mountinfo")
	ok(t, err)
	for line := range strings.Lines(string(info)) {
		if strings.Contains(line, " "+rootfs+" ") {
			return line
		}
	}
	t.Fatalf("no mount at %s", rootfs)
	return ""
}

// A layer without marks is mounted itself; one with marks isn't, nor changed.
func TestTwins(t *testing.T) {
	h := newHost(t)
	plain := h.layer(base)
	marked := h.layer(`mkdir -p etc d/e; touch etc/.wh.hosts d/.wh..wh..opq d/e/f .wh..wh.aufs
		mkdir .wh..wh.plnk .wh..wh.orph; chmod 751 d; chown 1:2 d; touch -d 2013-01-29 d .; ln d/e/f d/e/g`)
	marks := snapshot(t, marked)
	fsys := h.container(marked, plain)
	h.mount(fsys)
	line := mountedLayers(t, fsys.RootFS)
	twin := filepath.Join(h.dir, "overlay", filepath.Base(marked), "fs")
	if !strings.Contains(line, "lowerdir="+twin+":"+plain+",") {
		t.Errorf("mounted: %s", line)
	}
	got := snapshot(t, fsys.RootFS)
	has(t, got, false, "/etc/hosts", "/etc/.wh.hosts", "/.wh..wh.aufs", "/.wh..wh.plnk", "/d/.wh..wh..opq")
	has(t, got, true, "/d/e/f", "/etc/hostname")
	for _, path := range []string{"/d", "/d/e/f", "/d/e/g"} {
		if got[path] != marks[path] {
			t.Errorf("%s is %s in the twin, %s in the layer", path, got[path], marks[path])
		}
	}
	h.unmount(fsys)
	same(t, "the layer was changed", marks, snapshot(t, marked))

	// The answers survive the process. (A mark that wasn't there when the layer
	// was looked at shows that it isn't looked at again.)
	sh(t, plain, "touch .wh.late")
	again := newHostIn(t, h.dir)
	again.count = 100
	fsys = again.container(marked, plain)
	again.mount(fsys)
	if got := mountedLayers(t, fsys.RootFS); !strings.Contains(got, "lowerdir="+twin+":"+plain+",") {
		t.Errorf("mounted by the next process: %s", got)
	}
	again.unmount(fsys)

	for range 2 {
		ok(t, h.union.Forget(marked))
		ok(t, h.union.Forget(plain))
	}
	if left, _ := os.ReadDir(filepath.Join(h.dir, "overlay")); len(left) > 0 {
		t.Errorf("left after Forget: %v", left)
	}
	has(t, h.seen(plain), false, "/.wh.late")
}

func TestNewCleansUp(t *testing.T) {
	h := newHost(t)
	kept, gone := h.layer("touch .wh.a"), h.layer("touch .wh.a")
	ok(t, h.union.Prepare(t.Context(), kept))
	ok(t, h.union.Prepare(t.Context(), gone))
	sh(t, h.dir, "rm -r "+gone+"; mkdir -p overlay/tmp-1/fs/x overlay/half/fs; echo >overlay/file")
	_, err := overlay.New(filepath.Join(h.dir, "overlay"))
	ok(t, err)
	left, err := os.ReadDir(filepath.Join(h.dir, "overlay"))
	ok(t, err)
	if len(left) != 1 || left[0].Name() != filepath.Base(kept) {
		t.Errorf("left: %v, want %s only", left, filepath.Base(kept))
	}
}

// A store that was moved takes its answers along, and they are wrong there.
func TestMovedStore(t *testing.T) {
	h := newHost(t)
	layers := []string{h.layer("touch .wh.gone"), h.layer("touch gone stays")}
	h.seen(layers...)
	moved := h.dir + "-moved"
	ok(t, os.Rename(h.dir, moved))
	t.Cleanup(func() { os.RemoveAll(moved) })
	h2 := newHostIn(t, moved)
	h2.count = h.count
	got := h2.seen(filepath.Join(moved, "layers/0001"), filepath.Join(moved, "layers/0002"))
	has(t, got, false, "/gone")
	has(t, got, true, "/stays")
}

func TestTwoStores(t *testing.T) {
	h := newHost(t)
	h.seen(h.layer(""))
	sh(t, h.dir, "mkdir -p other/0001")
	err := h.union.Prepare(t.Context(), filepath.Join(h.dir, "other/0001"))
	if err == nil || !strings.Contains(err.Error(), "same name") {
		t.Errorf("error %v", err)
	}
}

func TestPrepareCancelled(t *testing.T) {
	h := newHost(t)
	layer := h.layer("mkdir a; touch a/.wh.b")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.union.Prepare(ctx, layer); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if left, _ := os.ReadDir(filepath.Join(h.dir, "overlay")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Marks that no union makes, from images of other tools or with a bad intent.
func TestHostileMarks(t *testing.T) {
	for name, row := range map[string]struct {
		script      string
		there, gone []string
	}{
		"marks of nothing":      {"touch .wh. .wh.. .wh...", []string{"/etc/hosts", "/one"}, []string{"/.wh."}},
		"opaque root":           {"touch .wh..wh..opq", []string{"/etc/hosts"}, []string{"/.wh..wh..opq"}},
		"mark is a directory":   {"mkdir .wh.one; touch .wh.one/x", nil, []string{"/one", "/.wh.one"}},
		"mark is a symlink":     {"ln -s /nowhere .wh.one", nil, []string{"/one"}},
		"mark of what isn't":    {"touch .wh.nosuch", []string{"/one"}, nil},
		"mark beside a file":    {"touch .wh.one; echo new >one", []string{"/one"}, nil},
		"mark beside a folder":  {"touch .wh.dir; mkdir dir; touch dir/n", []string{"/dir/n"}, []string{"/dir/a"}},
		"mark in a new folder":  {"mkdir d; touch d/.wh.x d/y", []string{"/d/y"}, []string{"/d/x"}},
		"mark in an opaque one": {"mkdir dir; touch dir/.wh.a dir/.wh..wh..opq dir/y", []string{"/dir/y"}, []string{"/dir/a", "/dir/b"}},
		"symlink to itself":     {"ln -s . me; mkdir d; touch d/.wh.x", []string{"/me", "/etc/hosts"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			got := h.seen(h.layer(row.script), h.layer(base))
			has(t, got, true, row.there...)
			has(t, got, false, row.gone...)
		})
	}
}

// Attributes of overlayfs that an image brings along mean nothing.
func TestHostileXattrs(t *testing.T) {
	h := newHost(t)
	bottom := h.layer(base)
	top := h.layer("mkdir dir etc")
	ok(t, unix.Setxattr(top+"/dir", "trusted.overlay.opaque", []byte("y"), 0))
	ok(t, unix.Setxattr(top+"/etc", "trusted.overlay.redirect", []byte("/usr"), 0))
	got := h.seen(top, bottom)
	has(t, got, true, "/dir/a", "/etc/hosts")
	has(t, got, false, "/etc/lib")
}
