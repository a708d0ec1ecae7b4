package aufs_test

import (
	"bytes"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"docker2013/aufs"
	"docker2013/container"
	"docker2013/overlay"
)

// program is docker2013-aufs, built once.
var program string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "docker2013-aufs-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "docker2013-aufs")
	args := []string{"build", "-o", program}
	if race { // what is tested with the detector is the process of the mount
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "docker2013/cmd/docker2013-aufs")...)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// host is a folder of layers and containers, and the unions to mount them with.
type host struct {
	dir    string
	fuse   *aufs.Fuse
	log    *lockedBuffer
	unions map[string]container.Union
}

// lockedBuffer is written while it is read.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newHost(t testing.TB) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: NOT ROOT: nothing can be mounted, nothing is tested here")
	}
	h := &host{dir: tempDir(t), log: &lockedBuffer{}}
	var err error
	h.fuse, err = aufs.NewFuse(program, slog.New(slog.NewTextHandler(h.log, nil)))
	ok(t, err)
	o, err := overlay.New(filepath.Join(h.dir, "overlay"))
	ok(t, err)
	h.unions = map[string]container.Union{"fuse": h.fuse, "overlay": o}
	t.Cleanup(func() {
		ok(t, h.fuse.Close())
		ok(t, o.Close())
	})
	return h
}

// tempDir is one that every user can reach.
func tempDir(t testing.TB) string {
	dir := t.TempDir()
	ok(t, os.Chmod(filepath.Dir(dir), 0o755))
	return dir
}

// sub is a host in a folder of its own, with the same unions.
func (h *host) sub(t testing.TB) *host {
	s := *h
	s.dir = tempDir(t)
	return &s
}

func (h *host) filesystem(name string, layers ...string) *container.Filesystem {
	dir := filepath.Join(h.dir, name)
	_ = os.Mkdir(dir, 0o755)
	return &container.Filesystem{RootFS: dir + "/rootfs", RWPath: dir + "/rw", Layers: layers}
}

func (h *host) mount(t testing.TB, union string, fsys *container.Filesystem) {
	t.Helper()
	t.Cleanup(func() { _ = unix.Unmount(fsys.RootFS, unix.MNT_DETACH) }) // when a test fails
	ok(t, h.unions[union].Mount(t.Context(), fsys))
}

func (h *host) unmount(t testing.TB, union string, fsys *container.Filesystem) {
	t.Helper()
	ok(t, h.unions[union].Unmount(t.Context(), fsys))
	if said, _ := os.ReadFile(filepath.Dir(fsys.RWPath) + "/aufs.log"); len(said) > 0 {
		t.Fatalf("the process of the mount said:\n%.8000s", said) // a panic, a data race
	}
}

// unpack unpacks a layer's tar with the host's own tar.
func unpack(t testing.TB, tar *bytes.Buffer, dir string) {
	t.Helper()
	ok(t, os.Mkdir(dir, 0o755))
	cmd := exec.Command("tar", "-x", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", dir)
	cmd.Stdin = tar
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tar -x: %v\n%s", err, out)
	}
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
