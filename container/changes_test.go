package container_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"docker2013/container"
)

func shell(t testing.TB, dir, script string) {
	t.Helper()
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("script: %v\n%s\n%s", err, script, out)
	}
}

// filesystem makes a branch and layers, top first, by a script each.
func filesystem(t testing.TB, rw string, layers ...string) *container.Filesystem {
	t.Helper()
	dir := t.TempDir()
	fsys := &container.Filesystem{RWPath: filepath.Join(dir, "rw")}
	for i, script := range append([]string{rw}, layers...) {
		path := fsys.RWPath
		if i > 0 {
			path = filepath.Join(dir, "layer"+string(rune('0'+i)))
			fsys.Layers = append(fsys.Layers, path)
		}
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		shell(t, path, script)
	}
	return fsys
}

func diff(t testing.TB, fsys *container.Filesystem) string {
	t.Helper()
	changes, err := container.Changes(fsys)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, c := range changes {
		lines = append(lines, c.String())
	}
	return strings.Join(lines, "\n")
}

// All times are set, for a directory of the same time is the same.
const at2013 = "; find . -exec touch -h -d 2013-01-29T12:00 {} +"

func TestChanges(t *testing.T) {
	const image = "mkdir -p etc/ssh var; touch etc/hosts etc/hostname etc/wh etc/ssh/key; ln -s /etc link" + at2013
	for name, row := range map[string]struct{ rw, want string }{
		"nothing":               {"", ""},
		"addition":              {"touch new", "A /new"},
		"the same directory":    {"mkdir etc; touch etc/new" + at2013, "A /etc/new"},
		"a directory's mode":    {"mkdir -m 700 etc" + at2013, "C /etc"},
		"a directory's time":    {"mkdir etc", "C /etc"},
		"a file":                {"mkdir etc; touch etc/hosts" + at2013, "C /etc/hosts"},
		"/etc/osts":             {"mkdir etc; touch etc/.wh.hosts" + at2013, "D /etc/hosts"},
		"/etc/ostname":          {"mkdir etc; touch etc/.wh.hostname" + at2013, "D /etc/hostname"},
		"cutset all the way":    {"mkdir etc; touch etc/.wh.wh" + at2013, "D /etc/wh"},
		"directory":             {"touch .wh.etc", "D /etc"},
		"AUFS's own":            {"touch .wh..wh.aufs; mkdir .wh..wh.plnk .wh..wh.orph; touch .wh..wh.plnk/1.2", ""},
		"opaque":                {"mkdir etc; touch etc/.wh..wh..opq etc/hosts" + at2013, "C /etc\nD /etc/hostname\nC /etc/hosts\nD /etc/ssh\nD /etc/wh"},
		"opaque, deeper":        {"mkdir -p etc/ssh; touch etc/.wh..wh..opq" + at2013, "C /etc\nD /etc/hostname\nD /etc/hosts\nD /etc/ssh/key\nD /etc/wh"},
		"opaque and a whiteout": {"mkdir etc; touch etc/.wh..wh..opq etc/.wh.hosts" + at2013, "C /etc\nD /etc/hostname\nD /etc/hosts\nD /etc/ssh\nD /etc/wh"},
		"opaque, new":           {"mkdir new; touch new/.wh..wh..opq", "A /new"},
		"opaque root":           {"touch .wh..wh..opq", ""},
		"mark beside its file":  {"mkdir etc; touch etc/.wh.hosts etc/hosts" + at2013, "C /etc/hosts"},
		"mark beside directory": {"mkdir -p etc/ssh; touch etc/.wh.ssh etc/ssh/new" + at2013, "C /etc/ssh\nD /etc/ssh/key\nA /etc/ssh/new"},
		"directory to file":     {"touch etc", "C /etc"},
		"file to directory":     {"mkdir -p etc/hosts/x" + at2013, "C /etc/hosts\nA /etc/hosts/x"},
		"to a symlink":          {"ln -s /usr etc", "C /etc"},
		"symlink to directory":  {"mkdir link; touch link/hosts", "C /link\nA /link/hosts"},
		"mark of no name":       {"touch .wh. .wh.. .wh...", ""},
		"bytewise order":        {"mkdir a; touch a/b a-b ab a.b", "A /a\nA /a-b\nA /a.b\nA /a/b\nA /ab"},
		"a newline":             {"touch $'a\\nD b'", "A /a\nD b"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := diff(t, filesystem(t, row.rw, image)); got != row.want {
				t.Errorf("got\n%s\nwant\n%s", got, row.want)
			}
		})
	}
}

