package shim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"docker2013/native/launch"
)

// pipeSize is asked of the kernel for the output pipes: what the container can
// write while we write to the disk. It is the most that an unprivileged pipe may
// have (/proc/sys/fs/pipe-max-size, pipe(7)).
const pipeSize = 1 << 20

// streams are the container's standard streams.
type streams struct {
	child []int // the container's ends, in the order in which programs expect them

	input *os.File
	out   []*output

	sync  [2]int // with a terminal: we read, and write, when it is there
	pumps sync.WaitGroup
}

// output is one stream and its log.
type output struct {
	name string
	from *os.File
	log  *os.File
	lost error
}

// openStreams makes the pipes. The child's ends are stdin, stdout and stderr;
// with a terminal, the child opens that itself, and the two ends are for being
// told (see package native, terminal).
func openStreams(o StartOrder) (s *streams, err error) {
	s = &streams{}
	pipe := func() (r, w int, err error) {
		var p [2]int
		err = unix.Pipe2(p[:], unix.O_CLOEXEC)
		return p[0], p[1], err
	}
	if o.Terminal {
		offered, offer, err := pipe()
		if err != nil {
			return nil, fmt.Errorf("open a terminal: %w", err)
		}
		taken, take, err := pipe()
		if err != nil {
			return nil, fmt.Errorf("open a terminal: %w", err)
		}
		s.sync, s.child = [2]int{offered, take}, []int{offer, taken}
		return s, s.open(o.Dir, "stdout", nil)
	}
	own := func(int) error { return nil }
	if o.IDs != nil { // it may want to open /dev/stdout again (proc_pid_fd(5))
		own = func(fd int) error { return unix.Fchown(fd, int(o.IDs.User), int(o.IDs.Group)) }
	}
	stdin, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if o.Stdin {
		_ = unix.Close(stdin)
		var w int
		if stdin, w, err = pipe(); err == nil {
			s.input = os.NewFile(uintptr(w), "stdin")
			err = own(stdin)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open stdin: %w", err)
	}
	s.child = []int{stdin}
	for _, name := range []string{"stdout", "stderr"} {
		r, w, err := pipe()
		if err == nil {
			err = errors.Join(unix.SetNonblock(r, true), own(w))
		}
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", name, err)
		}
		// More room is better, less is enough: the limit may be the system's.
		_, _ = unix.FcntlInt(uintptr(r), unix.F_SETPIPE_SZ, pipeSize)
		s.child = append(s.child, w)
		if err := s.open(o.Dir, name, os.NewFile(uintptr(r), name)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// open opens the log of a stream.
func (s *streams) open(dir, name string, from *os.File) error {
	// Not O_APPEND: splice(2) refuses that. We are the only one who writes.
	log, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	if _, err := log.Seek(0, 2); err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	s.out = append(s.out, &output{name: name, from: from, log: log})
	return nil
}

func (s *streams) closeChild() {
	CloseAll(s.child)
	s.child = nil
}

// takeTerminal takes the master side that the child offers (pidfd_getfd(2)). If
// the child fails before, it offers nothing.
func (s *streams) takeTerminal(pidfd int, o StartOrder) {
	if !o.Terminal {
		return
	}
	defer CloseAll(s.sync[:])
	var b [1]byte
	if n, err := unix.Read(s.sync[0], b[:]); n != 1 || err != nil {
		return
	}
	fd, err := unix.PidfdGetfd(pidfd, launch.MasterFD, 0)
	if err != nil {
		return // it waits, and ends, when we close the pipe: it has no terminal then
	}
	s.ownTerminal(fd, o)
	_, _ = unix.Write(s.sync[1], b[:])
}

// ownTerminal makes a terminal's master side the input and the output.
func (s *streams) ownTerminal(fd int, o StartOrder) {
	if o.Rows != 0 {
		_ = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: o.Rows, Col: o.Cols})
	}
	_ = unix.SetNonblock(fd, true)
	s.input = os.NewFile(uintptr(fd), "terminal")
	s.out[0].from = s.input
}

// pump begins to copy the output to the logs.
func (s *streams) pump() {
	for _, o := range s.out {
		if o.from != nil {
			s.pumps.Go(func() { o.copy(o.from == s.input) })
		}
	}
}

// copy moves a stream to its log until its end. A full disk loses output, but
// doesn't hold up the container.
func (o *output) copy(terminal bool) {
	raw, err := o.from.SyscallConn()
	if err != nil {
		o.lost = err
		return
	}
	move := o.splice
	if terminal {
		move = o.readWrite
	}
	err = raw.Read(func(fd uintptr) bool { return move(int(fd)) })
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = raw.Control(func(fd uintptr) { move(int(fd)) }) // what is there is all there will be
	}
}

// splice moves all that the pipe has, page by page and without a copy of ours
// (splice(2)). It reports false when there may come more.
func (o *output) splice(fd int) (done bool) {
	for {
		n, err := unix.Splice(fd, nil, int(o.log.Fd()), nil, pipeSize, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		switch {
		case err == unix.EAGAIN:
			return false
		case err == unix.EINTR:
		case err != nil: // the disk
			o.lost = err
			return o.discard(fd)
		case n == 0:
			return true
		}
	}
}

// readWrite is splice for a terminal, which has no pages.
func (o *output) readWrite(fd int) (done bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case err == unix.EAGAIN:
			return false
		case err == unix.EINTR:
			continue
		case err != nil || n == 0: // EIO: the last one has closed it
			return true
		}
		if _, err := o.log.Write(buf[:n]); err != nil {
			o.lost = err
			return o.discard(fd)
		}
	}
}

// discard empties the stream.
func (o *output) discard(fd int) (done bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case err == unix.EAGAIN:
			return false
		case err == unix.EINTR:
		case err != nil || n == 0:
			return true
		}
	}
}

// finish returns when the last byte of output is in the logs. No process of the
// container is left, but for one that was given the host's PID namespace: what is
// in the pipes now is all there will be.
func (s *streams) finish() (lost string) {
	for _, o := range s.out {
		if o.from != nil {
			_ = o.from.SetReadDeadline(time.Unix(1, 0))
		}
	}
	s.pumps.Wait()
	for _, o := range s.out {
		if o.from != nil && o.from != s.input {
			_ = o.from.Close() // the reading end
		}
		if err := errors.Join(o.lost, o.log.Close()); err != nil {
			lost = fmt.Sprintf("%s: %v", o.name, err)
		}
	}
	return lost
}
