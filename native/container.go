package native

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"docker2013/cgroups"
	"docker2013/container"
	"docker2013/native/launch"
	"docker2013/native/shim"
)

// process is a running container as its shim tells of it.
type process struct {
	rt     *Runtime
	record *container.Record
	group  *cgroups.Group
	conn   *shim.Conn
	pid    int

	ended chan struct{} // closed when exit is set
	exit  container.Exit
	gone  chan struct{} // closed when the shim has nothing of it any more

	mu    sync.Mutex
	pidfd int      // of the first process, -1: it has ended
	input *os.File // its stdin or its terminal, nil: none
	execs map[uint64]*execution
}

// attach hears from a shim what it has, and listens from then on.
func (rt *Runtime) attach(r *container.Record, group *cgroups.Group, conn *shim.Conn) (*process, error) {
	var note shim.StartedNote
	m, err := conn.Receive()
	for err == nil && isExec(m.Kind) { // of the shim's last container: the order came when that had just ended
		shim.CloseAll(m.Files)
		m, err = conn.Receive()
	}
	if err != nil {
		err = fmt.Errorf("its shim has ended, as it must where processes or memory run out: %w", err)
	} else {
		note, err = started(m)
	}
	if err != nil {
		shim.CloseAll(m.Files)
		return nil, errors.Join(fmt.Errorf("container %s: %w", r.Id, err), conn.Close())
	}
	p := &process{rt: rt, record: r, group: group, conn: conn, pid: note.Pid, pidfd: m.Files[0],
		ended: make(chan struct{}), gone: make(chan struct{}), execs: map[uint64]*execution{}}
	if len(m.Files) > 1 {
		_ = unix.SetNonblock(m.Files[1], true)
		p.input = os.NewFile(uintptr(m.Files[1]), "input")
	}
	go p.listen()
	return p, nil
}

// isExec reports whether a message is about a further process.
func isExec(k shim.Kind) bool {
	return k == shim.ExecStart || k == shim.ExecFailed || k == shim.ExecExited
}

// started reads what a shim says first: what it has, or why it has nothing.
func started(m shim.Message) (note shim.StartedNote, err error) {
	switch {
	case m.Kind == shim.Failed:
		var f shim.FailedNote
		if err := m.Read(&f); err != nil {
			return note, err
		}
		return note, failure(f)
	case m.Kind != shim.Started || len(m.Files) == 0:
		return note, errors.New("the shim said something else than what it has")
	}
	return note, m.Read(&note)
}

func failure(f shim.FailedNote) error {
	if f.Errno == 0 {
		return errors.New(f.Call)
	}
	return &launch.Failure{Call: f.Call, Errno: f.Errno}
}

// listen hears the shim until it has gone.
func (p *process) listen() {
	exit := container.Exit{Code: container.ExitUnknown, Err: errors.New("its shim ended before it could tell the exit status")}
	exited := false
	for !exited {
		m, err := p.conn.Receive()
		if err != nil {
			break
		}
		switch m.Kind {
		case shim.Exited:
			var note shim.ExitNote
			if m.Read(&note) == nil {
				exit = exitOf(note)
				if note.Lost != "" {
					p.rt.log.Error("container output was lost", "container", p.record.Id, "err", note.Lost)
				}
			}
		case shim.ExecStart, shim.ExecFailed, shim.ExecExited:
			p.hearExec(m)
		default:
			shim.CloseAll(m.Files)
		}
		exited = m.Kind == shim.Exited
	}
	if !exited { // without its shim nobody can know how it goes on
		_ = unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0) // where there are no cgroups
		exit.Err = errors.Join(exit.Err, p.group.Kill(), p.conn.Close())
	}
	exit.OOMKilled = p.group.OOMKills() > 0
	p.mu.Lock()
	_ = unix.Close(p.pidfd)
	p.pidfd = -1
	if p.input != nil {
		_ = p.input.Close()
		p.input = nil
	}
	for id, e := range p.execs {
		e.end(container.Exit{Code: container.ExitUnknown, Err: errors.New("the container has ended")})
		delete(p.execs, id)
	}
	p.mu.Unlock()
	p.exit = exit
	close(p.ended)
	if exited {
		p.release()
	}
	close(p.gone)
}

