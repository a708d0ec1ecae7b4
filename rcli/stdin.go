package rcli

import (
	"bytes"
	"io"
	"os"
	"sync"
)

// stdinRoom is how much unread stdin a framed call keeps, so that the frames
// behind it are seen.
const stdinRoom = 1 << 20

// stdinBuffer is the standard input of a framed call: a pipe with room in it.
type stdinBuffer struct {
	mu      sync.Mutex
	changed sync.Cond // data, err or closed is another
	data    bytes.Buffer
	err     error // what a reader gets after the data: io.EOF, or why there is no more
	closed  bool  // the reader wants no more
}

func newStdinBuffer() *stdinBuffer {
	b := &stdinBuffer{}
	b.changed.L = &b.mu
	return b
}

// put appends p, waiting for room first. Once nobody reads any more it throws
// p away.
func (b *stdinBuffer) put(p []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.data.Len()+len(p) > stdinRoom && !b.closed && b.err == nil {
		b.changed.Wait()
	}
	if !b.closed && b.err == nil {
		b.data.Write(p)
		b.changed.Broadcast()
	}
}

// end makes err follow the data: io.EOF at stdin's end. The first end counts.
func (b *stdinBuffer) end(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
		b.changed.Broadcast()
	}
}

// Read waits for data.
func (b *stdinBuffer) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.data.Len() == 0 && b.err == nil && !b.closed {
		b.changed.Wait()
	}
	switch {
	case b.closed:
		return 0, os.ErrClosed
	case b.data.Len() > 0:
		n, _ := b.data.Read(p) // fails only when empty
		b.changed.Broadcast()
		return n, nil
	default:
		return 0, b.err
	}
}

// Close throws away what is there and what comes.
func (b *stdinBuffer) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.data = bytes.Buffer{}
	b.changed.Broadcast()
	return nil
}

var _ io.ReadCloser = (*stdinBuffer)(nil)
