package native

import (
	"errors"
	"log/slog"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// nets makes network namespaces before they are needed: one takes the kernel three
// quarters of all the time in which clone3 makes a container's. Nobody has ever been
// in them, so they are as new as those that clone3 makes.
type nets struct {
	log    *slog.Logger
	ready  chan int // their descriptors
	wanted chan struct{}
	done   sync.WaitGroup
}

// newNets has none yet: a daemon without modern containers needs none.
func newNets(log *slog.Logger) *nets {
	n := &nets{log: log, ready: make(chan int, spares), wanted: make(chan struct{}, spares)}
	n.done.Go(n.fill)
	return n
}

// take gives out one, -1: clone3 has to make it.
func (n *nets) take() int {
	select {
	case fd := <-n.ready:
		return fd
	default:
		return -1
	}
}

// want has one more made, beside whatever else is done.
func (n *nets) want() {
	select {
	case n.wanted <- struct{}{}:
	default:
	}
}

func (n *nets) fill() {
	for range n.wanted {
		if len(n.ready) == spares {
			continue
		}
		fd, err := newNet()
		if err != nil {
			if fd >= 0 {
				_ = unix.Close(fd)
			}
			n.log.Error("make a network namespace", "err", err) // clone3 will, or says why not
			continue
		}
		n.ready <- fd // there is room: nobody else puts any in
	}
}

// newNet makes one on a thread of its own, which then goes back.
func newNet() (fd int, err error) {
	const name = "/proc/thread-self/ns/net"
	runtime.LockOSThread()
	ours, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return -1, err
	}
	defer unix.Close(ours)
	fd = -1
	if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
		fd, err = unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if back := unix.Setns(ours, unix.CLONE_NEWNET); back != nil {
		return fd, errors.Join(err, back) // locked: nobody else gets this thread
	}
	runtime.UnlockOSThread()
	return fd, err
}

// close gives the spare ones up.
func (n *nets) close() error {
	close(n.wanted)
	n.done.Wait()
	close(n.ready)
	var errs []error
	for fd := range n.ready {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}
