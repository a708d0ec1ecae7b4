package container_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"docker2013/container"
)

// list gives an archive's entries, a line each, in their order.
func list(t testing.TB, archive []byte) []string {
	t.Helper()
	var lines []string
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		hdr, err := r.Next()
		if err == io.EOF {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("%c %04o %d:%d %s", hdr.Typeflag, hdr.Mode, hdr.Uid, hdr.Gid, hdr.Name)
		if hdr.Linkname != "" {
			line += " -> " + hdr.Linkname
		}
		if hdr.Devmajor != 0 {
			line += fmt.Sprintf(" %d,%d", hdr.Devmajor, hdr.Devminor)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > 0 {
			line += fmt.Sprintf(" %q", data)
		}
		if hdr.Uname+hdr.Gname != "" {
			t.Errorf("%s has names of owners", hdr.Name)
		}
		lines = append(lines, line)
	}
}

func layer(t testing.TB, fsys *container.Filesystem) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := container.WriteLayer(t.Context(), fsys, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: NOT ROOT: neither devices nor owners can be made")
	}
}

func TestWriteLayer(t *testing.T) {
	needRoot(t)
	long := strings.Repeat("long", 40)
	fsys := filesystem(t, `chmod 711 .; mkdir -p b/c; echo hi >b/c/file; ln b/c/file a; chown 5:3000000 b; chmod 4755 a
		ln -s ../x b/link; mkfifo -m 600 fifo; mknod -m 620 tty c 4 65; mknod -m 660 disk b 259 1000
		touch .wh.gone b/.wh..wh..opq b/.wh.also .wh..wh.aufs; mkdir .wh..wh.plnk; mkdir d; mkdir `+long+`; touch `+long+"/f")
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	if err := unix.Bind(socket, &unix.SockaddrUnix{Name: fsys.RWPath + "/socket"}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"5 0711 0:0 ./",
		"0 0444 0:0 .wh.gone",
		`0 4755 0:0 a "hi\n"`,
		"5 0755 5:3000000 b/",
		"0 0444 0:0 b/.wh..wh..opq",
		"0 0444 0:0 b/.wh.also",
		"5 0755 0:0 b/c/",
		"1 4755 0:0 b/c/file -> a",
		"2 0777 0:0 b/link -> ../x",
		"5 0755 0:0 d/",
		"4 0660 0:0 disk 259,1000",
		"6 0600 0:0 fifo",
		"5 0755 0:0 " + long + "/",
		"0 0644 0:0 " + long + "/f",
		"3 0620 0:0 tty 4,65",
	}
	first := layer(t, fsys)
	if got := list(t, first); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !bytes.Equal(first, layer(t, fsys)) {
		t.Error("the same branch, another layer")
	}
}

func TestWriteLayerErrors(t *testing.T) {
	fsys := filesystem(t, "mkdir d; head -c 3000000 /dev/zero >d/big")
	for name, row := range map[string]struct {
		fsys container.Filesystem
		w    io.Writer
		want string
	}{
		"no branch":     {container.Filesystem{RWPath: "/no/such/rw"}, io.Discard, "/no/such/rw"},
		"unknown union": {container.Filesystem{RWPath: fsys.RWPath, Union: "x"}, io.Discard, `unknown union "x"`},
		"full disk":     {*fsys, full{}, "/d/big: no space left"},
	} {
		t.Run(name, func(t *testing.T) {
			err := container.WriteLayer(t.Context(), &row.fsys, row.w)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want %q in it", err, row.want)
			}
		})
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, unix.ENOSPC }

// The end of the context ends the writing, in the middle of a file too.
func TestWriteLayerCancelled(t *testing.T) {
	fsys := filesystem(t, "truncate -s 1T big")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { cancel(errors.New("enough")) })
	err := container.WriteLayer(ctx, fsys, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("error %v", err)
	}
}

