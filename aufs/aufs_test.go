package aufs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"docker2013/container"
)

func TestBranches(t *testing.T) {
	long := make([]string, 100)
	for i := range long {
		long[i] = fmt.Sprintf("/var/lib/docker/images/layers/aca382227ddb6a%02d", i)
	}
	for name, row := range map[string]struct {
		rw        string
		layers    []string
		want, err string
	}{
		"as in 2013":       {"/c/rw", []string{"/l/top", "/l/base"}, "br:/c/rw=rw:/l/top=ro:/l/base=ro:", ""},
		"no layer":         {"/c/rw", nil, "br:/c/rw=rw:", ""},
		"a layer twice":    {"/rw", []string{"/a", "/b", "/a"}, "br:/rw=rw:/a=ro:/b=ro:", ""},
		"a space":          {"/my rw", []string{"/a b"}, "br:/my rw=rw:/a b=ro:", ""},
		"colon":            {"/rw", []string{"/a:b"}, "", `"/a:b"`},
		"comma":            {"/r,w", []string{"/a"}, "", `"/r,w"`},
		"equals sign":      {"/rw", []string{"/a=rw"}, "", `"/a=rw"`},
		"more than a page": {"/rw", long, "br:/rw=rw:" + strings.Join(long, "=ro:") + "=ro:", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := branches(row.rw, row.layers)
			if got != row.want || (err == nil) != (row.err == "") ||
				err != nil && !strings.Contains(err.Error(), row.err) {
				t.Errorf("%q, %v; want %q, %q", got, err, row.want, row.err)
			}
		})
	}
}

func TestListed(t *testing.T) {
	for text, want := range map[string]bool{
		"nodev\tsysfs\nnodev\taufs\n\text4\n": true,
		"\taufs\n":                            true,
		"nodev\taufs2\nnodev\txaufs":          false,
		"aufs\tnodev\n":                       false,
		"":                                    false,
	} {
		if got, err := listed(strings.NewReader(text), "aufs"); got != want || err != nil {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

// TestKernel mounts with the kernel's AUFS, where there is one.
func TestKernel(t *testing.T) {
	u, err := New()
	if errors.Is(err, ErrNoAUFS) {
		t.Skip("not on this host: the kernel has no AUFS, so its mount is not tested")
	}
	ok(t, err)
	dir := t.TempDir()
	layer := filepath.Join(dir, "layer")
	ok(t, os.MkdirAll(filepath.Join(layer, "etc"), 0o755))
	ok(t, os.WriteFile(filepath.Join(layer, "etc/hosts"), nil, 0o644))
	fsys := &container.Filesystem{RootFS: dir + "/rootfs", RWPath: dir + "/rw", Layers: []string{layer}}
	t.Cleanup(func() { _ = unix.Unmount(fsys.RootFS, unix.MNT_DETACH) })
	ok(t, u.Mount(t.Context(), fsys))
	if err := u.Mount(t.Context(), fsys); !errors.Is(err, container.ErrMounted) {
		t.Errorf("mounted twice: %v", err)
	}
	ok(t, os.Remove(filepath.Join(fsys.RootFS, "etc/hosts")))
	changes, err := u.Changes(fsys)
	ok(t, err)
	if !slices.Contains(changes, container.Change{Kind: container.Deleted, Path: "/etc/hosts"}) {
		t.Errorf("changes: %v", changes)
	}
	ok(t, u.Unmount(t.Context(), fsys))
	if err := u.Unmount(t.Context(), fsys); !errors.Is(err, container.ErrNotMounted) {
		t.Errorf("unmounted twice: %v", err)
	}
}

// What needs no AUFS of a union that isn't mounted.
func TestNotMounted(t *testing.T) {
	dir := t.TempDir()
	var u Union
	fsys := &container.Filesystem{RootFS: dir + "/rootfs", RWPath: dir + "/rw"}
	ok(t, os.MkdirAll(fsys.RWPath+"/x", 0o755))
	if mounted, err := u.Mounted(fsys); mounted || err != nil {
		t.Errorf("Mounted: %v, %v", mounted, err)
	}
	if err := u.Unmount(t.Context(), fsys); !errors.Is(err, container.ErrNotMounted) {
		t.Errorf("Unmount: %v", err)
	}
	ok(t, u.Reset(fsys))
	if changes, err := u.Changes(fsys); len(changes) > 0 || err != nil {
		t.Errorf("changes after Reset: %v, %v", changes, err)
	}
}

// What AUFS can't hold is refused before anything is changed.
func TestFromOverlayRefuses(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: NOT ROOT: no whiteout can be made")
	}
	for name, row := range map[string]struct {
		make func(dir string) error
		want error
	}{
		"reserved name": {func(dir string) error { return os.WriteFile(dir+"/.wh.x", nil, 0o644) }, container.ErrReservedName},
		"long name": {func(dir string) error {
			return unix.Mknod(dir+"/"+strings.Repeat("n", 252), unix.S_IFCHR, 0)
		}, container.ErrNameTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			rw := t.TempDir()
			ok(t, os.Mkdir(rw+"/sub", 0o755))
			ok(t, unix.Mknod(rw+"/a", unix.S_IFCHR, 0))
			ok(t, row.make(rw+"/sub"))
			if err := FromOverlay(rw); !errors.Is(err, row.want) {
				t.Errorf("error %v, want %v", err, row.want)
			}
			if _, err := os.Lstat(rw + "/.wh.a"); err == nil {
				t.Error("a mark was translated")
			}
		})
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
