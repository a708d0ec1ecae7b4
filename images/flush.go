package images

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// flushEvery is how often a flusher writes back: often enough that little is
// left at the end, and seldom enough that the file system's journal, which
// every commit stops, isn't what the unpacking waits for.
const flushEvery = 300 * time.Millisecond

// flusher writes a layer to the disk while it is being unpacked, with syncfs(2)
// over and over: one call for thousands of files. It also writes what other
// programs have in the same file system, and waits for that.
type flusher struct {
	dir  *os.File // one for all calls: each reports the failures since it was opened
	stop chan struct{}
	errs chan error
}

// newFlusher starts flushing the file system of dir. The caller ends it with
// finish, or abandon.
func newFlusher(dir string) (*flusher, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	fl := &flusher{dir: f, stop: make(chan struct{}), errs: make(chan error, 1)}
	go func() {
		tick := time.NewTicker(flushEvery)
		defer tick.Stop()
		var err error
		for {
			select {
			case <-tick.C:
				err = errors.Join(err, unix.Syncfs(int(f.Fd())))
			case <-fl.stop:
				fl.errs <- err
				return
			}
		}
	}()
	return fl, nil
}

// finish returns when all that was written before the call is on the disk.
func (f *flusher) finish() error {
	close(f.stop)
	err := errors.Join(<-f.errs, unix.Syncfs(int(f.dir.Fd())), f.dir.Close())
	if err != nil {
		return fmt.Errorf("syncfs: %w", err)
	}
	return nil
}

// abandon ends a flusher of files that nobody wants any more.
func (f *flusher) abandon() error {
	close(f.stop)
	<-f.errs
	return f.dir.Close()
}
