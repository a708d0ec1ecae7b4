package overlay

import (
	"context"
	"sync"

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

// releases are those under way, by read-write branch.
type releases struct {
	mu   sync.Mutex
	done map[string]chan struct{} // closed at the end
}

// start releases h in the background.
func (r *releases) start(rw string, h held) {
	done := make(chan struct{})
	r.mu.Lock()
	if r.done == nil {
		r.done = map[string]chan struct{}{}
	}
	r.done[rw] = done
	r.mu.Unlock()
	go func() {
		h.release()
		r.mu.Lock()
		delete(r.done, rw)
		r.mu.Unlock()
		close(done)
	}()
}

// wait waits for the release of rw, if one is under way.
func (r *releases) wait(ctx context.Context, rw string) error {
	r.mu.Lock()
	done := r.done[rw]
	r.mu.Unlock()
	if done == nil {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *releases) waitAll() {
	for {
		r.mu.Lock()
		var one chan struct{}
		for _, one = range r.done {
			break
		}
		r.mu.Unlock()
		if one == nil {
			return
		}
		<-one
	}
}
