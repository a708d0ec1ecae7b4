package lxc

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"docker2013/container"
)

func TestLogGoesOnAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stdout")
	for _, text := range []string{"one\n", "two\n"} {
		if err := appendTo(path, bytes.NewBufferString(text)); err != nil {
			t.Fatal(err)
		}
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "one\ntwo\n" {
		t.Errorf("the file has %q, %v", data, err)
	}
}

// A container whose log can't be written isn't held up.
func TestLogThatCannotBeWritten(t *testing.T) {
	r := bytes.NewReader(make([]byte, 1<<20))
	if err := appendTo(filepath.Join(t.TempDir(), "no such folder", "stdout"), r); err == nil {
		t.Error("no error")
	}
	if r.Len() != 0 {
		t.Errorf("%d bytes were not taken", r.Len())
	}
}

func TestUndoONLCR(t *testing.T) {
	for in, want := range map[string]string{
		"a\r\r\nb\r\r\n": "a\r\nb\r\n",
		"a\r\nb":         "a\nb", // a program that wants its \n raw
		"10%\r20%\r":     "10%\r20%\r",
		"\r\r\r\r\n":     "\r\r\r\n",
		"\n\n":           "\n\n",
		"":               "",
	} {
		for size := range 3 { // however the bytes arrive
			r := io.Reader(bytes.NewBufferString(in))
			if size > 0 {
				r = &pieces{r, size}
			}
			got, err := io.ReadAll(&undoONLCR{r: r})
			if err != nil || string(got) != want {
				t.Errorf("%q in pieces of %d became %q, %v; want %q", in, size, got, err, want)
			}
		}
	}
}

// pieces reads at most n bytes at a time.
type pieces struct {
	r io.Reader
	n int
}

func (p *pieces) Read(b []byte) (int, error) { return p.r.Read(b[:min(p.n, len(b))]) }

// Streams that can't all be made leave neither files open nor pipes.
func TestHalfTheStreams(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "stderr.pipe/in the way"), 0o755); err != nil {
		t.Fatal(err)
	}
	open := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	before := open()
	r := &container.Record{Root: dir, Config: container.Config{OpenStdin: true}}
	if _, _, err := openStdio(r, container.Window{}, slog.New(slog.DiscardHandler)); err == nil {
		t.Fatal("no error")
	}
	if after := open(); after != before {
		t.Errorf("%d files are open, before there were %d", after, before)
	}
	if _, err := os.Lstat(filepath.Join(dir, "stdout.pipe")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a pipe is left: %v", err)
	}
}
