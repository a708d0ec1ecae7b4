package overlay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/go-archive"
	"golang.org/x/sys/unix"

	"docker2013/container"
	"docker2013/overlay"
	"docker2013/trace"
)

// base is a small image with one of each kind of file.
const base = `
mkdir -p etc/skel usr/lib tmp dir/sub
chmod 1777 tmp; chmod 2750 dir; chown 7:8 dir
echo 127.0.0.1 localhost >etc/hosts; echo base >etc/hostname
echo rc >etc/skel/.rc; echo 1 >dir/a; echo 2 >dir/b; echo 3 >dir/sub/c
ln -s /etc/hosts link; ln -s nowhere dangling
echo x >one; ln one two; mkfifo fifo; mknod null c 1 3; mknod loop b 7 0
chmod 4755 one; touch -d 2013-01-29T12:00:00.123456789 etc/hosts etc
`

func TestMount(t *testing.T) {
	h := newHost(t)
	layer := h.layer(base)
	fsys := h.container(layer)
	h.mount(fsys)
	same(t, "the mount shows another tree than the layer", snapshot(t, layer), snapshot(t, fsys.RootFS))

	if err := h.union.Mount(t.Context(), fsys); !errors.Is(err, container.ErrMounted) {
		t.Errorf("mounted twice: %v", err)
	}
	if err := h.union.Reset(fsys); !errors.Is(err, container.ErrMounted) {
		t.Errorf("reset while mounted: %v", err)
	}
	if mounted, err := h.union.Mounted(fsys); err != nil || !mounted {
		t.Errorf("Mounted: %v, %v", mounted, err)
	}
	h.unmount(fsys)
	if mounted, err := h.union.Mounted(fsys); err != nil || mounted {
		t.Errorf("Mounted after Unmount: %v, %v", mounted, err)
	}
	if err := h.union.Unmount(t.Context(), fsys); !errors.Is(err, container.ErrNotMounted) {
		t.Errorf("unmounted twice: %v", err)
	}
	left, err := os.ReadDir(filepath.Dir(fsys.RootFS))
	ok(t, err)
	if len(left) != 1 || left[0].Name() != "rw" {
		t.Errorf("left after Unmount: %v, want rw only", left)
	}
}

func TestMountErrors(t *testing.T) {
	h := newHost(t)
	layer := h.layer(base)
	deep := make([]string, 501)
	for i := range deep {
		deep[i] = h.layer("")
	}
	for name, row := range map[string]struct {
		layers []string
		want   string
	}{
		"no layer":        {nil, "no layer"},
		"missing layer":   {[]string{layer, h.dir + "/layers/gone"}, "layers/gone: no such file"},
		"layer is a file": {[]string{layer + "/etc/hosts"}, "not a directory"},
		"too many layers": {deep, "501 layers are too many"},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := h.container(row.layers...)
			err := h.union.Mount(t.Context(), fsys)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Fatalf("error %v, want %q in it", err, row.want)
			}
			for _, dir := range []string{fsys.RootFS, filepath.Join(filepath.Dir(fsys.RootFS), "work")} {
				if _, err := os.Lstat(dir); err == nil {
					t.Errorf("%s was left", dir)
				}
			}
		})
	}
}

// What a container deletes stays deleted in the image made from it, and in a
// container three images further down.
func TestDeletionThreeDeep(t *testing.T) {
	h := newHost(t)
	layers := []string{h.layer(base)}
	for i, script := range []string{
		"rm etc/hosts; rm -r dir; echo one >new1",
		"echo two >new2; rm null",
		"echo three >new3",
		"rm new1",
	} {
		fsys := h.container(layers...)
		h.run(fsys, script)
		layers = h.commit(fsys)
		got := h.seen(layers...)
		has(t, got, false, "/etc/hosts", "/dir", "/dir/a", "/.wh.dir", "/etc/.wh.hosts")
		has(t, got, true, "/etc/hostname", "/one")
		has(t, got, i < 1, "/null")
		has(t, got, i < 3, "/new1")
	}
}

