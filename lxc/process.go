package lxc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	golxc "github.com/lxc/go-lxc"
	"golang.org/x/sys/unix"

	"docker2013/cgroups"
	"docker2013/container"
)

// process is a running container: an lxc-start and, below it, the container's
// first process.
type process struct {
	rt     *Runtime
	id     string
	io     *stdio
	record *container.Record
	watch  *watch
	gone   chan struct{} // closed when lxc-start has ended and exit is set
	exit   container.Exit

	mu    sync.Mutex
	pid   int  // the first process's, 0 until it is known or if it never was
	pidfd int  // of the first process, -1: not known or ended
	ended bool // lxc-start has: no pidfd is opened any more
}

func (rt *Runtime) process(r *container.Record, w *watch, io *stdio) *process {
	return &process{rt: rt, id: r.Id, record: r, watch: w, io: io, gone: make(chan struct{}), pidfd: -1}
}

// withLXC calls f with liblxc's handle on the container.
func (p *process) withLXC(f func(*golxc.Container) error) error {
	c, err := golxc.NewContainer(p.id, p.rt.lxcpath)
	if err != nil {
		return fmt.Errorf("open LXC container %s: %w", p.id, err)
	}
	return errors.Join(f(c), c.Release())
}

// configured is withLXC after liblxc has read the configuration, without which it
// freezes no container and knows none of its cgroups.
func (p *process) configured(f func(*golxc.Container) error) error {
	return p.withLXC(func(c *golxc.Container) error {
		if err := c.LoadConfigFile(configPath(p.record)); err != nil {
			return err
		}
		return f(c)
	})
}

// firstPid finds the first process of a container that has just come up, 0 if it
// has ended. It is the one process in the cgroup; reading that, one doesn't
// disturb lxc-start.
func (p *process) firstPid() int {
	data, err := os.ReadFile(filepath.Join(p.rt.cgroup, p.id, "cgroup.procs"))
	pids := strings.Fields(string(data))
	if err != nil || len(pids) > 1 {
		return p.askPid()
	}
	if len(pids) == 0 {
		return 0
	}
	pid, err := strconv.Atoi(pids[0])
	if err != nil {
		return p.askPid()
	}
	p.know(pid)
	return pid
}

// askPid asks lxc-start for the first process, 0 if there is none. An lxc-start
// that cleans up doesn't answer any more: what LXC says of the end is an answer too.
func (p *process) askPid() int {
	answer := make(chan int, 1)
	go func() {
		pid := 0
		_ = p.withLXC(func(c *golxc.Container) error {
			pid = max(c.InitPid(), 0)
			return nil
		})
		answer <- pid
	}()
	select {
	case pid := <-answer:
		if pid > 0 {
			p.know(pid)
		}
		return pid
	case <-p.watch.ended:
	case <-p.gone:
	}
	return 0
}

// know keeps the first process. A PID may be given to another process one day;
// the descriptor keeps what we mean (pidfd_open(2)).
func (p *process) know(pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pid = pid
	if p.ended || p.pidfd >= 0 {
		return
	}
	if fd, err := unix.PidfdOpen(pid, 0); err == nil {
		p.pidfd = fd
	}
}

// reap waits for lxc-start with the given function and works out how the
// container's first process ended.
func (p *process) reap(wait func() error) {
	werr := wait()
	if err := p.rt.monitor.settle(); err != nil {
		p.rt.log.Error("hear LXC's last words", "container", p.id, "err", err)
	}
	p.rt.monitor.unwatch(p.id, p.watch)
	p.exit = p.outcome(werr)

	p.mu.Lock()
	p.ended = true
	if p.pidfd >= 0 {
		_ = unix.Close(p.pidfd)
		p.pidfd = -1
	}
	p.mu.Unlock()
	// LXC has cleaned up, but it leaves a cgroup that an exec was just joining, and
	// could never start the container again.
	if err := p.rt.sweepIfThere(p.id); err != nil {
		p.rt.log.Error("clean up after lxc-start", "container", p.id, "err", err)
	}
	close(p.gone)
}

func (p *process) outcome(werr error) container.Exit {
	status, exited, aborted := p.watch.outcome()
	switch {
	case exited && status.Signaled():
		return container.Exit{Code: 128 + int(status.Signal())}
	case exited:
		return container.Exit{Code: status.ExitStatus()}
	case aborted || werr != nil && p.Pid() == 0:
		log, _ := os.ReadFile(logPath(p.record)) // no log: it gave no reason
		se := startError(p.record, string(log))
		return container.Exit{Code: se.Code, Err: se}
	case werr != nil:
		return container.Exit{Code: container.ExitUnknown, Err: fmt.Errorf("lxc-start ended (%w) before it could tell the exit status", werr)}
	default:
		return container.Exit{Code: container.ExitUnknown, Err: errors.New("LXC didn't tell the exit status")}
	}
}

// Pid is the first process.
func (p *process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// Wait returns when LXC has said how the first process ended. It says so before
// it removes the cgroups, which takes it a third of its time.
func (p *process) Wait() container.Exit {
	var exit container.Exit
	select {
	case <-p.watch.ended:
		exit = p.outcome(nil)
	case <-p.gone:
		exit = p.exit
	}
	if p.record.Config.Tty {
		<-p.gone // LXC itself passes the terminal's last bytes on
	}
	p.io.finish()
	if lost := p.io.lost(); lost != nil {
		exit.Err = errors.Join(exit.Err, lost)
	}
	return exit
}

// Input is its standard input.
func (p *process) Input() io.WriteCloser {
	if !p.io.takesInput() {
		return nil
	}
	return p.io
}

// Resize tells its terminal the size.
func (p *process) Resize(w container.Window) error { return p.io.resize(w) }

// Gone returns when lxc-start has ended, and its cgroups with it.
func (p *process) Gone(bool) {
	<-p.gone
	p.io.finish()
	p.io.removePipes()
}

// Signal sends a signal to the first process, as lxc-kill did in 2013
// (docker@bba4e36807:container.go:352); LXC has no such program any more.
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
func (p *process) Freeze() error {
	return p.configured(func(c *golxc.Container) error { return c.Freeze() })
}

// Thaw lets them go on. It is not an error when they weren't frozen.
func (p *process) Thaw() error {
	return p.configured(func(c *golxc.Container) error {
		err := c.Unfreeze()
		if errors.Is(err, golxc.ErrNotFrozen) { // not by LXC; somebody's own hand can have done it
			return thawCgroups(p.rt.parent + "/" + p.id)
		}
		return err
	})
}

// Update writes the limits of a changed record to the cgroups, as lxc-cgroup(1) does.
func (p *process) Update(r *container.Record) error {
	lines, err := limitLines(r.Config, p.rt.host)
	if err != nil {
		return err
	}
	return p.configured(func(c *golxc.Container) error {
		for _, line := range lines {
			key, value, _ := strings.Cut(line, " = ")
			file := strings.TrimPrefix(key, p.rt.host.prefix()+".")
			if err := c.SetCgroupItem(file, value); err != nil {
				return fmt.Errorf("write %s to %s: %w", value, file, err)
			}
		}
		return nil
	})
}

// Stats reads the container's accounting.
func (p *process) Stats() (container.Stats, error) {
	var s cgroups.Stats
	err := p.withLXC(func(c *golxc.Container) error {
		s = cgroups.ReadStats(p.rt.host.Version, func(_, file string) []string { return c.CgroupItem(file) })
		return nil
	})
	return container.Stats(s), err
}

// Pids lists the processes in the container's cgroup and below it.
func (p *process) Pids() ([]int, error) { return cgroupPids(p.rt.parent + "/" + p.id) }
