package evidence

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func touch(t *testing.T, path string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, nil, 0o644))
}

func TestTree(t *testing.T) {
	dir := t.TempDir()
	if got := Tree(dir).Text; got != "(empty)\n" {
		t.Errorf("empty folder: %q", got)
	}
	touch(t, dir+"/b/file")
	touch(t, dir+"/b/.wh.gone")
	touch(t, dir+"/b/.wh..wh..opq")
	touch(t, dir+"/.wh..wh.plnk")
	touch(t, dir+"/a\x1b[31m\n")
	must(t, os.Symlink("/etc/passwd", dir+"/link"))
	must(t, os.Symlink("/etc", dir+"/out")) // a folder elsewhere: not entered
	must(t, unix.Mkfifo(dir+"/pipe", 0o600))
	want := strings.Join([]string{
		`.wh..wh.plnk  AUFS's own`,
		`a\x1b[31m\x0a`,
		`b/`,
		`  .wh..wh..opq  AUFS: this folder is opaque`,
		`  .wh.gone  AUFS whiteout: gone deleted`,
		`  file`,
		`link -> /etc/passwd`,
		`out -> /etc`,
		`pipe  named pipe`,
		``,
	}, "\n")
	if got := Tree(dir).Text; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// What overlayfs itself leaves in its upperdir.
func TestTreeOfAnUpperdir(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	touch(t, dir+"/lower/etc/hosts")
	touch(t, dir+"/lower/opt/old")
	for _, d := range []string{"upper", "work", "merged"} {
		must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	merged := dir + "/merged"
	options := fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", dir, dir, dir)
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		t.Skipf("not on this host: overlayfs on %s: %v", dir, err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(merged, 0)) })
	must(t, os.Remove(merged+"/etc/hosts"))
	must(t, os.RemoveAll(merged+"/opt"))
	touch(t, merged+"/opt/new")
	must(t, unix.Mknod(merged+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	want := strings.Join([]string{
		`etc/`,
		`  hosts  whiteout: deleted`,
		`null  character device 1:3`,
		`opt/  opaque: hides what the layers have here`,
		`  new`,
		``,
	}, "\n")
	if got := Tree(dir + "/upper").Text; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := Tree(dir).Text; !strings.Contains(got, "merged/  another file system is mounted here\n") {
		t.Errorf("the mount was entered:\n%s", got)
	}
}

func TestTreeIsBounded(t *testing.T) {
	wide := t.TempDir()
	for n := range treeLines + 7 {
		touch(t, fmt.Sprintf("%s/%03d", wide, n))
	}
	text := Tree(wide).Text
	if lines := strings.Count(text, "\n"); lines != treeLines+1 || !strings.HasSuffix(text, "\n… and 7 more\n") {
		t.Errorf("%d lines, the end: %q", lines, text[len(text)-20:])
	}

	huge := t.TempDir()
	for n := range treeLook + 1 {
		touch(t, fmt.Sprintf("%s/%d", huge, n))
	}
	text = Tree(huge).Text
	if want := fmt.Sprintf("… and more than %d more\n", treeLook-treeLines); !strings.HasSuffix(text, want) {
		t.Errorf("the end: %q, want %q", text[len(text)-40:], want)
	}

	deep := t.TempDir()
	touch(t, deep+strings.Repeat("/d", treeDepth+10)+"/leaf")
	start := time.Now()
	text = Tree(deep).Text
	if !strings.HasSuffix(text, "d/  …\n") || strings.Count(text, "\n") != treeDepth+1 {
		t.Errorf("depth isn't bounded:\n%s", text)
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("took %s", d)
	}
}

func TestTreeOfNothing(t *testing.T) {
	dir := t.TempDir()
	touch(t, dir+"/file")
	for name, want := range map[string]string{
		"missing": "not there any more",
		"file":    "can't be read: not a directory",
	} {
		if got := Tree(filepath.Join(dir, name)).Text; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