// A container that runs changes its branch while it is read, and nothing it does
// leads out of it.
func TestWriteLayerWhileRunning(t *testing.T) {
	outside := t.TempDir()
	shell(t, outside, "echo secret >f; mkdir sub; echo secret >sub/f")
	fsys := filesystem(t, "mkdir -p d/sub; touch d/f d/sub/f")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for d := filepath.Join(fsys.RWPath, "d"); ; {
			select {
			case <-stop:
				return
			default:
			}
			_ = os.RemoveAll(d)
			_ = os.Symlink(outside, d)
			_ = os.Remove(d)
			_ = os.MkdirAll(d+"/sub", 0o755)
			_ = os.WriteFile(d+"/f", []byte("own"), 0o644)
			_ = os.Remove(d + "/f")
			_ = os.Symlink(outside+"/f", d+"/f")
			_ = os.WriteFile(d+"/sub/f", []byte("own"), 0o644)
			_ = os.Remove(d + "/f")
			_ = unix.Mkfifo(d+"/f", 0o600)
		}
	})
	for range 300 {
		var b bytes.Buffer
		err := container.WriteLayer(t.Context(), fsys, &b)
		if err != nil && !strings.Contains(err.Error(), "shrank") {
			t.Errorf("WriteLayer: %v", err)
			break
		}
		if bytes.Contains(b.Bytes(), []byte("secret")) {
			t.Error("the layer holds a file from outside")
			break
		}
		if _, err := container.Changes(fsys); err != nil {
			t.Errorf("Changes: %v", err)
			break
		}
	}
	close(stop)
	wg.Wait()
}

func TestXattrs(t *testing.T) {
	needRoot(t)
	fsys := filesystem(t, "touch f")
	path := fsys.RWPath + "/f"
	set := map[string]string{"user.a": "1", "trusted.b": "\x00\xff", "user.empty": "",
		"user.long": strings.Repeat("x", 3000), "user.a=b%3D": "odd"}
	for name, value := range set {
		if err := unix.Setxattr(path, name, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"trusted.overlay.origin", "trusted.overlay.opaque"} {
		if err := unix.Setxattr(path, name, []byte("y"), 0); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := container.Xattrs(f)
	if err != nil || !maps.Equal(got, set) {
		t.Errorf("%v, %v; want %v", got, err, set)
	}
	if _, err := container.Xattrs(os.NewFile(1<<20, "closed")); err == nil {
		t.Error("no error for a file that isn't open")
	}

	r := tar.NewReader(bytes.NewReader(layer(t, fsys)))
	for {
		hdr, err := r.Next()
		if err != nil {
			t.Fatal("no entry f: ", err)
		}
		if hdr.Name == "f" {
			if got := hdr.PAXRecords["SCHILY.xattr.user.a%3Db%253D"]; got != "odd" {
				t.Errorf("records %q", hdr.PAXRecords)
			}
			return
		}
	}
}

// WriteTree knows no marks, and stays on its mount.
// What isn't a name in the directory would lead out of it.
func TestWriteEntryStaysInside(t *testing.T) {
	outside := t.TempDir()
	if err := os.Mkdir(filepath.Join(outside, "in"), 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(filepath.Join(outside, "in"))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for _, entry := range []string{"/", "..", "../in", "/etc"} {
		var b bytes.Buffer
		if err := container.WriteEntry(t.Context(), dir, entry, "x", &b); !errors.Is(err, os.ErrInvalid) || b.Len() > 0 {
			t.Errorf("%q: %v, and %d bytes", entry, err, b.Len())
		}
	}
	var b bytes.Buffer
	if err := container.WriteEntry(t.Context(), dir, ".", "x", &b); err != nil || len(list(t, b.Bytes())) != 1 {
		t.Errorf("itself: %v, %q", err, list(t, b.Bytes()))
	}
}

func TestWriteTree(t *testing.T) {
	needRoot(t)
	dir := filesystem(t, "mkdir -p etc proc; touch etc/.wh.x .wh..wh..opq file; mkdir other; touch other/below").RWPath
	if err := unix.Mount("tmpfs", dir+"/other", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir+"/other", 0) })
	// On the same device, but another mount.
	for _, name := range []string{"proc", "file"} {
		if err := unix.Mount(dir+"/etc"+map[string]string{"file": "/.wh.x"}[name], dir+"/"+name, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir+"/"+name, 0) })
	}
	if err := os.WriteFile(dir+"/other/above", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := container.WriteTree(t.Context(), dir, &b); err != nil {
		t.Fatal(err)
	}
	want := []string{"5 0755 0:0 ./", "0 0644 0:0 .wh..wh..opq", "5 0755 0:0 etc/",
		"0 0644 0:0 etc/.wh.x", "5 1777 0:0 other/", "5 0755 0:0 proc/"}
	if got := list(t, b.Bytes()); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if err := container.WriteTree(t.Context(), dir+"/nowhere", &b); err == nil {
		t.Error("no error for a directory that isn't there")
	}
}
