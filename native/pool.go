package native

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"docker2013/native/shim"
)

// spares is how many idle shims wait for a container: starting one costs as much
// as half a container does.
const spares = 2

// pool starts shims before they are needed.
type pool struct {
	program *os.File // the shim's, in memory and sealed
	root    string   // the containers' folder: what `ps` shows a shim to be for
	log     *slog.Logger
	ready   chan *shim.Conn
	wanted  chan struct{}
	done    sync.WaitGroup

	mu     sync.Mutex
	closed bool // nothing is put into ready any more
}

// newPool reads the shim's program once. What runs is a copy in memory that nobody
// can write to any more, a container neither (CVE-2019-5736).
func newPool(path, root string, log *slog.Logger) (*pool, error) {
	program, err := Sealed(path, "docker2013-shim")
	if err != nil {
		return nil, fmt.Errorf("the shim: %w", err)
	}
	p := &pool{program: program, root: root, log: log, ready: make(chan *shim.Conn, spares), wanted: make(chan struct{}, spares)}
	for range spares {
		p.wanted <- struct{}{}
	}
	p.done.Go(p.fill)
	return p, nil
}

// Sealed copies a program into memory, where nobody can write to it any more
// (memfd_create(2)).
func Sealed(path, name string) (_ *os.File, err error) {
	from, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer from.Close() // only read
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), path)
	// In the kernel: there is no other way between two file systems that doesn't copy
	// every page twice.
	for n := 1; n > 0 && err == nil; {
		n, err = unix.Sendfile(fd, int(from.Fd()), nil, 1<<30)
	}
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// fill keeps the pool full, beside whatever else is done.
func (p *pool) fill() {
	for range p.wanted {
		conn, err := p.start()
		if err != nil {
			p.log.Error("start a shim", "err", err)
			continue // take starts one itself, and says why not
		}
		p.put(conn)
	}
}

// take gives out an idle shim.
func (p *pool) take() (*shim.Conn, error) {
	select {
	case conn := <-p.ready:
		if len(p.ready) == 0 {
			select {
			case p.wanted <- struct{}{}:
			default:
			}
		}
		return conn, nil
	default:
		return p.start()
	}
}

// put takes back a shim whose container has ended. One more than are needed ends.
func (p *pool) put(conn *shim.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		select {
		case p.ready <- conn:
			return
		default:
		}
	}
	_ = conn.Close()
}

// start starts a shim. It lives in a session of its own and knows nothing of us
// but one socket.
func (p *pool) start() (*shim.Conn, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start shim: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "shim")
	defer theirs.Close()
	cmd := exec.Command(fmt.Sprintf("/proc/self/fd/%d", p.program.Fd()))
	cmd.Args = []string{"docker2013-shim", p.root}
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{theirs} // it becomes shim.Socket
	pidfd := -1
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start shim: %w", err), unix.Close(pair[0]))
	}
	go reap(cmd, pidfd)
	return shim.NewConn(pair[0])
}

// reap waits for a shim's end; how that is, its container tells.
func reap(cmd *exec.Cmd, pidfd int) {
	if pidfd >= 0 {
		f := shim.Pidfd(pidfd)
		shim.AwaitEnd(f)
		_ = f.Close()
	}
	_ = cmd.Wait()
}

// close ends the idle shims.
func (p *pool) close() error {
	close(p.wanted)
	p.done.Wait()
	p.mu.Lock()
	p.closed = true
	close(p.ready)
	p.mu.Unlock()
	errs := []error{p.program.Close()}
	for conn := range p.ready {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}
