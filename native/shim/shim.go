// Package shim is the small process that stands between a daemon and a container.
//
// It is the parent of the container's first process: it starts it, holds its
// terminal and pipes, appends what it writes to its logs, and knows how it ended.
// The daemon may come and go; the shim stays until the container has ended, and
// then a moment longer to say so.
//
//	daemon                                shim                        container
//	  ── Start: program, files ────────────▶
//	                                        ── clone3, the program ──▶
//	  ◀──────── Started: pidfd, input ──────
//	  ── bytes, by the descriptor itself ───────────────────────────────▶ stdin
//	                                        ◀──────────── stdout, stderr ──
//	                                        ──▶ DIR/stdout, DIR/stderr
//	                                        ◀──────────────── its status ──
//	                                        ──▶ DIR/exit.json
//	  ◀──────────────────── Exited ─────────
//	                                        ── its mounts are taken down ──
//	  ◀────────────────────── Gone ─────────
//
// A shim is started idle, before it is needed, with one end of a socket pair. When
// it has a container, it listens on the socket that came with the order: a later
// daemon connects there and is told what the first one was (Started). When its
// container has ended it is idle again, and can have the next one. An idle one
// ends with its daemon.
package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"docker2013/native/launch"
)

// Socket is the descriptor that a shim finds its daemon's end on.
const Socket = 3

// Names of the files in a container's folder.
const (
	ListenFile = "shim.sock"
	ExitFile   = "exit.json"
)

// Main is the shim's life.
func Main() {
	runtime.GOMAXPROCS(1) // a thousand of us may run
	conn, err := NewConn(Socket)
	if err != nil {
		os.Exit(2)
	}
	s := &shim{conns: map[*Conn]bool{conn: true}, rest: time.AfterFunc(idle, debug.FreeOSMemory)}
	go s.serve(conn)
	select {}
}

type shim struct {
	mu    sync.Mutex
	conns map[*Conn]bool // the daemons that listen: one, in general

	started  bool // it has a container, and what follows is valid
	order    StartOrder
	pid      int
	pidfd    *os.File
	mounts   int      // holds its mount namespace, -1: it can't be held
	exit     *os.File // where its end will be written down
	listener *Conn
	input    *os.File // the writing end of its stdin, or its terminal; nil: none
	execs    sync.WaitGroup
	rest     *time.Timer // gives memory back when nothing has been asked for a while
}

// idle is how long a shim keeps the memory of what it did last.
const idle = time.Second

// serve obeys one daemon until it is gone.
func (s *shim) serve(conn *Conn) {
	for {
		m, err := conn.Receive()
		if err != nil {
			break
		}
		s.rest.Reset(idle)
		switch m.Kind {
		case Start:
			s.start(conn, m)
		case Exec:
			s.execs.Go(func() { s.exec(conn, m) })
		case CloseStdin:
			s.closeInput()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
	_ = conn.Close()
	s.endIfUseless()
}

// endIfUseless ends a shim without a container and without a daemon; s.mu is held.
func (s *shim) endIfUseless() {
	if !s.started && len(s.conns) == 0 {
		os.Exit(0)
	}
}

// start makes the shim a container's.
func (s *shim) start(conn *Conn, m Message) {
	streams, err := s.launch(m)
	if err != nil {
		_ = conn.Send(Failed, failedNote(0, err), nil)
		os.Exit(1)
	}
	_ = s.tell(conn)   // if it has gone, the next one asks
	go s.wait(streams) // only now: Exited comes behind Started
}

// tell says what we have; the end is for this daemon too, from then on. One that
// comes after it finds it written down.
func (s *shim) tell(conn *Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		return errors.New("the container has ended")
	}
	files := []int{int(s.pidfd.Fd())}
	if s.input != nil {
		files = append(files, int(s.input.Fd()))
	}
	if err := conn.Send(Started, StartedNote{Pid: s.pid}, nil, files...); err != nil {
		return err
	}
	s.conns[conn] = true
	return nil
}

func (s *shim) launch(m Message) (*streams, error) {
	s.order, s.mounts = StartOrder{}, -1 // not the last container's
	if err := m.Read(&s.order); err != nil {
		return nil, err
	}
	if len(m.Files) == 0 {
		return nil, errors.New("an order without a socket")
	}
	listener, err := NewConn(m.Files[0])
	if err != nil {
		return nil, err
	}
	files := m.Files[1:]
	streams, err := openStreams(s.order)
	if err != nil {
		return nil, err
	}
	var pidfd int
	if s.order.Other != nil {
		if err := s.prepareEnd(); err != nil {
			return nil, err
		}
		s.pid, pidfd, err = s.order.Other.create(streams, s.order)
	} else {
		pidfd, err = s.run(m.Program, files, streams)
	}
	CloseAll(m.Files[1:])
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.started, s.pidfd, s.input, s.listener = true, Pidfd(pidfd), streams.input, listener
	s.mu.Unlock()
	streams.pump()
	go s.listen(listener)
	return streams, nil
}

// run makes the container by its program.
func (s *shim) run(code []byte, files []int, streams *streams) (pidfd int, err error) {
	program, err := launch.Decode(code)
	if err != nil {
		return -1, err
	}
	ids, err := NewIDMapper(s.order.IDs)
	if err != nil {
		return -1, err
	}
	files = append(append(files, streams.child...), ids.Files()...)
	s.pid, pidfd, err = program.Run(files, func(pid, pidfd int) error {
		streams.closeChild()
		if err := ids.Write(pid); err != nil {
			return err
		}
		streams.takeTerminal(pidfd, s.order)
		s.holdMounts(pid)
		return s.prepareEnd() // the child does its part meanwhile
	})
	return pidfd, err
}

// holdMounts keeps the container's mount namespace. A process that ends takes down
// what only it has mounted before anybody hears of its end; with one more reference
// its end is told first. Where it can't be had (without root) that takes longer.
func (s *shim) holdMounts(pid int) {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		s.mounts = fd
	}
}

