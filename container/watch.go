package container

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// watcher tells readers that a file has grown, whoever writes it: this daemon,
// or a shim. It is one inotify instance for all of them (inotify(7)).
type watcher struct {
	f   *os.File
	log *slog.Logger

	mu   sync.Mutex
	subs map[int32]map[chan struct{}]bool // by watch descriptor
}

func newWatcher(log *slog.Logger) (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if errors.Is(err, unix.EMFILE) {
		err = fmt.Errorf("%w: raise it, ulimit -n or sysctl fs.inotify.max_user_instances", err)
	}
	if err != nil {
		return nil, fmt.Errorf("watch logs: %w", err)
	}
	w := &watcher{f: os.NewFile(uintptr(fd), "inotify"), log: log, subs: map[int32]map[chan struct{}]bool{}}
	go w.read()
	return w, nil
}

func (w *watcher) close() error { return w.f.Close() }

// watch returns a channel that gets something after f has been written to.
// stop ends that.
func (w *watcher) watch(f *os.File) (grown <-chan struct{}, stop func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var wd int
	err = control(w.f, func(fd int) error {
		// The name may be gone already, the file is not.
		wd, err = unix.InotifyAddWatch(fd, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.IN_MODIFY)
		return err
	})
	if errors.Is(err, unix.ENOSPC) { // no disk's
		return nil, nil, errors.New("watch log: this host watches as many files as it may: raise it, sysctl fs.inotify.max_user_watches")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("watch log: %w", err)
	}
	c := make(chan struct{}, 1)
	subs := w.subs[int32(wd)]
	if subs == nil {
		subs = map[chan struct{}]bool{}
		w.subs[int32(wd)] = subs
	}
	subs[c] = true
	return c, func() { w.unwatch(int32(wd), c) }, nil
}

func (w *watcher) unwatch(wd int32, c chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.subs[wd], c)
	if len(w.subs[wd]) > 0 {
		return
	}
	delete(w.subs, wd)
	_ = control(w.f, func(fd int) error {
		_, err := unix.InotifyRmWatch(fd, uint32(wd)) // gone with a file that was removed
		return err
	})
}

// read hands out the kernel's events until close.
func (w *watcher) read() {
	buf := make([]byte, 16<<10)
	for {
		n, err := w.f.Read(buf)
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				w.log.Error("logs are not followed any more", "err", err)
			}
			return
		}
		w.mu.Lock()
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			wd := int32(binary.NativeEndian.Uint32(b))
			size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
			if wd < 0 { // the queue was full: some event was lost, so tell all
				for _, subs := range w.subs {
					tell(subs)
				}
			} else {
				tell(w.subs[wd])
			}
			b = b[size:]
		}
		w.mu.Unlock()
	}
}

func tell(subs map[chan struct{}]bool) {
	for c := range subs {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// control calls f with the descriptor of file.
func control(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) { err = f(int(fd)) })
	return errors.Join(err, cerr)
}