func TestCommit(t *testing.T) {
	for name, row := range map[string]struct{ script, diff string }{
		"nothing":             {"", ""},
		"a deletion":          {"rm etc/hosts", "C /etc\nD /etc/hosts"},
		"the other famous":    {"rm etc/hostname", "C /etc\nD /etc/hostname"},
		"a deleted directory": {"rm -r dir", "D /dir"},
		"an addition":         {"mkdir new; echo >new/file", "A /new\nA /new/file"},
		"a change in place": {"echo more >>etc/hosts",
			"C /etc/hosts"}, // etc is as it was and left out
		"file to directory":    {"rm etc/hosts; mkdir etc/hosts; echo >etc/hosts/x", "C /etc\nC /etc/hosts\nA /etc/hosts/x"},
		"directory to file":    {"rm -r dir; echo >dir", "C /dir"},
		"directory to symlink": {"rm -r dir; ln -s /etc dir", "C /dir"},
		"symlink to directory": {"rm link; mkdir link; echo >link/hosts", "C /link\nA /link/hosts"},
		"opaque, some made again": {"rm -r dir; mkdir -p dir/sub; echo new >dir/a; echo >dir/n",
			"C /dir\nC /dir/a\nD /dir/b\nA /dir/n\nC /dir/sub\nD /dir/sub/c"},
		"opaque, empty": {"rm -r dir; mkdir dir", "C /dir\nD /dir/a\nD /dir/b\nD /dir/sub"},
		// rename(2) says EXDEV, and mv copies.
		"mv of a directory": {"mv dir moved", "D /dir\nA /moved\nA /moved/a\nA /moved/b\nA /moved/sub\nA /moved/sub/c"},
		"deleted, made again": {"rm etc/hosts; echo again >etc/hosts",
			"C /etc\nC /etc/hosts"},
		"hard links": {"ln one three; echo >f; ln f g", "A /f\nA /g\nC /one\nA /three"},
		"attributes": {"chmod 700 etc/skel; chown 5:6 fifo; touch -d 2001-01-01 usr",
			"C /etc/skel\nC /fifo\nC /usr"},
		"odd names": {"mkdir $'new\\nline'; echo >$'new\\nline/\\xff'; echo >'a b'; echo >-r; rm -- link",
			"A /-r\nA /a b\nD /link\nA /new\nline\nA /new\nline/\xff"},
		"long name":   {"cd tmp; echo >$(printf %0255d 0); ln -s $(printf %04000d 0) long", ""},
		"big owner":   {"chown 4000000000:4000000001 one", ""},
		"devices":     {"mknod d c 249 300; mknod e b 8 1; rm null; mknod null p", "A /d\nA /e\nC /null"},
		"sparse file": {"truncate -s 1M hole; echo >>hole", "A /hole"},
		"root itself": {"chmod 711 .; touch -d 2000-01-01 .", ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			image := []string{h.layer(base)}
			fsys := h.container(image...)
			h.mount(fsys)
			sh(t, fsys.RootFS, row.script)
			before := snapshot(t, fsys.RootFS)
			if got := h.diff(fsys); got != row.diff && row.diff != "" {
				t.Errorf("diff while mounted:\n%s\nwant\n%s", got, row.diff)
			}
			h.unmount(fsys)
			if name == "nothing" && h.diff(fsys) != "" {
				t.Errorf("diff: %s, want nothing", h.diff(fsys))
			}
			same(t, "the image's tree isn't the container's", before, h.seen(h.commit(fsys)...))
		})
	}
}

// A path that a layer has and a higher one deletes isn't the image's.
func TestChangesAgainstImage(t *testing.T) {
	h := newHost(t)
	image := []string{
		h.layer("touch .wh.file .wh.dir; mkdir opq; touch opq/.wh..wh..opq opq/own"),
		h.layer("touch file; mkdir -p dir/in opq/sub; touch opq/a opq/sub/b"),
	}
	fsys := h.container(image...)
	h.run(fsys, "touch file; mkdir -p dir/in; touch opq/a; mkdir opq/sub; echo >opq/own")
	want := "A /dir\nA /dir/in\nA /file\nC /opq\nA /opq/a\nC /opq/own\nA /opq/sub"
	if got := h.diff(fsys); got != want {
		t.Errorf("diff:\n%s\nwant\n%s", got, want)
	}
}

