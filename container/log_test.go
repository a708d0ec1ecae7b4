package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Readers that come before, while and after something is written all see the
// same bytes, and end when the writer does.
func TestLogReaders(t *testing.T) {
	l := newLogFile(filepath.Join(t.TempDir(), "stdout"))
	l.open()
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() { written <- l.copyFrom(r) }()

	var wg sync.WaitGroup
	outs := make([]bytes.Buffer, 20)
	follow := func(out *bytes.Buffer) {
		wg.Go(func() {
			if err := readerOf(t, l).copyTo(context.Background(), out, 0, true); err != nil {
				t.Error(err)
			}
		})
	}
	var want bytes.Buffer
	for i := range outs {
		follow(&outs[i])
		line := fmt.Sprintf("line %d\n", i)
		want.WriteString(line)
		if _, err := io.WriteString(w, line); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	var late bytes.Buffer
	if err := readerOf(t, l).copyTo(context.Background(), &late, 0, true); err != nil {
		t.Fatal(err)
	}
	for i, out := range append(outs, late) {
		if out.String() != want.String() {
			t.Errorf("reader %d saw %q", i, out.String())
		}
	}
}

func TestLogGoesOnAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stdout")
	for _, text := range []string{"one\n", "two\n"} {
		l := newLogFile(path) // as a new daemon makes it
		from := l.open()
		if err := l.copyFrom(bytes.NewBufferString(text)); err != nil {
			t.Fatal(err)
		}
		var run bytes.Buffer
		if err := readerOf(t, l).copyTo(context.Background(), &run, from, true); err != nil || run.String() != text {
			t.Errorf("this run wrote %q, %v; want %q", run.String(), err, text)
		}
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "one\ntwo\n" {
		t.Errorf("the file has %q, %v", data, err)
	}
}

func TestLogReaderThatGivesUp(t *testing.T) {
	l := newLogFile(filepath.Join(t.TempDir(), "stdout"))
	l.open()
	defer l.end()
	gone := errors.New("the client has gone")
	ctx, cancel := context.WithCancelCause(context.Background())
	time.AfterFunc(10*time.Millisecond, func() { cancel(gone) })
	if err := readerOf(t, l).copyTo(ctx, io.Discard, 0, true); !errors.Is(err, gone) {
		t.Errorf("%v, want %v", err, gone)
	}
}

// A container whose log can't be written isn't held up.
func TestLogThatCannotBeWritten(t *testing.T) {
	l := newLogFile(filepath.Join(t.TempDir(), "no such folder", "stdout"))
	l.open()
	r := bytes.NewReader(make([]byte, 1<<20))
	if err := l.copyFrom(r); err == nil {
		t.Error("no error")
	}
	if r.Len() != 0 {
		t.Errorf("%d bytes were not taken", r.Len())
	}
}

func readerOf(t *testing.T, l *logFile) *logReader {
	t.Helper()
	r, err := l.reader()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r
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
