package aufs_test

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write testdata/format.txtar anew")

// Each part of testdata/format.txtar is an operation, a script that runs in the
// root of the mounted union, and what it leaves in rw/, to the last file: the format on disk.
// Its first part makes the layers. AUFS's own three files, which are always in the
// branch's root, are listed in the first operation only.
func TestFormat(t *testing.T) {
	h := newHost(t)
	const file = "testdata/format.txtar"
	archive, err := txtar.ParseFile(file)
	ok(t, err)
	layers := h.layers(t, string(archive.Comment))
	for i := range archive.Files {
		part := &archive.Files[i]
		t.Run(strings.ReplaceAll(part.Name, " ", "-"), func(t *testing.T) {
			script, want, _ := strings.Cut(string(part.Data), "---\n")
			fsys := h.filesystem(fmt.Sprint("c", i), layers...)
			h.mount(t, "fuse", fsys)
			cmd := exec.Command("bash", "-euc", script)
			cmd.Dir = fsys.RootFS
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			h.unmount(t, "fuse", fsys)
			got := branch(t, fsys.RWPath, i == 0)
			if *update {
				part.Data = []byte(script + "---\n" + got)
			} else if got != want {
				t.Errorf("%swant in rw/:\n%sgot:\n%s", script, want, got)
			}
		})
	}
	if *update {
		ok(t, os.WriteFile(file, txtar.Format(archive), 0o644))
	}
}

// layers runs the script, which makes top/ and base/.
func (h *host) layers(t testing.TB, script string) []string {
	t.Helper()
	_, script, _ = strings.Cut(script, "\n\n") // before: a word to the reader
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir = h.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return []string{h.dir + "/top", h.dir + "/base"}
}

// branch lists a branch: mode, owner, names of the inode, size or target or first line.
func branch(t testing.TB, rw string, all bool) string {
	t.Helper()
	var b bytes.Buffer
	marks := uint64(0)
	err := filepath.WalkDir(rw, func(path string, d fs.DirEntry, err error) error {
		ok(t, err)
		name, _ := filepath.Rel(rw, path)
		var st unix.Stat_t
		ok(t, unix.Lstat(path, &st))
		own := name == ".wh..wh.aufs" || name == ".wh..wh.orph" || name == ".wh..wh.plnk"
		if name == ".wh..wh.aufs" {
			marks = st.Ino
		}
		if name == "." || own && !all {
			return nil
		}
		what := ""
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(path)
			ok(t, err)
			first, _, _ := strings.Cut(string(data), "\n")
			what = " " + first
			if st.Ino == marks {
				what = " (a name of .wh..wh.aufs)"
			} else if st.Nlink > 1 {
				what += fmt.Sprintf(" (%d names)", st.Nlink)
			}
		case unix.S_IFLNK:
			target, _ := os.Readlink(path)
			what = " -> " + target
		case unix.S_IFDIR:
			name += "/"
		case unix.S_IFCHR:
			what = fmt.Sprintf(" device %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		if own && !d.IsDir() {
			what = ""
		}
		fmt.Fprintf(&b, "%06o %d:%d %s%s\n", st.Mode, st.Uid, st.Gid, name, strings.TrimRight(what, " "))
		return nil
	})
	ok(t, err)
	return b.String()
}
