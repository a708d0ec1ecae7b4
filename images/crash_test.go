package images

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKill kills a process that imports and removes, at some moment, again and
// again. What it said was done is there, nothing else is but a whole layer that
// no image has yet.
func TestKill(t *testing.T) {
	needRoot(t)
	if root := os.Getenv("IMAGES_TEST_IMPORT"); root != "" {
		importForever(t, root)
	}
	root := filepath.Join(t.TempDir(), "images")
	done := 0
	for round := range 8 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), "IMAGES_TEST_IMPORT="+root, fmt.Sprint("IMAGES_TEST_FROM=", done))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said, err := killLater(cmd, bufio.NewReader(out), round)
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("the importer ended with %v: %s", err, said)
		}
		s := openStore(t, root)
		for line := range strings.Lines(string(said)) {
			if !strings.HasSuffix(line, "\n") {
				continue // killed as it spoke
			}
			if _, err := fmt.Sscanf(line, "image %d", &done); err != nil {
				t.Fatalf("the importer said %q", line)
			}
			done++
			if img := s.Find(fmt.Sprint("image", done-1)); img == nil {
				t.Errorf("round %d: image%d is lost", round, done-1)
			}
		}
		for _, img := range s.All() {
			checkKillLayer(t, img.Layers[0])
		}
		entries, err := os.ReadDir(s.layers)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), tmpPrefix) {
				t.Errorf("%s is left", e.Name())
			}
			checkKillLayer(t, filepath.Join(s.layers, e.Name()))
		}
		if extra := len(entries) - len(s.LayerPaths()); extra < 0 || extra > round+1 {
			t.Errorf("%d layers more than the images have", extra)
		}
	}
	if done < 7 {
		t.Errorf("%d images were imported, in 8 rounds", done)
	}
}

// killLater kills an importer at some moment, later from round to round, and returns
// what it has said. Only in the first round it may be before its first image: the
// others count from there, however slow the machine is.
func killLater(cmd *exec.Cmd, out *bufio.Reader, round int) (said []byte, err error) {
	if round > 0 {
		if said, err = out.ReadBytes('\n'); err != nil {
			return nil, errors.Join(err, cmd.Wait())
		}
	}
	time.AfterFunc(time.Duration(20+round*37)*time.Millisecond, func() { _ = cmd.Process.Kill() })
	rest, err := io.ReadAll(out)
	return append(said, rest...), err
}

// importForever imports one image after the other, says so, and removes those
// that it calls gone.
func importForever(t *testing.T, root string) {
	var from int
	fmt.Sscan(os.Getenv("IMAGES_TEST_FROM"), &from)
	s := openStore(t, root)
	for i := from; ; i++ {
		entries := []entry{file("first", rand.Text())}
		for n := range 200 {
			entries = append(entries, file(fmt.Sprintf("d%d/f%d", n%7, n), strings.Repeat("x", 5000)))
		}
		data := makeTar(t, append(entries, file("last", "end"))...)
		if _, err := s.Import(t.Context(), fmt.Sprint("image", i), bytes.NewReader(data), nil, nil); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("image %d\n", i)
		put(t, s, "gone", makeTar(t, append(entries, file("last", "gone"))...), nil)
		_, finish, err := s.Remove("gone", nil)
		if err == nil {
			err = finish()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// checkKillLayer finds layers that are not whole.
func checkKillLayer(t *testing.T, layer string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(layer, "d*", "f*"))
	if err != nil {
		t.Fatal(err)
	}
	if last, err := os.ReadFile(filepath.Join(layer, "last")); err != nil || len(last) == 0 || len(files) != 200 {
		t.Errorf("%s has %d files, last %q, %v", layer, len(files), last, err)
	}
}
