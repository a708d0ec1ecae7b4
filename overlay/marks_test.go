package overlay_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"docker2013/aufs"
	"docker2013/container"
	"docker2013/overlay"
)

// A translation that is interrupted anywhere, in either direction, loses nothing:
// the branch reads the same half-way, and each union can finish it its own way.
// A crash leaves each mark in one of three states: old, old and new, new.
func TestInterruptedTranslation(t *testing.T) {
	h := newHost(t)
	layer := h.layer("mkdir dir; touch file dir/a dir/b dir/c")
	const want = "C /dir\nC /dir/a\nD /dir/b\nD /dir/c\nD /file"

	inAUFS := []func(rw string) error{
		func(rw string) error { return os.WriteFile(rw+"/.wh.file", nil, 0o444) },
		func(rw string) error { return os.WriteFile(rw+"/dir/.wh.b", nil, 0o444) },
		func(rw string) error { return os.WriteFile(rw+"/dir/.wh..wh..opq", nil, 0o444) },
	}
	inOverlay := []func(rw string) error{
		func(rw string) error { return unix.Mknod(rw+"/file", unix.S_IFCHR, 0) },
		func(rw string) error {
			return errors.Join(unix.Mknod(rw+"/dir/b", unix.S_IFCHR, 0),
				unix.Setxattr(rw+"/dir", "trusted.overlay.origin", nil, 0))
		},
		func(rw string) error { return unix.Setxattr(rw+"/dir", container.OpaqueXattr, []byte("y"), 0) },
	}
	branch := func(state int) *container.Filesystem {
		fsys := h.container(layer)
		ok(t, os.MkdirAll(fsys.RWPath+"/dir", 0o755))
		ok(t, os.WriteFile(fsys.RWPath+"/dir/a", []byte("again"), 0o644))
		for i := range inAUFS {
			if state%3 != 0 {
				ok(t, inAUFS[i](fsys.RWPath))
			}
			if state%3 != 1 {
				ok(t, inOverlay[i](fsys.RWPath))
			}
			state /= 3
		}
		ok(t, container.SetMarks(fsys.RWPath, container.AUFSMarks|container.OverlayMarks))
		return fsys
	}
	for state := range 27 {
		t.Run(fmt.Sprint("state=", state), func(t *testing.T) {
			fsys := branch(state)
			if got := h.diff(fsys); got != want {
				t.Errorf("diff half-way:\n%s\nwant\n%s", got, want)
			}
			ok(t, aufs.FromOverlay(fsys.RWPath))
			ok(t, aufs.FromOverlay(fsys.RWPath))
			if got := h.diff(fsys); got != want {
				t.Errorf("diff in AUFS's marks:\n%s\nwant\n%s", got, want)
			}

			fsys = branch(state)
			for _, union := range []string{"aufs", "overlay"} { // the record may say either
				fsys.Union = union
				h.mount(fsys)
				got := snapshot(t, fsys.RootFS)
				h.unmount(fsys)
				has(t, got, true, "/dir/a")
				has(t, got, false, "/file", "/dir/b", "/dir/c", "/.wh.file", "/dir/.wh.b")
				if got := h.diff(fsys); got != want || fsys.Union != overlay.Name {
					t.Errorf("diff in overlayfs's marks:\n%s\nwant\n%s", got, want)
				}
			}
		})
	}
}

// A container of 2013 has AUFS's marks and a record that says nothing.
func TestRecordOf2013(t *testing.T) {
	h := newHost(t)
	fsys := h.container(h.layer(base))
	fsys.Union = ""
	ok(t, os.Mkdir(fsys.RWPath, 0o755))
	sh(t, fsys.RWPath, `mkdir -p etc dir .wh..wh.plnk .wh..wh.orph; touch .wh..wh.aufs; chmod 0 .wh..wh.aufs
		ln .wh..wh.aufs etc/.wh.hosts; touch dir/.wh..wh..opq dir/new; touch -d 2013-01-30 etc dir`)
	const want = "C /dir\nD /dir/a\nD /dir/b\nA /dir/new\nD /dir/sub\nC /etc\nD /etc/hosts"
	if got := h.diff(fsys); got != want {
		t.Errorf("diff before any mount:\n%s\nwant\n%s", got, want)
	}
	times := snapshot(t, fsys.RWPath)
	h.mount(fsys)
	has(t, snapshot(t, fsys.RootFS), false, "/etc/hosts", "/dir/a")
	h.unmount(fsys)
	if got := h.diff(fsys); got != want || fsys.Union != overlay.Name {
		t.Errorf("diff after a mount (union %q):\n%s\nwant\n%s", fsys.Union, got, want)
	}
	after := snapshot(t, fsys.RWPath)
	if times["/etc"] != after["/etc"] {
		t.Errorf("etc was %s, is %s", times["/etc"], after["/etc"])
	}
	left, err := filepath.Glob(fsys.RWPath + "/.wh.*")
	if ok(t, err); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