// Extended attributes that belong to the file are the layer's too.
func TestCommitXattrs(t *testing.T) {
	h := newHost(t)
	fsys := h.container(h.layer(base))
	h.mount(fsys)
	// CAP_NET_RAW, as setcap(8) writes it; an ACL that lets user 7 read.
	capability := "\x01\x00\x00\x02\x00\x20\x00\x00" + strings.Repeat("\x00", 12)
	acl := "\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\x07\x00\x00\x00" +
		"\x04\x00\x04\x00\xff\xff\xff\xff" + "\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"
	for _, x := range []struct{ path, name, value string }{
		{"one", "security.capability", capability},
		{"dir", "user.note", "of a directory"},
		{"etc/hosts", "user.binary", "\x00\x01\xff\n="},
		{"etc/hosts", "user.empty", ""},
		{"etc/hosts", "user.key=%41", "odd"},
		{"etc/hostname", "system.posix_acl_access", acl},
		{"dangling", "trusted.onlink", "v"},
		{"null", "trusted.ondevice", "v"},
	} {
		ok(t, unix.Lsetxattr(filepath.Join(fsys.RootFS, x.path), x.name, []byte(x.value), 0))
	}
	before := snapshot(t, fsys.RootFS)
	h.unmount(fsys)
	layers := h.commit(fsys)
	same(t, "the image's tree isn't the container's", before, h.seen(layers...))

	// And in a layer with marks, whose directories are made again.
	fsys = h.container(layers...)
	h.run(fsys, "rm dir/a")
	layers = h.commit(fsys)
	if got := h.seen(layers...)["/dir"]; !strings.Contains(got, "user.note") {
		t.Errorf("the twin's directory has lost its attribute: %s", got)
	}
}

// go-archive is the other tool that layers are unpacked with.
func TestGoArchiveUnpacks(t *testing.T) {
	h := newHost(t)
	fsys := h.container(h.layer(base))
	h.mount(fsys)
	sh(t, fsys.RootFS, "rm -r etc; mkdir etc; echo >etc/new; ln etc/new etc/link; rm null; chown 9:9 one; mkfifo p")
	before := snapshot(t, fsys.RootFS)
	h.unmount(fsys)
	var layer bytes.Buffer
	ok(t, h.union.WriteLayer(t.Context(), fsys, &layer))
	dir := h.layer("")
	ok(t, archive.Untar(&layer, dir, &archive.TarOptions{}))
	delete(before, "/") // go-archive leaves it as it is
	after := h.seen(append([]string{dir}, fsys.Layers...)...)
	delete(after, "/")
	same(t, "the image's tree isn't the container's", before, after)
}

// A name that means a deletion in a layer is refused, not turned into one.
func TestReservedNames(t *testing.T) {
	h := newHost(t)
	for name, row := range map[string]struct {
		script string
		want   error
	}{
		"mark-like file":       {"touch etc/.wh.hosts", container.ErrReservedName},
		"long name is deleted": {"rm " + strings.Repeat("x", 252), container.ErrNameTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := h.container(h.layer(base + "touch " + strings.Repeat("x", 252)))
			h.run(fsys, row.script)
			if err := h.union.WriteLayer(t.Context(), fsys, &bytes.Buffer{}); !errors.Is(err, row.want) {
				t.Errorf("WriteLayer: %v, want %v", err, row.want)
			}
		})
	}
}

// Without a change in between two commits are one layer, twice in the stack.
func TestSameLayerTwice(t *testing.T) {
	h := newHost(t)
	bottom := h.layer(base)
	twice := h.layer("touch .wh.one; mkdir etc; echo mine >etc/hosts")
	between := h.layer("echo back >one; mkdir etc; touch etc/.wh.hosts")
	same(t, "the lower one makes a difference",
		h.seen(twice, between, bottom), h.seen(twice, between, twice, bottom))
}

