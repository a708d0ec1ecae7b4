package overlay

import (
	"context"
	"maps"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// When the last reference to an overlayfs goes, the kernel writes all that is
// dirty on the upperdir's whole file system to disk (ovl_sync_fs), the data of
// everybody else as well, and umount(2) waits for it: 0.3 s after somebody wrote
// 400 MB, seconds on a slow disk. A container's end needn't wait for that. So
// one more reference, a detached copy of the mount, is taken before the unmount
// and dropped in the background after it. (The option volatile would avoid the
// writing, but then fsync(2) in the container does nothing.)
//
// Until then overlayfs still holds the branch, so a mount of it waits.

// held is a reference to a mounted overlayfs; -1: there is none.
type held int

// hold takes a reference. Without open_tree(2) (before Linux 5.2) there is none,
// and unmounting takes its time.
func hold(rootfs string) held {
	fd, err := unix.OpenTree(unix.AT_FDCWD, rootfs,
		unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return -1
	}
	return held(fd)
}

// release drops it; the kernel writes to disk if it was the last.
func (h held) release() {
	if h >= 0 {
		_ = unix.Close(int(h)) // a failed write to disk isn't reported here
	}
}

// releaseDelay is how long references are kept to be dropped together: the first
// writes for all of them, the others find nothing to write.
const releaseDelay = 500 * time.Millisecond

// releases are the references to drop, by read-write branch.
type releases struct {
	mu      sync.Mutex
	pending map[string]*release
	timed   bool // releaseAll will run
}

type release struct {
	held held
	once sync.Once
}

func (r *release) drop() { r.once.Do(r.held.release) }

// start drops h in the background.
func (r *releases) start(rw string, h held) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending == nil {
		r.pending = map[string]*release{}
	}
	r.pending[rw] = &release{held: h}
	if !r.timed {
		r.timed = true
		time.AfterFunc(releaseDelay, r.releaseAll)
	}
}

// releaseAll drops all there are now, and returns when that is done.
func (r *releases) releaseAll() {
	r.mu.Lock()
	now := maps.Clone(r.pending)
	r.timed = false
	r.mu.Unlock()
	for rw, one := range now {
		r.finish(rw, one)
	}
}

// finish drops one and returns when it has been dropped, by whomever.
func (r *releases) finish(rw string, one *release) {
	one.drop()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending[rw] == one {
		delete(r.pending, rw)
	}
}

// wait drops the reference to rw, if there is one, and returns when that is done.
func (r *releases) wait(ctx context.Context, rw string) error {
	r.mu.Lock()
	one := r.pending[rw]
	r.mu.Unlock()
	if one == nil {
		return nil
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.finish(rw, one)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