// prepareEnd makes the file in which the end will be written down, and has room kept
// for it: the disk may be full by then.
func (s *shim) prepareEnd() (err error) {
	s.exit, err = os.OpenFile(filepath.Join(s.order.Dir, ExitFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil && unix.Fallocate(int(s.exit.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 4096) == unix.ENOSPC {
		err = &os.PathError{Op: "write", Path: s.exit.Name(), Err: unix.ENOSPC}
	}
	return err
}

// listen takes up the connections of later daemons.
func (s *shim) listen(l *Conn) {
	raw, err := l.f.SyscallConn()
	if err != nil {
		return
	}
	for {
		peer := -1
		err := raw.Read(func(fd uintptr) bool {
			var aerr error
			peer, _, aerr = unix.Accept4(int(fd), unix.SOCK_CLOEXEC)
			return aerr != unix.EAGAIN
		})
		if err != nil {
			return
		}
		if peer < 0 {
			continue
		}
		conn, err := NewConn(peer)
		if err != nil {
			continue
		}
		if s.tell(conn) != nil {
			_ = conn.Close()
			continue
		}
		go s.serve(conn)
	}
}

func (s *shim) closeInput() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.input != nil && !s.order.Terminal {
		_ = s.input.Close()
		s.input = nil
	}
}

// wait waits for the container's end, writes down and tells how it was, and then has
// the kernel take down what is left.
func (s *shim) wait(streams *streams) {
	AwaitEnd(s.pidfd)
	status := launch.Reap(s.pid)
	s.closeInput()
	lost := streams.finish()
	if s.order.Other != nil {
		if err := s.order.Other.delete(s.order.Dir); err != nil && lost == "" {
			lost = err.Error()
		}
		_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	}
	note := ExitNote{Status: status, At: time.Now(), Lost: lost}
	_ = writeExit(s.exit, note) // the daemon that listens hears it anyway
	execs := make(chan struct{})
	go func() { s.execs.Wait(); close(execs) }()
	select {
	case <-execs: // they ended with their PID namespace
	case <-time.After(time.Second): // or had the host's
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = false
	for conn := range s.conns {
		_ = conn.Send(Exited, note, nil)
	}
	if s.mounts >= 0 {
		_ = unix.Close(s.mounts)
	}
	_ = s.listener.Close()
	_ = s.pidfd.Close()
	if s.input != nil { // a terminal
		_ = s.input.Close()
		s.input = nil
	}
	for conn := range s.conns {
		_ = conn.Send(Gone, struct{}{}, nil)
	}
	s.endIfUseless()
}

// Pidfd makes a file of a pidfd, for AwaitEnd.
func Pidfd(fd int) *os.File {
	_ = unix.SetNonblock(fd, true) // else AwaitEnd returns at once, and wait4(2) waits
	return os.NewFile(uintptr(fd), "pidfd")
}

// AwaitEnd returns when a process has ended. It is the poller who waits, of which there
// is one: wait4(2) holds a thread for each.
func AwaitEnd(pidfd *os.File) {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool { // readable when it has ended (pidfd_open(2))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n != 0 && err != unix.EINTR
	})
}

// writeExit completes the file, for a daemon that wasn't there.
func writeExit(f *os.File, note ExitNote) error {
	data, err := json.Marshal(note)
	if err == nil {
		_, err = f.Write(data)
	}
	return errors.Join(err, f.Close())
}

// ReadExit reads how a container ended. fs.ErrNotExist: nobody has written it
// down.
func ReadExit(dir string) (ExitNote, error) {
	var note ExitNote
	data, err := os.ReadFile(filepath.Join(dir, ExitFile))
	if err != nil {
		return note, err
	}
	if len(data) == 0 { // it had begun, and its shim was killed
		return note, os.ErrNotExist
	}
	if err := json.Unmarshal(data, &note); err != nil {
		return note, fmt.Errorf("read %s: %w", ExitFile, err)
	}
	return note, nil
}

// exec starts a further process and says how it ends.
func (s *shim) exec(conn *Conn, m Message) {
	var order ExecOrder
	if err := m.Read(&order); err != nil {
		CloseAll(m.Files)
		return
	}
	program, err := launch.Decode(m.Program)
	pid, pidfd := 0, -1
	if err == nil {
		pid, pidfd, err = program.Run(m.Files, nil)
	}
	CloseAll(m.Files)
	if err != nil {
		_ = conn.Send(ExecFailed, failedNote(order.ID, err), nil)
		return
	}
	_ = conn.Send(ExecStart, ExecNote{ID: order.ID, Pid: pid}, nil, pidfd)
	_ = unix.Close(pidfd)
	_ = conn.Send(ExecExited, ExecNote{ID: order.ID, Status: launch.Reap(pid)}, nil)
}

func failedNote(id uint64, err error) FailedNote {
	if f, ok := errors.AsType[*launch.Failure](err); ok {
		return FailedNote{ID: id, Call: f.Call, Errno: f.Errno}
	}
	return FailedNote{ID: id, Call: err.Error()}
}
