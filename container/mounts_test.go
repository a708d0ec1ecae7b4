package container

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A name from outside, and links from inside, never lead out of the root.
func TestOpenFileStaysInside(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(outside, "root")
	for _, dir := range []string{"etc", "a/b"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "etc/hosts"), []byte("inside"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"absolute":     "/etc/hosts",
		"up":           "../../../../../etc/hosts",
		"a/b/relative": "../../etc/hosts",
		"out":          outside + "/secret",
		"up-out":       "../secret",
		"loop":         "loop",
		"dir":          "/a/b",
	} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"/etc/hosts": "inside", "etc/hosts": "inside", "//etc/./hosts": "inside",
		"/absolute": "inside", "/up": "inside", "/a/b/relative": "inside", "/dir/relative": "inside",
		"/../secret": "", "../secret": "", "/out": "", "/up-out": "", "/loop": "", "/etc/hosts/x": "", "/nosuch": "",
	} {
		f, err := OpenFile(root, name, os.O_RDONLY, 0)
		if want == "" {
			if err == nil {
				t.Errorf("%s could be opened", name)
			} else if strings.Contains(err.Error(), root) {
				t.Errorf("%s: the error tells the host's path: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if data, err := io.ReadAll(f); err != nil || string(data) != want {
			t.Errorf("%s holds %q, %v; want %q", name, data, err, want)
		}
		f.Close()
	}
	t.Run("create", func(t *testing.T) {
		for name, want := range map[string]string{
			"/new": "new", "/dir/new2": "a/b/new2", "/../new3": "new3", "/etc/hosts": "etc/hosts",
		} {
			f, err := OpenFile(root, name, os.O_WRONLY|os.O_CREATE, 0o600)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			f.Close()
			if _, err := os.Lstat(filepath.Join(root, want)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := OpenFile(root, "/nosuch/file", os.O_WRONLY|os.O_CREATE, 0o600); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a file in a folder that isn't there: %v", err)
		}
		for _, name := range []string{"/up-out", "/out"} { // dangling inside: nothing outside is made
			if f, err := OpenFile(root, name, os.O_WRONLY|os.O_CREATE, 0o600); err == nil {
				f.Close()
				if data, _ := os.ReadFile(filepath.Join(outside, "secret")); string(data) != "secret" {
					t.Errorf("%s led out", name)
				}
			}
		}
	})
}