func TestOddPaths(t *testing.T) {
	for _, odd := range []string{"a:b", "a,b", "a b", `a\b`, `a\:b\,c`, "a=b", "tab\there", "new\nline",
		"ünï", "-o", "lowerdir=x", strings.Repeat("long", 60) + "/" + strings.Repeat("long", 60)} {
		for _, deep := range []bool{false, true} {
			t.Run(fmt.Sprintf("%.20q deep=%v", odd, deep), func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), odd)
				ok(t, os.MkdirAll(dir, 0o755))
				h := newHostIn(t, dir)
				layers := []string{h.layer("touch .wh.gone keep"), h.layer("touch gone below")}
				for range 90 {
					if deep { // so that one page can't hold the options
						layers = append(layers, h.layer(""))
					}
				}
				fsys := h.container(layers...)
				h.run(fsys, "test -e keep -a -e below -a ! -e gone; touch new")
				if got := h.diff(fsys); got != "A /new" {
					t.Errorf("diff: %q", got)
				}
			})
		}
	}
}

func TestHundredLayers(t *testing.T) {
	h := newHost(t)
	layers := []string{h.layer("mkdir d")}
	for i := range 99 {
		script := fmt.Sprintf("mkdir d; echo %d >d/last; touch d/f%d", i, i)
		if i%10 == 9 {
			script += fmt.Sprintf("; touch d/.wh.f%d", i-1)
		}
		layers = append([]string{h.layer(script)}, layers...)
	}
	got := h.seen(layers...)
	has(t, got, true, "/d/f98", "/d/f0", "/d/f7")
	has(t, got, false, "/d/f8", "/d/f88")
	if len(got) != 1+1+1+99-9 {
		t.Errorf("%d paths", len(got))
	}
}

// An unmount is retried while the mount is in use.
func TestUnmountBusy(t *testing.T) {
	h := newHost(t)
	fsys := h.container(h.layer(base))
	h.mount(fsys)
	f, err := os.Open(filepath.Join(fsys.RootFS, "etc/hosts"))
	ok(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = h.union.Unmount(ctx, fsys)
	if !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), fsys.RootFS) {
		t.Errorf("busy: %v, want EBUSY that names %s", err, fsys.RootFS)
	}
	if mounted, err := h.union.Mounted(fsys); err != nil || !mounted {
		t.Errorf("after the failure: mounted %v, %v", mounted, err)
	}
	time.AfterFunc(50*time.Millisecond, func() { f.Close() })
	h.unmount(fsys)
}

// While the kernel still holds the branch of the last mount a new one waits.
func TestMountAgainAndAgain(t *testing.T) {
	h := newHost(t)
	fsys := h.container(h.layer(base))
	for i := range 20 {
		h.run(fsys, fmt.Sprintf("echo >tmp/%d; test $(ls tmp | wc -l) = %d", i, i+1))
	}
}

func TestReset(t *testing.T) {
	h := newHost(t)
	fsys := h.container(h.layer(base + "chmod 751 .; chown 3:4 ."))
	fresh := h.seen(fsys.Layers...)
	h.run(fsys, "rm -r etc; echo >new; chmod 700 .")
	ok(t, h.union.Reset(fsys))
	if got := h.diff(fsys); got != "" {
		t.Errorf("diff after Reset: %s", got)
	}
	h.mount(fsys)
	same(t, "after Reset", fresh, snapshot(t, fsys.RootFS))
	h.unmount(fsys)
}

func TestNoBranchYet(t *testing.T) {
	h := newHost(t)
	fsys := h.container(h.layer(base))
	if got := h.diff(fsys); got != "" {
		t.Errorf("diff without rw/: %s", got)
	}
	ok(t, h.union.Reset(fsys))
}

func TestTrace(t *testing.T) {
	h := newHost(t)
	var r trace.Recorder
	sub := r.Subscribe(0, 10)
	defer sub.Close()
	ctx := trace.WithRecorder(t.Context(), &r, 1)
	fsys := h.container(h.layer(base))
	h.mount(fsys)
	h.unmount(fsys)
	ok(t, h.union.Mount(ctx, fsys))
	ok(t, h.union.Unmount(ctx, fsys))
	for _, step := range []string{"union.mount", "union.umount"} {
		e := <-sub.C
		if e.Step != step || e.Values["rootfs"] != fsys.RootFS || e.Values["rw"] != fsys.RWPath ||
			e.Values["layers"] != 1 || e.Values["union"] != overlay.Name {
			t.Errorf("event %+v", e)
		}
		if data, _ := e.Values["data"].(string); step == "union.mount" &&
			!strings.HasPrefix(data, "lowerdir="+fsys.Layers[0]+",upperdir=") {
			t.Errorf("data %q", data)
		}
	}
}
