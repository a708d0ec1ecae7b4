package durable

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestWriteFileReplacesContentAndMode(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), "index.json")
	for _, want := range []struct {
		data string
		mode fs.FileMode
	}{{"one", 0o644}, {"", 0o600}, {"three", 0o755}} {
		if err := WriteFile(path, []byte(want.data), want.mode); err != nil {
			t.Fatal(err)
		}
		expect(t, path, want.data, want.mode)
	}
}

func TestReplaceIsVisibleBeforeItIsDurable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	if err := Replace(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, path, "new", 0o600)
	if err := Flush(path); err != nil {
		t.Fatal(err)
	}
	if err := Flush(path, path+"-not-there"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Flush of a file that isn't there: %v", err)
	}
}

// A folder in the place of the file can't be replaced: both must fail and
// leave nothing.
func TestFailureLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "index.json")
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, []byte("x"), 0o600); err == nil {
		t.Error("WriteFile replaced a folder")
	}
	if err := Replace(path, []byte("x"), 0o600); err == nil {
		t.Error("Replace replaced a folder")
	}
	if err := WriteFile(filepath.Join(dir, "no", "such"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("WriteFile below no folder: %v", err)
	}
	names(t, dir, "index.json")
}

func TestSweepTakesOnlyOurStrays(t *testing.T) {
	dir := t.TempDir()
	f, err := write(filepath.Join(dir, "index.json"), []byte("half"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !isTemp(filepath.Base(f.Name())) {
		t.Errorf("isTemp(%s) = false", f.Name())
	}
	for _, keep := range []string{"index.json", ".hidden", "a.new-b"} {
		if err := os.WriteFile(filepath.Join(dir, keep), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	names(t, dir, ".hidden", "a.new-b", "index.json")
}

// TestKill kills a writer in the middle, again and again: a reader always
// finds one whole content.
func TestKill(t *testing.T) {
	if path := os.Getenv("DURABLE_TEST_WRITE"); path != "" {
		for i := 0; ; i++ {
			if err := WriteFile(path, []byte(strings.Repeat(strconv.Itoa(i%10), 100_000)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for range 5 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), "DURABLE_TEST_WRITE="+path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			if _, err := os.Stat(path); err == nil {
				break
			} else if time.Now().After(deadline) {
				t.Fatal("the writer never wrote")
			}
		}
		time.Sleep(20 * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the writer ended by itself")
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) != 100_000 || strings.Count(string(data), string(data[0])) != len(data) {
			t.Fatalf("torn file of %d bytes", len(data))
		}
		if err := Sweep(dir); err != nil {
			t.Fatal(err)
		}
		names(t, dir, "file")
	}
}

func expect(t *testing.T, path, data string, mode fs.FileMode) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != data || fi.Mode() != mode {
		t.Errorf("%s: %q, %v; want %q, %v", path, got, fi.Mode(), data, mode)
	}
	names(t, filepath.Dir(path), filepath.Base(path))
}

func names(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s holds %q, want %q", dir, got, want)
	}
}
