package images

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"docker2013/trace"
)

func TestImportKeepsWhatTheTarSays(t *testing.T) {
	needRoot(t)
	program := file("bin/su", "program")
	program.Mode, program.Uid, program.Gid = 0o4755, 0, 5
	capable := file("bin/ping", "ping")
	capable.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": capNetRaw}
	owned := file("home/me/f", "mine")
	owned.Uid, owned.Gid, owned.Mode = 1000, 1001, 0o600
	home := dir("home/me/")
	home.Uid, home.Gid, home.Mode = 1000, 1001, 0o2750
	fifo := entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "run/fifo", Mode: 0o622}}
	link := symlink("home/me/l", "/etc/passwd")
	link.Uid, link.Gid = 1000, 1001
	root := dir("./")
	root.Mode = 0o711

	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	s := newStore(t)
	img := put(t, s, "x", makeTar(t, root, home, owned, link, program, hardlink("bin/login", "bin/su"), capable, fifo,
		device(tar.TypeChar, "dev/tty", 5, 0), file("large", strings.Repeat("large ", 100_000))), nil)
	layer := img.Layers[0]

	for _, want := range []struct {
		name     string
		mode     uint32
		uid, gid uint32
		nlink    uint64
	}{
		{".", syscall.S_IFDIR | 0o711, 0, 0, 0},
		{"home", syscall.S_IFDIR | 0o755, 0, 0, 0}, // without an entry, whatever the umask
		{"home/me", syscall.S_IFDIR | 0o2750, 1000, 1001, 0},
		{"home/me/f", syscall.S_IFREG | 0o600, 1000, 1001, 1},
		{"home/me/l", syscall.S_IFLNK | 0o777, 1000, 1001, 1},
		{"bin/su", syscall.S_IFREG | 0o4755, 0, 5, 2},
		{"bin/login", syscall.S_IFREG | 0o4755, 0, 5, 2},
		{"bin/ping", syscall.S_IFREG | 0o644, 0, 0, 1},
		{"run/fifo", syscall.S_IFIFO | 0o622, 0, 0, 1},
		{"dev/tty", syscall.S_IFCHR | 0o600, 0, 0, 1},
		{"large", syscall.S_IFREG | 0o644, 0, 0, 1},
	} {
		var st syscall.Stat_t
		if err := syscall.Lstat(filepath.Join(layer, want.name), &st); err != nil {
			t.Error(err)
			continue
		}
		if st.Mode != want.mode || st.Uid != want.uid || st.Gid != want.gid || want.nlink != 0 && st.Nlink != want.nlink {
			t.Errorf("%s: %o %d:%d, %d links; want %+v", want.name, st.Mode, st.Uid, st.Gid, st.Nlink, want)
		}
		hasEntry := want.name != "home"
		if mtime := time.Unix(st.Mtim.Unix()); hasEntry && !mtime.Equal(testTime) {
			t.Errorf("%s: changed %v, want %v", want.name, mtime, testTime)
		}
	}
	var st syscall.Stat_t
	if err := syscall.Lstat(filepath.Join(layer, "dev/tty"), &st); err != nil || st.Rdev != 5<<8 {
		t.Errorf("dev/tty is %#x, %v", st.Rdev, err)
	}
	value := make([]byte, 100)
	n, err := syscall.Getxattr(filepath.Join(layer, "bin/ping"), "security.capability", value)
	if err != nil || string(value[:n]) != capNetRaw {
		t.Errorf("capability %x, %v", value[:max(n, 0)], err)
	}
	data, err := os.ReadFile(filepath.Join(layer, "large"))
	if err != nil || string(data) != strings.Repeat("large ", 100_000) {
		t.Errorf("large has %d bytes, %v", len(data), err)
	}
}

// TestFormats: the id is the hash of the tar itself, however it is packed.
func TestFormats(t *testing.T) {
	needRoot(t)
	// The padding after the archive counts.
	data := append(makeTar(t, file("f", strings.Repeat("data ", 1000))), make([]byte, 8192)...)
	pack := map[string]func(io.Writer) (io.WriteCloser, error){
		"gzip": func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		"zstd": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
	}
	streams := map[string][]byte{"tar": data}
	for name, open := range pack {
		var b bytes.Buffer
		w, err := open(&b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		streams[name] = b.Bytes()
	}
	if path, err := exec.LookPath("xz"); err != nil {
		t.Error("no xz here: apt-get install xz-utils")
	} else {
		cmd := exec.Command(path)
		cmd.Stdin = bytes.NewReader(data)
		if streams["xz"], err = cmd.Output(); err != nil {
			t.Fatal(err)
		}
	}
	want := layerID(data)
	for name, stream := range streams {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			var last int64
			img, err := s.Import(t.Context(), "x", bytes.NewReader(stream), nil, func(n int64) { last = n })
			if err != nil {
				t.Fatal(err)
			}
			if img.Id != "x:"+want {
				t.Errorf("id %s, want x:%s", img.Id, want)
			}
			if last != int64(len(stream)) {
				t.Errorf("progress ended at %d of %d", last, len(stream))
			}
			onlyLayers(t, s, want)
			for _, cut := range []int{8, len(stream) / 3} {
				if _, err := s.Import(t.Context(), "y", bytes.NewReader(stream[:cut]), nil, nil); err == nil {
					t.Errorf("cut off at %d: no error", cut)
				}
			}
			onlyLayers(t, s, want)
		})
	}
}

