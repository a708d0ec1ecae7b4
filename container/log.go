package container

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
)

// logFile is one output stream of a container: a file that grows while the
// container runs, and its readers, who wait for it to grow.
//
// Every reader has its own place in the file. A slow one holds up nobody: the
// container doesn't wait for clients.
type logFile struct {
	path string

	mu    sync.Mutex
	size  int64         // how far readers may read
	live  bool          // somebody writes
	grown chan struct{} // closed and replaced when size or live changes
}

func newLogFile(path string) *logFile {
	l := &logFile{path: path, grown: make(chan struct{})}
	if fi, err := os.Stat(path); err == nil {
		l.size = fi.Size()
	}
	return l
}

// changed tells the readers; l.mu is held.
func (l *logFile) changed() {
	close(l.grown)
	l.grown = make(chan struct{})
}

// open makes the log live and returns where the new run's output will begin.
func (l *logFile) open() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.live = true
	l.changed()
	return l.size
}

// end tells the readers that nothing more will come.
func (l *logFile) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.live = false
	l.changed()
}

// copyFrom appends r to the file until r ends. The log must be open; it is
// ended afterwards, whatever happens.
func (l *logFile) copyFrom(r io.Reader) (err error) {
	defer l.end()
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		// The container must not block on a pipe that nobody empties.
		_, _ = io.Copy(io.Discard, r)
		return fmt.Errorf("open log: %w", err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("close log: %w", cerr)
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, rerr := r.Read(buf)
		if n > 0 {
			written, werr := f.Write(buf[:n])
			if werr != nil && err == nil {
				// A full disk loses output, but not the container: go on reading.
				err = fmt.Errorf("write log: %w", werr)
			}
			l.mu.Lock()
			l.size += int64(written)
			l.changed()
			l.mu.Unlock()
		}
		if rerr != nil {
			return err // end of file, or a terminal that was hung up
		}
	}
}

// logReader is one who reads a log. It has the file open, so it can go on reading
// when the container has been removed.
type logReader struct {
	log *logFile
	f   *os.File
}

// reader opens the log, which needn't have been written to yet.
func (l *logFile) reader() (*logReader, error) {
	f, err := os.OpenFile(l.path, os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return &logReader{log: l, f: f}, nil
}

// close ends it: nothing was written, so nothing can be lost.
func (r *logReader) close() { _ = r.f.Close() }

// copyTo writes the log to w from the byte offset on. With follow it goes on
// until the run ends, else it stops at what is there now.
func (r *logReader) copyTo(ctx context.Context, w io.Writer, offset int64, follow bool) error {
	l := r.log
	for {
		l.mu.Lock()
		size, live, grown := l.size, l.live, l.grown
		l.mu.Unlock()
		if size > offset {
			n, err := io.Copy(w, io.NewSectionReader(r.f, offset, size-offset))
			offset += n
			if err != nil {
				return err
			}
			continue
		}
		if !follow || !live {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// length is how much there is now.
func (l *logFile) length() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}
