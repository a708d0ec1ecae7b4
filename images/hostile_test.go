package images

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/gzip"
)

// hostile is an archive that tries something, and what must come of it: an error
// (any, where it says errAny), or a path that must be in the layer and its mode.
type hostile struct {
	name    string
	entries []entry
	err     error
	path    string
	mode    os.FileMode
}

var errAny = errors.New("any error")

// hostiles is for a function, so that the fuzz test can use the rows as seeds.
func hostiles() []hostile {
	long := strings.Repeat("d/", 3000) + "f"
	attr := func(name string) entry {
		e := file("f", "x")
		e.PAXRecords = map[string]string{"SCHILY.xattr." + name: "y"}
		return e
	}
	withMode := func(e entry, mode int64) entry { e.Mode = mode; return e }
	owner := func(uid, gid int) entry { e := file("f", "x"); e.Uid, e.Gid = uid, gid; return e }
	var deep []entry // each link leads 1,000 folders further down
	for i, at := 0, strings.Repeat("d/", 1000); i < 3; i++ {
		deep = append(deep, dir(at), symlink(fmt.Sprint(i), at))
		at = fmt.Sprint(i) + "/" + strings.Repeat("d/", 1000)
	}
	return []hostile{
		{"absolute name", []entry{file("/etc/passwd", "x")}, nil, "etc/passwd", 0o644},
		{"many slashes", []entry{file("///etc//./passwd", "x")}, nil, "etc/passwd", 0o644},
		{"dot dot", []entry{file("../beside", "x")}, ErrUnsafe, "", 0},
		{"dot dot inside", []entry{file("a/../../beside", "x")}, ErrUnsafe, "", 0},
		{"dot dot at the end", []entry{dir("a/..")}, ErrUnsafe, "", 0},
		{"absolute dot dot", []entry{file("/../beside", "x")}, ErrUnsafe, "", 0},
		{"dot as a file", []entry{file(".", "x")}, ErrUnsafe, "", 0},
		{"dot as a link", []entry{symlink("./", "/etc")}, ErrUnsafe, "", 0},
		{"dot as a folder", []entry{dir("./")}, nil, ".", os.ModeDir | 0o755},
		{"name too long", []entry{file(long, "x")}, syscall.ENAMETOOLONG, "", 0},
		{"component too long", []entry{file(strings.Repeat("n", 300), "x")}, syscall.ENAMETOOLONG, "", 0},

		{"symlink out, file through it", []entry{symlink("l", "../../.."), file("l/beside", "x")}, nil, "beside", 0o644},
		{"absolute symlink, file through it", []entry{symlink("l", "/etc"), dir("etc"), file("l/f", "x")}, nil, "etc/f", 0o644},
		{"dangling absolute symlink", []entry{symlink("l", "/no/such"), file("l/f", "x")}, errAny, "", 0},
		{"file over a symlink", []entry{symlink("f", "../../beside/canary"), file("f", "x")}, nil, "f", 0o644},
		{"folder over a symlink", []entry{symlink("f", "/etc"), dir("f"), file("f/g", "x")}, nil, "f/g", 0o644},
		{"chain of symlinks", []entry{symlink("a", "b"), symlink("b", ".."), symlink("c", "a/.."), file("c/f", "x")}, nil, "f", 0o644},
		{"loop of symlinks", []entry{symlink("a", "b"), symlink("b", "a"), file("a/f", "x")}, errAny, "", 0},
		{"proc's magic links", []entry{symlink("p", "/proc/self/root"), file("p/f", "x")}, errAny, "", 0},
		{"deeper than any path", deep, syscall.ENAMETOOLONG, "", 0},

		{"hard link out", []entry{hardlink("f", "../beside/canary")}, ErrUnsafe, "", 0},
		{"hard link to an absolute name", []entry{file("etc/x", "in"), hardlink("f", "/etc/x")}, nil, "f", 0o644},
		{"hard link to the host's file", []entry{hardlink("f", "/etc/passwd")}, syscall.ENOENT, "", 0},
		{"hard link through a symlink", []entry{symlink("l", "../../beside"), hardlink("f", "l/canary")}, errAny, "", 0},
		{"hard link to a symlink, then written", []entry{symlink("l", "/etc/passwd"), hardlink("f", "l"), file("f", "x")}, nil, "f", 0o644},
		{"chain of hard links to a symlink out, file through it", []entry{symlink("l", "../.."), hardlink("a", "l"), hardlink("b", "a"), file("b/x", "x")}, nil, "x", 0o644},
		{"chain of hard links to a symlink, then written", []entry{symlink("l", "/etc/passwd"), hardlink("a", "l"), hardlink("b", "a"), file("b", "x")}, nil, "b", 0o644},
		{"chain of links of both kinds", []entry{symlink("a", "../beside"), hardlink("b", "a"), symlink("c", "b"), hardlink("d", "c"), file("d/canary", "x")}, errAny, "", 0},
		{"hard link to a folder", []entry{dir("d"), hardlink("f", "d")}, errAny, "", 0},
		{"hard link to the root", []entry{hardlink("f", ".")}, errAny, "", 0},
		{"hard link to itself", []entry{file("f", "x"), hardlink("f", "f")}, nil, "f", 0o644},
		{"hard link to nothing", []entry{hardlink("f", "")}, errAny, "", 0},

		{"file where an empty folder was", []entry{dir("a"), file("a", "x")}, nil, "a", 0o644},
		{"file where a full folder was", []entry{file("a/b", "x"), file("a", "x")}, syscall.ENOTEMPTY, "", 0},
		{"folder where a file was", []entry{file("a", "x"), dir("a")}, nil, "a", os.ModeDir | 0o755},
		{"file below a file", []entry{file("a", "x"), file("a/b", "x")}, syscall.ENOTDIR, "", 0},
		{"symlink where a full folder was", []entry{file("a/b", "x"), symlink("a", "/etc")}, syscall.ENOTEMPTY, "", 0},
		{"symlink where an empty folder was, file through it", []entry{dir("a"), symlink("a", "../.."), file("a/b", "x")}, nil, "b", 0o644},
		{"folder where a symlink out was, file in it", []entry{symlink("a", "../../beside"), dir("a"), file("a/canary", "x")}, nil, "a/canary", 0o644},
		{"hard link where a folder was", []entry{file("f", "x"), dir("a"), hardlink("a", "f")}, nil, "a", 0o644},
		{"the same name three times", []entry{file("a", "1"), file("a", "2"), file("a", "3")}, nil, "a", 0o644},

		{"device outside dev", []entry{device(tar.TypeChar, "etc/null", 1, 3)}, ErrUnsafe, "", 0},
		{"block device outside dev", []entry{device(tar.TypeBlock, "disk", 254, 0)}, ErrUnsafe, "", 0},
		{"device where a file was", []entry{file("dev/x", "x"), device(tar.TypeBlock, "dev/x", 254, 0)}, nil, "dev/x", os.ModeDevice | 0o600},
		{"file where a device was", []entry{device(tar.TypeChar, "dev/null", 1, 3), file("dev/null", "x")}, nil, "dev/null", 0o644},
		{"device below dev", []entry{device(tar.TypeChar, "dev/net/tun", 10, 200)}, nil, "dev/net/tun", os.ModeDevice | os.ModeCharDevice | 0o600},
		{"device in dev", []entry{device(tar.TypeChar, "dev/null", 1, 3)}, nil, "dev/null", os.ModeDevice | os.ModeCharDevice | 0o600},
		{"device in a dev that is a link", []entry{dir("etc"), symlink("dev", "etc"), device(tar.TypeChar, "dev/null", 1, 3)}, ErrUnsafe, "", 0},
		{"device hard-linked out of dev", []entry{device(tar.TypeBlock, "dev/disk", 254, 0), hardlink("disk", "dev/disk")}, ErrUnsafe, "", 0},
		{"overlay whiteout", []entry{device(tar.TypeChar, "dev/gone", 0, 0)}, ErrUnsafe, "", 0},
		{"overlay whiteout by overflow", []entry{device(tar.TypeChar, "dev/gone", 4096, 0)}, ErrUnsafe, "", 0},
		{"overlay whiteout by minor", []entry{device(tar.TypeChar, "dev/gone", 0, 1<<20)}, ErrUnsafe, "", 0},

		{"whiteout", []entry{file("a/.wh.b", "")}, nil, "a/.wh.b", 0o644},
		{"opaque mark", []entry{file("a/.wh..wh..opq", "")}, nil, "a/.wh..wh..opq", 0o644},
		{"AUFS's own", []entry{dir(".wh..wh.plnk"), file(".wh..wh.plnk/1.2", "x")}, nil, ".wh..wh.plnk/1.2", 0o644},
		{"AUFS's own below the root", []entry{dir("a/.wh..wh.plnk")}, ErrUnsafe, "", 0},
		{"whiteout behind a symlinked folder", []entry{dir("etc"), symlink("l", "etc"), file("l/.wh.passwd", "")}, nil, "etc/.wh.passwd", 0o644},
		{"whiteout behind a symlink out", []entry{symlink("l", "../../beside"), file("l/.wh.canary", "")}, errAny, "", 0},
		{"whiteout behind a symlink to the root", []entry{symlink("l", "../../.."), file("l/.wh.beside", "")}, nil, ".wh.beside", 0o644},
		{"opaque mark behind a symlinked folder", []entry{dir("etc"), symlink("l", "/etc"), file("l/.wh..wh..opq", "")}, nil, "etc/.wh..wh..opq", 0o644},
		{"opaque mark behind a symlink out", []entry{symlink("l", "../../beside"), file("l/.wh..wh..opq", "")}, errAny, "", 0},
		{"opaque mark of the root", []entry{file(".wh..wh..opq", "")}, nil, ".wh..wh..opq", 0o644},
		{"entries before the opaque mark", []entry{file("a/b", "x"), file("a/.wh..wh..opq", "")}, nil, "a/b", 0o644},
		{"entries behind the opaque mark", []entry{file("a/.wh..wh..opq", ""), file("a/b", "x")}, nil, "a/b", 0o644},
		{"whiteout that is a hard link to a symlink out", []entry{symlink("l", "/etc/passwd"), hardlink(".wh.b", "l")}, ErrUnsafe, "", 0},
		{"whiteout as a device", []entry{device(tar.TypeChar, "dev/.wh.b", 1, 3)}, ErrUnsafe, "", 0},
		{"a name that begins like a mark", []entry{file("a/.whb", "x")}, nil, "a/.whb", 0o644},
		{"whiteout of nothing", []entry{file("a/.wh.", "")}, ErrUnsafe, "", 0},
		{"whiteout of dot", []entry{file("a/.wh..", "")}, ErrUnsafe, "", 0},
		{"whiteout of dot dot", []entry{file("a/.wh...", "")}, ErrUnsafe, "", 0},
		{"whiteout as a folder", []entry{dir("a/.wh.b")}, ErrUnsafe, "", 0},
		{"whiteout as a symlink", []entry{symlink("a/.wh.b", "/etc")}, ErrUnsafe, "", 0},
		{"whiteout in the way", []entry{file("a/.wh.b/c", "")}, ErrUnsafe, "", 0},
		{"opaque mark in the way", []entry{file("a/.wh..wh..opq/c", "")}, ErrUnsafe, "", 0},

		{"set-user-ID", []entry{withMode(file("f", "x"), 0o4755)}, nil, "f", os.ModeSetuid | 0o755},
		{"set-group-ID and sticky", []entry{withMode(dir("d"), 0o3777)}, nil, "d", os.ModeDir | os.ModeSetgid | os.ModeSticky | 0o777},
		{"bits beyond a mode's", []entry{withMode(file("f", "x"), 0o10644)}, nil, "f", 0o644},
		{"overlay's redirect", []entry{attr("trusted.overlay.redirect")}, nil, "f", 0o644},
		{"overlay's attribute", []entry{attr("trusted.overlay.opaque")}, nil, "f", 0o644},
		{"fuse-overlayfs's attribute", []entry{attr("user.fuseoverlayfs.opaque")}, nil, "f", 0o644},
		{"a label of the packer's host", []entry{attr("security.selinux")}, nil, "f", 0o644},
		{"owner minus one", []entry{owner(-1, 0)}, ErrUnsafe, "", 0},
		{"group past 32 bits", []entry{owner(0, 1<<32)}, ErrUnsafe, "", 0},
		{"an unknown type", []entry{{Header: tar.Header{Typeflag: 'Z', Name: "z"}}}, errors.ErrUnsupported, "", 0},
	}
}