// TestSparse has tar itself pack a file with holes, in every format it knows.
func TestSparse(t *testing.T) {
	needRoot(t)
	src := t.TempDir()
	f, err := os.Create(filepath.Join(src, "f"))
	if err != nil {
		t.Fatal(err)
	}
	const size = 64 << 20
	for _, at := range []int64{0, 10 << 20, size - 5} {
		if _, err := f.WriteAt([]byte("data!"), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"gnu", "pax"} {
		data, err := exec.Command("tar", "-C", src, "-S", "--format="+format, "-c", ".").Output()
		if err != nil {
			t.Fatal(err)
		}
		s := newStore(t)
		img := put(t, s, "x", data, nil)
		path := filepath.Join(img.Layers[0], "f")
		var st syscall.Stat_t
		if err := syscall.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		if st.Size != size || st.Blocks*512 > 1<<20 {
			t.Errorf("%s: %d bytes in %d blocks", format, st.Size, st.Blocks)
		}
		if out, err := exec.Command("cmp", path, filepath.Join(src, "f")).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", format, err, out)
		}
	}
}

func TestIds(t *testing.T) {
	needRoot(t)
	s := newStore(t)
	base := makeTar(t, file("base", ""))
	upper := makeTar(t, file("upper", ""))
	empty := makeTar(t)
	b := put(t, s, "base", base, nil)
	m := put(t, s, "http://localhost:80/mine", upper, b)

	sum := sha256.Sum256([]byte(layerID(upper) + layerID(base))) // top first
	if want := "http://localhost:80/mine:" + hex.EncodeToString(sum[:8]); m.Id != want {
		t.Errorf("id %s, want %s", m.Id, want)
	}
	if m.Name() != "http://localhost:80/mine" || m.Parent != b.Id {
		t.Errorf("%+v", m)
	}
	if want := []string{s.LayerPath(layerID(upper)), s.LayerPath(layerID(base))}; !slices.Equal(m.Layers, want) {
		t.Errorf("layers %v, want %v", m.Layers, want)
	}

	// An unchanged container committed twice: no union takes a layer twice.
	e := put(t, s, "e", empty, m)
	e2 := put(t, s, "e", empty, e)
	if !slices.Equal(e2.Layers, e.Layers) || e2.Id != e.Id || e2.Parent != m.Id {
		t.Errorf("%+v, then %+v", e, e2)
	}
	again := put(t, s, "again", base, m)
	if want := []string{s.LayerPath(layerID(base)), s.LayerPath(layerID(upper))}; !slices.Equal(again.Layers, want) {
		t.Errorf("layers %v, want %v", again.Layers, want)
	}
}

func TestImportAgain(t *testing.T) {
	needRoot(t)
	s := newStore(t)
	one, two := makeTar(t, file("f", "1")), makeTar(t, file("f", "2"))
	first := put(t, s, "x", one, nil)
	second := put(t, s, "x", two, nil)
	if got := s.Find("x"); got.Id != second.Id {
		t.Errorf("newest %s, want %s", got.Id, second.Id)
	}
	again := put(t, s, "x", one, nil)
	if again.Id != first.Id || !again.Created.After(second.Created) {
		t.Errorf("again %+v after %+v", again, second)
	}
	var ids []string
	for _, img := range s.History("x") {
		ids = append(ids, img.Id)
	}
	if want := []string{first.Id, second.Id}; !slices.Equal(ids, want) {
		t.Errorf("history %v, want %v", ids, want)
	}
	onlyLayers(t, s, layerID(one), layerID(two))
}

func TestParallelImports(t *testing.T) {
	needRoot(t)
	s := newStore(t)
	same := makeTar(t, file("f", "same"))
	layers := []string{layerID(same)}
	var wg sync.WaitGroup
	for i := range 8 {
		own := makeTar(t, file("f", fmt.Sprint(i)))
		layers = append(layers, layerID(own))
		for name, data := range map[string][]byte{"same": same, fmt.Sprint("own", i): own} {
			wg.Go(func() {
				if _, err := s.Import(t.Context(), name, bytes.NewReader(data), nil, nil); err != nil {
					t.Error(err)
				}
				s.Find(name)
			})
		}
	}
	wg.Wait()
	if s.Len() != 9 || len(s.History("same")) != 1 {
		t.Errorf("%d images, %d of same", s.Len(), len(s.History("same")))
	}
	onlyLayers(t, s, layers...)
	if reopened := openStore(t, filepath.Dir(s.layers)); reopened.Len() != 9 {
		t.Errorf("reopened: %d images", reopened.Len())
	}
}

func TestNames(t *testing.T) {
	for _, good := range []string{"base", "a", "debian/12", "http://localhost:8000/base.tar.gz?x=1", "größe", "a:b"} {
		if err := checkName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "a b", "a\tb", "a\nb", "\x1b[31m", "a\x7f", "-a", "\xff", "a\u202eb", "\u00a0",
		"base:0123456789abcdef", strings.Repeat("a", maxName+1)} {
		if err := checkName(bad); !errors.Is(err, ErrBadName) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	s := newStore(t)
	if _, err := s.Import(t.Context(), "", errReader{errors.New("read")}, nil, nil); !errors.Is(err, ErrBadName) {
		t.Errorf("import: %v", err)
	}
}

func TestSteps(t *testing.T) {
	needRoot(t)
	var r trace.Recorder
	sub := r.Subscribe(0, 10)
	s := newStore(t)
	ctx := trace.WithRecorder(context.Background(), &r, 1)
	if _, err := s.Import(ctx, "x", bytes.NewReader(makeTar(t)), nil, nil); err != nil {
		t.Fatal(err)
	}
	sub.Close()
	var steps []string
	for e := range sub.C {
		steps = append(steps, e.Step)
	}
	if want := []string{"images.unpack", "images.publish"}; !slices.Equal(steps, want) {
		t.Errorf("steps %v, want %v", steps, want)
	}
}
