package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Readers that come before, while and after something is written all see the
// same bytes, and end when the run does.
func TestLogReaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stdout")
	w := newTestWatcher(t)
	over := make(chan struct{})
	var wg sync.WaitGroup
	outs := make([]bytes.Buffer, 20)
	follow := func(out *bytes.Buffer) {
		r := readerOf(t, path, w)
		wg.Go(func() {
			if err := r.copyTo(context.Background(), out, 0, over); err != nil {
				t.Error(err)
			}
		})
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var want bytes.Buffer
	for i := range outs {
		follow(&outs[i])
		line := fmt.Sprintf("line %d\n", i)
		want.WriteString(line)
		if _, err := io.WriteString(f, line); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond) // some readers wait by now, some don't
	}
	close(over)
	wg.Wait()
	var late bytes.Buffer
	if err := readerOf(t, path, w).copyTo(context.Background(), &late, 0, over); err != nil {
		t.Fatal(err)
	}
	for i, out := range append(outs, late) {
		if out.String() != want.String() {
			t.Errorf("reader %d saw %q", i, out.String())
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.subs) != 0 {
		t.Errorf("%d watches are left", len(w.subs))
	}
}

// One that waits is woken by a write: it doesn't have to see the end.
func TestLogReaderIsWoken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stdout")
	r := readerOf(t, path, newTestWatcher(t))
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(r.copyTo(t.Context(), pw, 0, make(chan struct{}))) }()
	for i := range 3 {
		time.Sleep(5 * time.Millisecond)
		line := fmt.Sprintf("line %d\n", i)
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.WriteString(f, line)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(line))
		if _, err := io.ReadFull(pr, got); err != nil || string(got) != line {
			t.Errorf("read %q, %v; want %q", got, err, line)
		}
	}
}

func TestLogReaderThatGivesUp(t *testing.T) {
	r := readerOf(t, filepath.Join(t.TempDir(), "stdout"), newTestWatcher(t))
	gone := errors.New("the client has gone")
	ctx, cancel := context.WithCancelCause(context.Background())
	time.AfterFunc(10*time.Millisecond, func() { cancel(gone) })
	if err := r.copyTo(ctx, io.Discard, 0, make(chan struct{})); !errors.Is(err, gone) {
		t.Errorf("%v, want %v", err, gone)
	}
}

func newTestWatcher(t *testing.T) *watcher {
	t.Helper()
	w, err := newWatcher(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func readerOf(t *testing.T, path string, w *watcher) *logReader {
	t.Helper()
	r, err := openLog(path, w)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r
}

// A log that can't be opened, for lack of files or whatever else, is an error.
func TestOutputsThatCantBeOpened(t *testing.T) {
	c := &Container{dir: t.TempDir(), store: &Store{}}
	if err := os.Mkdir(filepath.Join(c.dir, "stderr"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := c.outputs(); !errors.Is(err, syscall.EISDIR) || out != nil {
		t.Errorf("outputs %v, %v; want %v", out, err, syscall.EISDIR)
	}
}