func TestHostile(t *testing.T) {
	needRoot(t)
	for _, h := range hostiles() {
		t.Run(h.name, func(t *testing.T) {
			data := makeTar(t, h.entries...)
			checkImport(t, data, func(s *Store, img *Image, err error) {
				switch {
				case h.err == nil && err != nil:
					t.Fatal(err)
				case h.err == errAny && err == nil, h.err != nil && h.err != errAny && !errors.Is(err, h.err):
					t.Fatalf("error %v, want %v", err, h.err)
				case err != nil:
					return
				}
				fi, err := os.Lstat(filepath.Join(img.Layers[0], h.path))
				if err != nil {
					t.Fatal(err)
				}
				if fi.Mode() != h.mode {
					t.Errorf("%s has the mode %v, want %v", h.path, fi.Mode(), h.mode)
				}
			})
		})
	}
}

// canary makes a folder beside a store's, with a file in it that nobody may touch.
func canary(t *testing.T, home string) (beside string) {
	t.Helper()
	beside = filepath.Join(home, "beside")
	if err := os.MkdirAll(beside, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(beside, "canary"), []byte("alive"), 0o600); err != nil {
		t.Fatal(err)
	}
	return beside
}

// checkImport imports an archive beside a canary, and hands on the outcome. The
// canary must not change, and an error must leave nothing.
func checkImport(t *testing.T, data []byte, outcome func(*Store, *Image, error)) {
	t.Helper()
	home := t.TempDir()
	beside := canary(t, home)
	s, err := Open(filepath.Join(home, "images"), Options{MaxLayerBytes: 1 << 20, MaxLayerEntries: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	before := tree(t, beside)
	img, err := s.Import(t.Context(), "x", bytes.NewReader(data), nil, nil)
	if after := tree(t, beside); after != before {
		t.Errorf("the folder beside changed from\n%sto\n%s", before, after)
	}
	entries, readErr := os.ReadDir(home)
	if readErr != nil || len(entries) != 2 {
		t.Errorf("beside the store: %v, %v", entries, readErr)
	}
	if err != nil {
		onlyLayers(t, s)
	} else {
		onlyLayers(t, s, filepath.Base(img.Layers[0]))
	}
	outcome(s, img, err)
}

func TestLastOfANameWins(t *testing.T) {
	needRoot(t)
	var entries []entry
	for i := range 200 {
		entries = append(entries, file("a", fmt.Sprint(i)), file(fmt.Sprint("b", i%3), fmt.Sprint(i)))
	}
	s := newStore(t)
	img := put(t, s, "x", makeTar(t, entries...), nil)
	for name, want := range map[string]string{"a": "199", "b0": "198", "b1": "199", "b2": "197"} {
		got, err := os.ReadFile(filepath.Join(img.Layers[0], name))
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
}

func TestDroppedAttributes(t *testing.T) {
	needRoot(t)
	f := file("f", "x")
	f.PAXRecords = map[string]string{
		"SCHILY.xattr.trusted.overlay.opaque":    "y",
		"SCHILY.xattr.trusted.anything":          "y",
		"SCHILY.xattr.user.overlay.opaque":       "y",
		"SCHILY.xattr.user.fuseoverlayfs.opaque": "y",
		"SCHILY.xattr.security.selinux":          "y",
		"SCHILY.xattr.user.kept":                 "y",
		"SCHILY.xattr.security.capability":       capNetRaw,
	}
	s := newStore(t)
	img := put(t, s, "x", makeTar(t, f), nil)
	buf := make([]byte, 1000)
	n, err := syscall.Listxattr(filepath.Join(img.Layers[0], "f"), buf)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for name := range strings.SplitSeq(strings.TrimRight(string(buf[:n]), "\x00"), "\x00") {
		got[name] = true
	}
	if len(got) != 2 || !got["user.kept"] || !got["security.capability"] {
		t.Errorf("attributes %v, want user.kept and security.capability", got)
	}
}

// capNetRaw is cap_net_raw+ep in revision 2 of the format (linux/capability.h).
const capNetRaw = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// zeros is an endless stream.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestBombs: every limit ends its import, soon and with ErrTooBig.
func TestBombs(t *testing.T) {
	needRoot(t)
	gz := func(r io.Reader) io.Reader {
		pr, pw := io.Pipe()
		go func() {
			w := gzip.NewWriter(pw)
			_, err := io.Copy(w, r)
			pw.CloseWithError(errors.Join(err, w.Close()))
		}()
		t.Cleanup(func() { pr.Close() })
		return pr
	}
	header := func(h tar.Header) io.Reader {
		var b bytes.Buffer
		if err := tar.NewWriter(&b).WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		return &b
	}
	big := func(size int64) io.Reader {
		return io.MultiReader(header(tar.Header{Typeflag: tar.TypeReg, Name: "big", Size: size}), zeros{})
	}
	var many []entry
	for i := range 101 {
		many = append(many, file(fmt.Sprint(i), ""))
	}
	for _, test := range []struct {
		name string
		r    io.Reader
	}{
		{"a large file", big(2 << 20)},
		{"a size that lies", big(1 << 60)},
		{"a large file in gzip", gz(big(2 << 20))},
		{"padding without end", io.MultiReader(bytes.NewReader(makeTar(t, file("f", "x"))), zeros{})},
		{"padding without end in gzip", gz(zeros{})},
		{"too many files", bytes.NewReader(makeTar(t, many...))},
		{"too many folders that have no entry", bytes.NewReader(makeTar(t, file(strings.Repeat("d/", 101)+"f", "")))},
		{"a hole of an exabyte", bytes.NewReader(sparseBomb(t))},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := Open(t.TempDir(), Options{MaxLayerBytes: 1 << 20, MaxLayerEntries: 100})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Import(t.Context(), "x", test.r, nil, nil); !errors.Is(err, ErrTooBig) {
				t.Errorf("error %v, want ErrTooBig", err)
			}
			onlyLayers(t, s)
		})
	}
}

// sparseBomb is a file of GNU's sparse format 1.0 that is one large hole.
func sparseBomb(t *testing.T) []byte {
	const size = 1 << 60
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	sparseMap := fmt.Appendf(nil, "1\n%d\n0\n", int64(size))
	sparseMap = append(sparseMap, make([]byte, blockSize-len(sparseMap))...)
	// The writer of archive/tar refuses GNU.sparse records: the PAX header is
	// made by hand.
	record := func(k, v string) string {
		n := len(k) + len(v) + 3
		n += len(fmt.Sprint(n + len(fmt.Sprint(n))))
		return fmt.Sprintf("%d %s=%s\n", n, k, v)
	}
	pax := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") +
		record("GNU.sparse.name", "hole") + record("GNU.sparse.realsize", fmt.Sprint(int64(size)))
	put := func(h tar.Header, data string) {
		h.Size, h.Format = int64(len(data)), tar.FormatUSTAR
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, data); err != nil {
			t.Fatal(err)
		}
	}
	put(tar.Header{Typeflag: tar.TypeReg, Name: "P"}, pax)
	put(tar.Header{Typeflag: tar.TypeReg, Name: "hole"}, string(sparseMap))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	data := b.Bytes()
	data[156] = 'x' // the type of the first header, whose checksum grows as much
	sum := 0
	copy(data[148:156], "        ")
	for _, c := range data[:blockSize] {
		sum += int(c)
	}
	copy(data[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return data
}

// TestInterrupted cuts streams off everywhere: never an image, never a rest.
func TestInterrupted(t *testing.T) {
	needRoot(t)
	data := makeTar(t, dir("d"), file("d/zeros", strings.Repeat("\x00", 1024)), file("d/f", strings.Repeat("x", 700)), symlink("l", "d"))
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	fail := func(what string, r io.Reader, want error) {
		t.Helper()
		img, err := s.Import(t.Context(), "x", r, nil, nil)
		if err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: image %v, error %v", what, img, err)
		}
	}
	end := len(data) - 1024 // the end-of-archive blocks; one will do
	for n := 0; n < end+blockSize; n += 256 {
		fail(fmt.Sprintf("cut at %d", n), bytes.NewReader(data[:n]), nil)
	}
	for n := 3; n < zipped.Len(); n += 16 {
		fail(fmt.Sprintf("gzip cut at %d", n), bytes.NewReader(zipped.Bytes()[:n]), nil)
	}
	broken := errors.New("broken")
	fail("reader that fails", io.MultiReader(bytes.NewReader(data[:2000]), errReader{broken}), broken)
	damaged := bytes.Clone(zipped.Bytes())
	damaged[len(damaged)-8] ^= 1
	fail("wrong checksum", bytes.NewReader(damaged), gzip.ErrChecksum)
	fail("nothing", bytes.NewReader(nil), ErrNotArchive)
	fail("a page", strings.NewReader("<html>404 not found</html>"), ErrNotArchive)
	fail("a long page", strings.NewReader(strings.Repeat("<p>404 not found</p>", 100)), ErrNotArchive)
	onlyLayers(t, s)
	if s.Len() != 0 {
		t.Errorf("%d images", s.Len())
	}
}

type errReader struct{ error }

func (e errReader) Read([]byte) (int, error) { return 0, e.error }

// TestCancel ends an import whose client has stopped sending.
func TestCancel(t *testing.T) {
	needRoot(t)
	s := newStore(t)
	data := makeTar(t, file("a", "x"), file("b", "y"))
	r, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the client is gone")
	go func() {
		_, _ = w.Write(data[:700])
		cancel(gone)
	}()
	if _, err := s.Import(ctx, "x", r, nil, nil); !errors.Is(err, gone) {
		t.Errorf("error %v", err)
	}
	onlyLayers(t, s)
}
