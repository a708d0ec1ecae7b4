package images

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// FuzzImport: whatever the stream, an import writes nothing outside its layer,
// and leaves nothing when it fails.
func FuzzImport(f *testing.F) {
	needRoot(f)
	for _, h := range hostiles() {
		f.Add(makeTar(f, h.entries...))
	}
	f.Add([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"))
	f.Add([]byte("\x28\xb5\x2f\xfd\x04\x00\x01\x00\x00"))
	memory := fuzzDir(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.HasPrefix(data, []byte("\xfd7zXZ\x00")) {
			return // another program's to fuzz
		}
		home, err := os.MkdirTemp(memory, "")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(home)
		beside := canary(t, home)
		s, err := Open(filepath.Join(home, "images"), Options{MaxLayerBytes: 1 << 20, MaxLayerEntries: 1000})
		if err != nil {
			t.Fatal(err)
		}
		before := tree(t, beside)
		img, err := s.Import(t.Context(), "x", bytes.NewReader(data), nil, nil)
		if after := tree(t, beside); after != before {
			t.Errorf("the folder beside changed from\n%sto\n%s", before, after)
		}
		if entries, err := os.ReadDir(home); err != nil || len(entries) != 2 {
			t.Errorf("beside the store: %v, %v", entries, err)
		}
		if err != nil {
			onlyLayers(t, s)
			return
		}
		onlyLayers(t, s, filepath.Base(img.Layers[0]))
	})
}

// fuzzDir is a folder in memory, if there is such a place: no disk to wait for.
// The fuzzing process makes it and tells its workers, as they are killed at the
// end and clean up nothing.
func fuzzDir(f *testing.F) string {
	const variable = "IMAGES_FUZZ_DIR"
	if dir := os.Getenv(variable); dir != "" {
		return dir
	}
	memory := ""
	if fi, err := os.Stat("/dev/shm"); err == nil && fi.IsDir() {
		memory = "/dev/shm"
	}
	dir, err := os.MkdirTemp(memory, "fuzz-import-")
	if err != nil {
		f.Fatal(err)
	}
	f.Setenv(variable, dir)
	f.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
