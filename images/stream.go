package images

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	chunkSize = 256 << 10 // one step of the pump
	chunks    = 4         // how far the pump may run ahead
	// maxWindow bounds the memory that a compressed stream may ask for: the
	// most that `zstd -19 --long` and `xz -9` need.
	maxWindow = 128 << 20
)

// stream is a tar stream on its way from a client to the disk. A goroutine, the
// pump, reads, decompresses and hashes it while the caller of Read unpacks
// what came before: hashing costs a core a quarter of the time that unpacking
// costs another.
type stream struct {
	ctx      context.Context
	stop     context.CancelCauseFunc
	progress func(bytes int64) // or nil

	full, free chan []byte
	chunk      []byte // what Read has taken from full
	rest       []byte // the part of chunk not yet read

	consumed int64        // bytes given out by Read
	failed   error        // what Read ended with, if not io.EOF
	received atomic.Int64 // bytes read from the client, compressed

	hash hash.Hash
	err  error // why full was closed; io.EOF is the proper end
}

// newStream starts the pump. The caller ends it with stop; r can still be in a
// blocked Read then, which is the business of whoever owns r. A tar stream of
// more than max bytes fails with ErrTooBig.
func newStream(ctx context.Context, r io.Reader, max int64, progress func(int64)) *stream {
	s := &stream{
		progress: progress,
		full:     make(chan []byte, chunks),
		free:     make(chan []byte, chunks),
		hash:     sha256.New(),
	}
	s.ctx, s.stop = context.WithCancelCause(ctx)
	for range chunks {
		s.free <- make([]byte, chunkSize)
	}
	go func() {
		s.err = s.pump(r, max)
		close(s.full)
	}()
	return s
}

// Read gives the tar stream, decompressed.
func (s *stream) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		if s.chunk != nil {
			s.free <- s.chunk[:chunkSize] // has room for all there are
			s.chunk = nil
		}
		select {
		case chunk, ok := <-s.full:
			if !ok {
				return 0, s.end(s.err)
			}
			s.chunk, s.rest = chunk, chunk
		case <-s.ctx.Done():
			return 0, s.end(context.Cause(s.ctx))
		}
		if s.progress != nil {
			s.progress(s.received.Load())
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	s.consumed += int64(n)
	return n, nil
}

// end notes why Read ends: archive/tar passes on errors, but not all of them
// unchanged.
func (s *stream) end(err error) error {
	if err != io.EOF {
		s.failed = err
	}
	return err
}

// id is the layer's id. To be called after Read has returned io.EOF.
func (s *stream) id() LayerID {
	return LayerID(shortHash(s.hash.Sum(nil)))
}

// pump fills chunk after chunk. It returns io.EOF at the end of the stream.
func (s *stream) pump(r io.Reader, max int64) error {
	tarball, err := decompress(s.ctx, &counter{r, &s.received})
	if err != nil {
		return err
	}
	defer tarball.Close()
	for {
		var chunk []byte
		select {
		case chunk = <-s.free:
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
		n, err := fill(chunk, tarball)
		if max -= int64(n); max < 0 {
			return fmt.Errorf("%w: the tar stream is too long", ErrTooBig)
		}
		s.hash.Write(chunk[:n])
		if n > 0 {
			s.full <- chunk[:n] // has room for all there are
		}
		if err == io.EOF {
			return io.EOF
		}
		if err != nil {
			return err
		}
	}
}

// fill reads until the chunk is full or r fails: one step of the pump costs the
// same however small a network's or a decompressor's pieces are.
func fill(chunk []byte, r io.Reader) (n int, err error) {
	for n < len(chunk) && err == nil {
		var m int
		m, err = r.Read(chunk[n:])
		n += m
	}
	return n, err
}

// decompress recognises gzip, zstd and xz by their first bytes; anything else
// is passed on as it is.
func decompress(ctx context.Context, r io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	head, err := in.Peek(6)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		return gzip.NewReader(in)
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		d, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return newXZ(ctx, in)
	}
	return io.NopCloser(in), nil
}

// counter counts what is read through it.
type counter struct {
	io.Reader
	n *atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}
