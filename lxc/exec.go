package lxc

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	golxc "github.com/lxc/go-lxc"
	"golang.org/x/sys/unix"

	"docker2013/container"
)

// liblxc attaches by forking, and what it forks must not be a daemon with
// threads, listeners and other people's connections. So the daemon runs itself
// anew as a process that only attaches:
//
//	daemon ── fd 3: attachOrder ──▶ attacher ── fork, setns, execve ──▶ the program
//	daemon ◀── fd 4: attachReport ── attacher ◀── wait ──────────────────┘
type attachOrder struct {
	LXCPath, Name string
	Args, Env     []string
	Dir           string
	UID, GID      int
}

type attachReport struct {
	Status unix.WaitStatus // as wait(2) gives it
	Error  string          // why there was nothing to wait for
}

const (
	orderFd  = 3
	reportFd = 4
)

// Exec runs a further program in the container's namespaces, cgroups and with
// its capabilities.
func (p *process) Exec(ctx context.Context, e container.Exec) (container.Exit, error) {
	report, err := p.attach(ctx, e)
	if err != nil {
		return container.Exit{}, fmt.Errorf("exec in container %s: %w", p.id, err)
	}
	switch s := report.Status; {
	case report.Error != "":
		return container.Exit{}, fmt.Errorf("exec in container %s: %s", p.id, report.Error)
	case s.Signaled():
		return container.Exit{Code: 128 + int(s.Signal())}, nil
	default:
		return container.Exit{Code: s.ExitStatus()}, p.missing(e, s.ExitStatus())
	}
}

// missing is why a program couldn't be executed, nil if it was. The status
// alone doesn't tell: a shell that ran exits with 127 for its own reasons.
func (p *process) missing(e container.Exec, status int) error {
	if status != 126 && status != 127 {
		return nil
	}
	root := fmt.Sprintf("/proc/%d/root", p.Pid())
	for _, candidate := range candidates(e.Args[0], e.Env) {
		f, err := container.OpenFile(root, candidate, unix.O_PATH, 0)
		if err != nil {
			continue
		}
		fi, err := f.Stat()
		_ = f.Close()
		if err != nil || (fi.Mode().IsRegular() && fi.Mode().Perm()&0o111 != 0) {
			return nil
		}
		return &container.StartError{Code: 126, Text: fmt.Sprintf("%s: can't be executed: permission denied", e.Args[0])}
	}
	return &container.StartError{Code: 127, Text: fmt.Sprintf("%s: no such program in the container", e.Args[0])}
}

func (p *process) attach(ctx context.Context, e container.Exec) (report attachReport, err error) {
	order := attachOrder{LXCPath: p.rt.lxcpath, Name: p.id, Args: e.Args, Env: e.Env, Dir: cmp.Or(e.Dir, p.record.Config.WorkingDir, "/")}
	if order.UID, order.GID, err = userIDs(cmp.Or(e.User, p.record.Config.User)); err != nil {
		return report, err
	}
	orderR, orderW, err := os.Pipe()
	if err != nil {
		return report, err
	}
	defer orderR.Close()
	defer orderW.Close()
	reportR, reportW, err := os.Pipe()
	if err != nil {
		return report, err
	}
	defer reportR.Close()
	defer reportW.Close()

	cmd := exec.Command(p.rt.attacher.path(p.rt.self[0]), p.rt.self[1:]...)
	cmd.Args[0] = p.rt.self[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = e.Streams.In, e.Streams.Out, e.Streams.Err
	cmd.ExtraFiles = []*os.File{orderR, reportW} // 3 and 4
	cmd.Env = []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: e.Streams.Terminal}
	if err := cmd.Start(); err != nil {
		return report, err
	}
	_ = orderR.Close()
	_ = reportW.Close()
	err = json.NewEncoder(orderW).Encode(order)
	_ = orderW.Close()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			select {
			case sig := <-e.Signals:
				_ = cmd.Process.Signal(sig) // it passes them on
			case <-ended:
				return
			}
		}
	}()
	if err == nil {
		err = json.NewDecoder(reportR).Decode(&report)
	}
	if werr := cmd.Wait(); err != nil {
		return report, fmt.Errorf("attach: %w", errors.Join(err, werr))
	}
	return report, nil
}

// AttachMain is the attacher's main. It exits.
func AttachMain() {
	unix.CloseOnExec(orderFd)
	unix.CloseOnExec(reportFd)
	// Caught, not ignored: an ignored signal would stay ignored in the program.
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, forwarded...)

	var report attachReport
	var order attachOrder
	if err := json.NewDecoder(os.NewFile(orderFd, "order")).Decode(&order); err != nil {
		report.Error = err.Error()
	} else if report.Status, err = attachAndWait(order, signals); err != nil {
		report.Error = err.Error()
	}
	if err := json.NewEncoder(os.NewFile(reportFd, "report")).Encode(report); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

var forwarded = []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2}

func attachAndWait(order attachOrder, signals <-chan os.Signal) (unix.WaitStatus, error) {
	c, err := golxc.NewContainer(order.Name, order.LXCPath)
	if err != nil {
		return 0, err
	}
	// Keyrings are the thread's, and in no namespace: without this the program had
	// the daemon's (session-keyring(7)). lxc-start sees to it for the first one.
	runtime.LockOSThread()
	if _, _, errno := unix.Syscall(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0); errno != 0 && errno != unix.ENOSYS {
		return 0, fmt.Errorf("start a keyring: %w", errno)
	}
	options := golxc.DefaultAttachOptions
	options.ClearEnv = true
	options.Env = order.Env
	options.Cwd, options.UID, options.GID = order.Dir, order.UID, order.GID
	pid, err := c.RunCommandNoWait(order.Args, options)
	if err != nil {
		return 0, err
	}
	go func() {
		for sig := range signals {
			// From the terminal it has had it already: it is in the foreground too.
			if s := sig.(syscall.Signal); s != unix.SIGINT && s != unix.SIGQUIT {
				_ = unix.Kill(pid, s)
			} else if _, err := unix.IoctlGetInt(0, unix.TIOCGPGRP); err != nil {
				_ = unix.Kill(pid, s)
			}
		}
	}()
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &status, 0, nil)
		if err == nil {
			return status, nil
		}
		if err != unix.EINTR {
			return 0, fmt.Errorf("wait for PID %d: %w", pid, err)
		}
	}
}

// candidates are the paths that a program's name may mean, as execvp(3) tries them.
func candidates(name string, env []string) []string {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	var paths []string
	for _, kv := range env {
		if dirs, ok := strings.CutPrefix(kv, "PATH="); ok {
			paths = nil // the last one counts
			for dir := range strings.SplitSeq(dirs, ":") {
				paths = append(paths, filepath.Join("/", dir, name))
			}
		}
	}
	return paths
}