// release takes the shim back when it is idle.
func (p *process) release() {
	m, err := p.conn.Receive()
	for err == nil && m.Kind != shim.Gone { // an exec may have outlived its container's first process
		shim.CloseAll(m.Files)
		m, err = p.conn.Receive()
	}
	if err != nil { // it was killed
		_ = p.conn.Close()
		return
	}
	p.rt.shims.put(p.conn)
}

// Pid is the first process.
func (p *process) Pid() int { return p.pid }

// Wait returns when the shim has told the end: it has all the output by then.
func (p *process) Wait() container.Exit {
	<-p.ended
	return p.exit
}

// Gone removes the cgroup, and whatever a shared PID namespace has left in it.
func (p *process) Gone(recorded bool) {
	<-p.gone
	files := []string{shim.ListenFile}
	if recorded {
		files = append(files, shim.ExitFile)
	}
	if err := errors.Join(p.group.End(), forgetRun(p.record.Root, files...)); err != nil {
		p.rt.log.Error("clean up after a container", "container", p.record.Id, "err", err)
	}
}

// Input is its standard input.
func (p *process) Input() io.WriteCloser {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.input == nil {
		return nil
	}
	return &input{p, p.input}
}

// input writes to the container itself; the shim holds another end.
type input struct {
	p *process
	*os.File
}

// Close ends the input, unless it is a terminal: the shim's end goes too.
func (i *input) Close() error {
	if i.p.record.Config.Tty {
		return nil
	}
	i.p.mu.Lock()
	i.p.input = nil
	i.p.mu.Unlock()
	return errors.Join(i.File.Close(), i.p.conn.Send(shim.CloseStdin, struct{}{}, nil))
}

// Resize tells its terminal the size.
func (p *process) Resize(w container.Window) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.input == nil || !p.record.Config.Tty {
		return nil
	}
	raw, err := p.input.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: w.Rows, Col: w.Cols})
	})
	return errors.Join(err, cerr)
}

// Signal sends a signal to the first process.
func (p *process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pidfd < 0 {
		return container.ErrNotRunning
	}
	err := unix.PidfdSendSignal(p.pidfd, sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return container.ErrNotRunning
	}
	return err
}

// Freeze stops all processes with the freezer cgroup.
func (p *process) Freeze() error { return p.group.Freeze() }

// Thaw lets them go on.
func (p *process) Thaw() error { return p.group.Thaw() }

// Update writes the limits of a changed record to the cgroup. The devices stay as
// they are.
func (p *process) Update(r *container.Record) error {
	s, err := p.rt.spec(r)
	if err != nil {
		return err
	}
	s.Linux.Resources.Devices = nil
	plan, err := p.rt.host.Plan(s.Linux.Resources)
	if err != nil {
		return err
	}
	return p.group.Apply(plan)
}

// Stats reads the accounting.
func (p *process) Stats() (container.Stats, error) { return container.Stats(p.group.Stats()), nil }

// Pids lists the processes.
func (p *process) Pids() ([]int, error) {
	if p.rt.host.Version == 0 {
		return namespaceOf(p.pid)
	}
	return p.group.Pids()
}

// namespaceOf lists the processes of one's PID namespace: what there is without cgroups.
func namespaceOf(pid int) (pids []int, err error) {
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // it has ended
	}
	links, _ := filepath.Glob("/proc/[0-9]*/ns/pid") // the pattern is fine
	for _, link := range links {
		if ns, err := os.Readlink(link); err == nil && ns == own { // else gone, or somebody else's
			n, _ := strconv.Atoi(strings.Split(link, "/")[2])
			pids = append(pids, n)
		}
	}
	slices.Sort(pids)
	return pids, err
}