// The branch is compared with what the layers show together.
func TestChangesThroughLayers(t *testing.T) {
	for name, row := range map[string]struct {
		rw     string
		layers []string
		want   string
	}{
		"deleted between, added again": {"touch f", []string{"touch .wh.f", "touch f"}, "A /f"},
		"deleted and back between":     {"touch f", []string{"touch f", "touch .wh.f", "touch f"}, "C /f"},
		"its directory deleted":        {"mkdir d; touch d/f", []string{"touch .wh.d", "mkdir d; touch d/f"}, "A /d\nA /d/f"},
		"its directory opaque": {"mkdir d; touch d/f" + at2013,
			[]string{"mkdir d; touch d/.wh..wh..opq" + at2013, "mkdir d; touch d/f"}, "A /d/f"},
		"its directory a file":     {"mkdir d; touch d/f", []string{"touch d", "mkdir d; touch d/f"}, "C /d\nA /d/f"},
		"a symlink on the way":     {"mkdir d; touch d/passwd", []string{"ln -s /etc d"}, "C /d\nA /d/passwd"},
		"in the lowest":            {"touch f", []string{"touch a", "touch b", "touch f"}, "C /f"},
		"opaque over two layers":   {"mkdir d; touch d/.wh..wh..opq", []string{"mkdir d; touch d/.wh.a d/c", "mkdir d; touch d/a d/b"}, "C /d\nD /d/b\nD /d/c"},
		"a mark in a layer for it": {"mkdir d; touch d/.wh..wh..opq d/a", []string{"mkdir d; touch d/.wh.a", "mkdir d; touch d/a"}, "C /d\nA /d/a"},
		"the topmost counts": {"mkdir d" + at2013,
			[]string{"mkdir -m 700 d" + at2013, "mkdir d" + at2013}, "C /d"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := diff(t, filesystem(t, row.rw, row.layers...)); got != row.want {
				t.Errorf("got\n%s\nwant\n%s", got, row.want)
			}
		})
	}
}

func TestChangesErrors(t *testing.T) {
	fsys := filesystem(t, "touch f", "touch f")
	fsys.Union = "unionfs"
	if _, err := container.Changes(fsys); err == nil || !strings.Contains(err.Error(), `"unionfs"`) {
		t.Errorf("unknown union: %v", err)
	}
	fsys.Union = ""
	fsys.Layers = append(fsys.Layers, "/no/such/layer")
	if _, err := container.Changes(fsys); err == nil || !strings.Contains(err.Error(), "/no/such/layer") {
		t.Errorf("missing layer: %v", err)
	}
	fsys.RWPath = "/no/such/rw"
	if changes, err := container.Changes(fsys); changes != nil || err != nil {
		t.Errorf("missing branch: %v, %v", changes, err)
	}
}

// What the branch itself says about its marks goes before what the record says.
func TestMarksOf(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: NOT ROOT: no whiteout can be made")
	}
	fsys := filesystem(t, "touch .wh.inaufs", "touch inaufs inoverlay")
	if err := unix.Mknod(fsys.RWPath+"/inoverlay", unix.S_IFCHR, 0); err != nil {
		t.Fatal(err)
	}
	check := func(want string) {
		t.Helper()
		if got := diff(t, fsys); got != want {
			t.Errorf("union %q: got\n%s\nwant\n%s", fsys.Union, got, want)
		}
	}
	check("D /inaufs\nC /inoverlay")
	fsys.Union = "overlay"
	check("A /.wh.inaufs\nD /inoverlay")
	for marks, want := range map[container.Marks]string{
		container.AUFSMarks:                          "D /inaufs\nC /inoverlay",
		container.OverlayMarks:                       "A /.wh.inaufs\nD /inoverlay",
		container.AUFSMarks | container.OverlayMarks: "D /inaufs\nD /inoverlay",
	} {
		if err := container.SetMarks(fsys.RWPath, marks); err != nil {
			t.Fatal(err)
		}
		check(want)
	}
	if err := container.SetMarks(fsys.RWPath, 0); err == nil {
		t.Error("no kind of marks was noted")
	}
}
