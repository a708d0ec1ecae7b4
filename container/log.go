package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// A container's output streams are in the files stdout and stderr of its folder,
// appended to by the runtime while it runs. Every reader has its own place in
// them; a slow one holds up nobody: the container doesn't wait for clients.

// logReader is one who reads a log. It has the file open, so it can go on reading
// when the container has been removed.
type logReader struct {
	f       *os.File
	watcher *watcher
}

// openLog opens a log, which needn't have been written to yet.
func openLog(path string, w *watcher) (*logReader, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return &logReader{f: f, watcher: w}, nil
}

// close ends it: nothing was written, so nothing can be lost.
func (r *logReader) close() { _ = r.f.Close() }

// length is how much there is now.
func (r *logReader) length() (int64, error) {
	fi, err := r.f.Stat()
	if err != nil {
		return 0, fmt.Errorf("read log: %w", err)
	}
	return fi.Size(), nil
}

// Most containers say little; who says much is read in larger pieces.
const smallRead, largeRead = 4 << 10, 64 << 10

// copyTo writes the log to w from the byte offset on, until its end when over is
// closed.
func (r *logReader) copyTo(ctx context.Context, w io.Writer, offset int64, over <-chan struct{}) error {
	var grown <-chan struct{}
	buf := make([]byte, smallRead)
	for {
		// Asked first: what was written before the end is then seen.
		last := isClosed(over)
		n, err := r.copySome(ctx, w, offset, buf)
		offset += n
		if n > smallRead && len(buf) == smallRead {
			buf = make([]byte, largeRead)
		}
		switch {
		case err != nil:
			return err
		case last:
			return nil
		case n > 0:
			continue
		case grown == nil:
			var stop func()
			if grown, stop, err = r.watcher.watch(r.f); err != nil {
				return err
			}
			defer stop()
			continue // it may have grown before we watched
		}
		select {
		case <-grown:
		case <-over:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// copySome writes what there is from offset on.
func (r *logReader) copySome(ctx context.Context, w io.Writer, offset int64, buf []byte) (written int64, err error) {
	for {
		n, rerr := r.f.ReadAt(buf, offset+written)
		if n > 0 {
			m, werr := w.Write(buf[:n])
			written += int64(m)
			if werr != nil {
				return written, werr
			}
		}
		switch {
		case errors.Is(rerr, io.EOF):
			return written, nil
		case rerr != nil:
			return written, fmt.Errorf("read log: %w", rerr)
		case ctx.Err() != nil:
			return written, context.Cause(ctx)
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
