package overlay_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"docker2013/aufs"
	"docker2013/container"
	"docker2013/overlay"
)

var seeds = flag.Int("seeds", 6, "how many random histories TestRandom plays")

// Random changes in a container, committed, and again in a container of the new
// image. After each commit three things must hold:
//
//   - a fresh container on the new image shows the tree that the old one showed;
//   - Changes says what differs between that tree and the image's before;
//   - the branch translated to AUFS's marks is the same layer, and translated
//     back it is the same branch.
func TestRandom(t *testing.T) {
	for seed := range *seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			w := &world{t: t, rand: rand.New(rand.NewPCG(uint64(seed), 0))}
			w.root = filepath.Join(h.dir, "layers/base")
			ok(t, os.Mkdir(w.root, 0o755))
			w.play(60)
			layers := []string{w.root}
			image := h.seen(layers...)
			for range 5 {
				fsys := h.container(layers...)
				h.mount(fsys)
				w.root = fsys.RootFS
				w.play(25)
				shown := snapshot(t, fsys.RootFS)
				checkChanges(t, h, fsys, image, shown)
				h.unmount(fsys)
				checkTranslation(t, fsys)
				layers = h.commit(fsys)
				image = h.seen(layers...)
				same(t, "the image's tree isn't the container's", shown, image)
			}
		})
	}
}

func checkChanges(t *testing.T, h *host, fsys *container.Filesystem, image, shown tree) {
	t.Helper()
	isDir := func(facts string) bool { return strings.HasPrefix(facts, "04") }
	changes, err := h.union.Changes(fsys)
	ok(t, err)
	listed := map[string]container.ChangeKind{}
	for _, c := range changes {
		if listed[c.Path] != "" {
			t.Errorf("%s is listed twice", c.Path)
		}
		listed[c.Path] = c.Kind
	}
	all := maps.Clone(image)
	maps.Copy(all, shown)
	delete(all, "/")
	for path := range all {
		before, was := image[path]
		after, is := shown[path]
		kind := listed[path]
		delete(listed, path)
		switch {
		case !was && kind != container.Added,
			was && !is && isDir(shown[filepath.Dir(path)]) && kind != container.Deleted,
			was && !is && !isDir(shown[filepath.Dir(path)]) && kind != "",
			was && is && kind != "" && kind != container.Modified,
			was && is && kind == "" && !unlisted(before, after):
			t.Errorf("%s is listed as %q\n\tbefore %s\n\tafter  %s", path, kind, before, after)
		}
	}
	if len(listed) > 0 {
		t.Errorf("listed, but neither in the image nor in the container: %v", listed)
	}
}

// unlisted: the rules don't list it. The file is as it was (perhaps another of
// its names is gone), or of a directory only the owner or attributes changed.
func unlisted(before, after string) bool {
	if strings.HasPrefix(before, "04") && strings.HasPrefix(after, "04") {
		b, a := strings.Fields(before), strings.Fields(after)
		return b[0] == a[0] && b[2] == a[2]
	}
	before, _, _ = strings.Cut(before, " is /")
	after, _, _ = strings.Cut(after, " is /")
	return before == after
}

func checkTranslation(t *testing.T, fsys *container.Filesystem) {
	t.Helper()
	layer := func() []byte {
		var b bytes.Buffer
		ok(t, container.WriteLayer(t.Context(), fsys, &b))
		return b.Bytes()
	}
	before, want := snapshot(t, fsys.RWPath), layer()
	ok(t, aufs.FromOverlay(fsys.RWPath))
	for path, facts := range snapshot(t, fsys.RWPath) {
		if strings.Contains(facts, "device 0:0") || strings.Contains(facts, container.OpaqueXattr) {
			t.Errorf("still a mark of overlayfs: %s %s", path, facts)
		}
	}
	if !bytes.Equal(want, layer()) {
		t.Error("with AUFS's marks the branch is another layer")
	}
	ok(t, overlay.FromAUFS(fsys.RWPath))
	// Hard links between whiteouts are the kernel's thrift.
	after := snapshot(t, fsys.RWPath)
	for _, tr := range []tree{before, after} {
		for path, facts := range tr {
			if strings.Contains(facts, "device 0:0") {
				tr[path] = "whiteout"
			}
		}
	}
	same(t, "overlay → aufs → overlay", before, after)
}

// world changes a tree at random. Few names, so that they meet.
type world struct {
	t    *testing.T
	rand *rand.Rand
	root string
}

func (w *world) play(n int) {
	for range n {
		w.step()
	}
}

// pick gives a path below the root that exists, or the root.
func (w *world) pick(dirs bool) string {
	var paths []string
	for path, facts := range snapshot(w.t, w.root) {
		if strings.HasPrefix(facts, "04") || !dirs {
			paths = append(paths, filepath.Join(w.root, path))
		}
	}
	slices.Sort(paths)
	return paths[w.rand.IntN(len(paths))]
}

func (w *world) fresh() string {
	return filepath.Join(w.pick(true), []string{"a", "b", "c", "d", "e", "x y"}[w.rand.IntN(6)])
}

// write doesn't follow a symlink (it could lead out) nor wait for a pipe's reader.
func (w *world) write(path, text string) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o644)
	if err == nil {
		_, _ = unix.Write(fd, []byte(text))
		_ = unix.Close(fd)
	}
}

// step does one thing. What can't be done just there isn't.
func (w *world) step() {
	r := w.rand
	path := w.pick(false)
	if path == w.root {
		path = w.fresh()
	}
	switch r.IntN(16) {
	case 0, 1, 2:
		w.write(w.fresh(), fmt.Sprint(r.Int()))
	case 3, 4:
		_ = os.Mkdir(w.fresh(), 0o755)
	case 5, 6:
		_ = os.RemoveAll(path)
	case 7: // made again, as something else perhaps
		_ = os.RemoveAll(path)
		if r.IntN(3) > 0 {
			_ = os.Mkdir(path, 0o750)
			w.write(filepath.Join(path, "a"), "")
		} else {
			w.write(path, "again")
		}
	case 8:
		_ = os.Rename(path, w.fresh()) // EXDEV for a directory of the image
	case 9:
		_ = os.Symlink([]string{"a", "..", "/nowhere/x", "../b"}[r.IntN(4)], w.fresh())
	case 10:
		_ = os.Link(path, w.fresh())
	case 11:
		_ = os.Lchown(path, r.IntN(3), r.IntN(3))
	case 12:
		if fi, err := os.Lstat(path); err == nil && fi.Mode()&os.ModeSymlink == 0 {
			_ = unix.Chmod(path, []uint32{0o600, 0o4755, 0o1777, 0o000}[r.IntN(4)])
		}
	case 13:
		_ = unix.Mknod(w.fresh(), []uint32{unix.S_IFIFO | 0o600, unix.S_IFCHR | 0o600}[r.IntN(2)], int(unix.Mkdev(1, 3)))
	case 14:
		_ = unix.Lsetxattr(path, []string{"user.a", "trusted.b"}[r.IntN(2)], []byte{byte(r.Int())}, 0)
	case 15:
		ts := unix.NsecToTimespec(time.Date(2013, 1, 29, r.IntN(24), 0, 0, r.IntN(1e9), time.UTC).UnixNano())
		_ = unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	}
}
