package overlay_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"docker2013/container"
	"docker2013/overlay"
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: NOT ROOT: overlayfs can't be mounted, nothing is tested here")
	}
}

// host is a data directory: a union, a store of layers, containers.
type host struct {
	t     testing.TB
	dir   string
	union *overlay.Union
	count int
}

func newHost(t testing.TB) *host { return newHostIn(t, t.TempDir()) }

func newHostIn(t testing.TB, dir string) *host {
	t.Helper()
	needRoot(t)
	u, err := overlay.New(filepath.Join(dir, "overlay"))
	ok(t, err)
	for _, sub := range []string{"layers", "containers"} {
		ok(t, os.MkdirAll(filepath.Join(dir, sub), 0o755))
	}
	t.Cleanup(func() { ok(t, u.Close()) })
	return &host{t: t, dir: dir, union: u}
}

// layer makes a layer by a shell script that runs in it.
func (h *host) layer(script string) string {
	h.t.Helper()
	h.count++
	dir := filepath.Join(h.dir, "layers", fmt.Sprintf("%04d", h.count))
	ok(h.t, os.Mkdir(dir, 0o755))
	if script != "" {
		sh(h.t, dir, script)
	}
	return dir
}

// container makes one on the given layers, top first.
func (h *host) container(layers ...string) *container.Filesystem {
	h.t.Helper()
	h.count++
	dir := filepath.Join(h.dir, "containers", fmt.Sprintf("%04d", h.count))
	ok(h.t, os.Mkdir(dir, 0o700))
	return &container.Filesystem{
		RootFS: filepath.Join(dir, "rootfs"), RWPath: filepath.Join(dir, "rw"),
		Layers: layers, Union: overlay.Name,
	}
}

func (h *host) mount(fsys *container.Filesystem) {
	h.t.Helper()
	h.t.Cleanup(func() { _ = unix.Unmount(fsys.RootFS, unix.MNT_DETACH) }) // when a test fails
	ok(h.t, h.union.Mount(h.t.Context(), fsys))
}

func (h *host) unmount(fsys *container.Filesystem) {
	h.t.Helper()
	ok(h.t, h.union.Unmount(h.t.Context(), fsys))
}

// run runs a shell script in the mounted container's root.
func (h *host) run(fsys *container.Filesystem, script string) {
	h.t.Helper()
	h.mount(fsys)
	sh(h.t, fsys.RootFS, script)
	h.unmount(fsys)
}

// commit makes the container's layer and gives the layers of the new image.
func (h *host) commit(fsys *container.Filesystem) []string {
	h.t.Helper()
	var layer bytes.Buffer
	ok(h.t, h.union.WriteLayer(h.t.Context(), fsys, &layer))
	return append([]string{h.unpack(&layer)}, fsys.Layers...)
}

// unpack unpacks a layer's tar with the host's own tar.
func (h *host) unpack(tar *bytes.Buffer) string {
	h.t.Helper()
	dir := h.layer("")
	cmd := exec.Command("tar", "-x", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", dir)
	cmd.Stdin = tar
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("tar -x: %v\n%s", err, out)
	}
	return dir
}

// seen is the tree of a fresh container on the layers.
func (h *host) seen(layers ...string) tree {
	h.t.Helper()
	fsys := h.container(layers...)
	h.mount(fsys)
	defer h.unmount(fsys)
	return snapshot(h.t, fsys.RootFS)
}

// diff is what `diff` would print.
func (h *host) diff(fsys *container.Filesystem) string {
	h.t.Helper()
	changes, err := h.union.Changes(fsys)
	ok(h.t, err)
	var lines []string
	for _, c := range changes {
		lines = append(lines, c.String())
	}
	return strings.Join(lines, "\n")
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sh(t testing.TB, dir, script string) {
	t.Helper()
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("script: %v\n%s\n%s", err, script, out)
	}
}

// tree is all there is to see of a directory: a line of facts for each path.
type tree map[string]string

// snapshot reads a tree. Files of several names have their first one as a fact.
func snapshot(t testing.TB, root string) tree {
	t.Helper()
	found := tree{}
	type inode struct{ dev, ino uint64 }
	first := map[inode]string{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		ok(t, err)
		name := "/" + strings.TrimPrefix(strings.TrimPrefix(path, root), "/")
		var st unix.Stat_t
		ok(t, unix.Lstat(path, &st))
		facts := []string{fmt.Sprintf("%06o %d:%d %s", st.Mode, st.Uid, st.Gid,
			time.Unix(st.Mtim.Unix()).UTC().Format("15:04:05.000000000"))}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(path)
			ok(t, err)
			facts = append(facts, fmt.Sprintf("%d bytes %x", len(data), sha256.Sum256(data))[:30])
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			ok(t, err)
			facts = append(facts, "-> "+target)
		case unix.S_IFCHR, unix.S_IFBLK:
			facts = append(facts, fmt.Sprintf("device %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
		}
		attrs := xattrs(t, path)
		for _, key := range slices.Sorted(maps.Keys(attrs)) {
			facts = append(facts, fmt.Sprintf("%s=%q", key, attrs[key]))
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			id := inode{st.Dev, st.Ino}
			if other, ok := first[id]; ok {
				facts = append(facts, "is "+other)
			} else {
				first[id] = name
			}
		}
		found[name] = strings.Join(facts, " ")
		return nil
	})
	ok(t, err)
	return found
}

func xattrs(t testing.TB, path string) map[string]string {
	t.Helper()
	buf := make([]byte, 1<<16)
	n, err := unix.Llistxattr(path, buf)
	ok(t, err)
	attrs := map[string]string{}
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		// The kernel's notes, which it makes as it likes, and ours.
		if name == "" || strings.HasPrefix(name, "trusted.overlay.") && name != container.OpaqueXattr ||
			name == "trusted.docker2013.marks" {
			continue
		}
		value := make([]byte, 1<<16)
		n, err := unix.Lgetxattr(path, name, value)
		ok(t, err)
		attrs[name] = string(value[:n])
	}
	return attrs
}

// same compares two trees.
func same(t testing.TB, what string, want, got tree) {
	t.Helper()
	var diff []string
	paths := maps.Clone(want)
	maps.Copy(paths, got)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		if want[path] != got[path] {
			diff = append(diff, fmt.Sprintf("%s\n\twant %s\n\tgot  %s", path, want[path], got[path]))
		}
	}
	if len(diff) > 0 {
		t.Fatalf("%s:\n%s", what, strings.Join(diff, "\n"))
	}
}

func has(t testing.TB, tr tree, want bool, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if _, got := tr[path]; got != want {
			t.Errorf("%s is there: %v, want %v", path, got, want)
		}
	}
}
