package lxc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"docker2013/container"
	"docker2013/trace"
)

// startArgs is lxc-start's command line: the one of 2013
// (docker@bba4e36807:container.go:262) and, before the "--", what today's LXC
// needs: -F because it would go to the background, -P to be ours alone, -q because
// its stderr is the container's.
func (rt *Runtime) startArgs(r *container.Record) []string {
	args := []string{"-n", r.Id, "-f", configPath(r),
		"-F", "-P", rt.lxcpath, "-q", "--", r.Path}
	return append(args, r.Args...)
}

// Start runs lxc-start, in the foreground, and returns when the container's
// first process has become the program.
func (rt *Runtime) Start(ctx context.Context, r *container.Record, size container.Window) (container.Process, error) {
	// In January 2013 a container had an empty network namespace, loopback down.
	trace.Step(ctx, "network.attach", "mode", "none").End(nil)

	if err := prepareRoot(r); err != nil {
		return nil, &container.StartError{Code: 125, Text: err.Error()}
	}
	if err := os.Remove(logPath(r)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("start container %s: %w", r.Id, err)
	}
	std, child, err := openStdio(r, size, rt.log)
	if err != nil {
		return nil, fmt.Errorf("start container %s: %w", r.Id, err)
	}
	cmd := exec.Command(rt.program, rt.startArgs(r)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = child.In, child.Out, child.Err
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	// A session of its own: ^C at the daemon's terminal is not for containers.
	// With a terminal, lxc-start needs it as the controlling one, to pass
	// bytes and window sizes between it and the container's own.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: child.Terminal}

	w := rt.monitor.watch(r.Id)
	step := trace.Step(ctx, "runtime.start", "argv", strings.Join(cmd.Args, " "))
	err = cmd.Start()
	child.close()
	if err != nil {
		rt.monitor.unwatch(r.Id, w)
		std.finish()
		std.removePipes()
		return nil, step.End(fmt.Errorf("start lxc-start: %w", err))
	}
	step.Set("pid", cmd.Process.Pid)
	step.End(nil)

	p := rt.process(r, w, std)
	go p.reap(func() error { return cmd.Wait() })

	step = trace.Step(ctx, "runtime.isolate")
	p.awaitRunning()
	err = p.awaitProgram()
	step.Set("pid", p.Pid())
	if step.End(err) != nil {
		_ = p.Signal(syscall.SIGKILL) // ended already, but for the time limit
		p.Gone(true)
		return nil, err
	}
	return p, nil
}

// awaitRunning waits until LXC says that the container's first process has been
// isolated, or until it has failed to.
func (p *process) awaitRunning() {
	select {
	case <-p.watch.running:
	case <-p.gone:
	}
}

// awaitProgram waits until the first process, once isolated, has executed its
// program, and learns its PID.
func (p *process) awaitProgram() error {
	pid := p.firstPid()
	// LXC says RUNNING just before the last step, the execve(2) itself.
	for deadline := time.Now().Add(10 * time.Second); pid > 0; time.Sleep(100 * time.Microsecond) {
		executed, err := p.executed(pid)
		if err != nil {
			break
		}
		if executed {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("start container %s: its program has not been executed within 10 s", p.id)
		}
	}
	// It is over already: a short program, or none at all.
	if se, ok := errors.AsType[*container.StartError](p.Wait().Err); ok {
		return se
	}
	return nil
}

// executed reports whether the first process executes something else than
// lxc-start. One that has ended, or is about to, has no program: an error.
func (p *process) executed(pid int) (bool, error) {
	var lxcStart, now unix.Stat_t
	if err := unix.Stat(p.rt.program, &lxcStart); err != nil {
		return false, err
	}
	if err := unix.Stat(fmt.Sprintf("/proc/%d/exe", pid), &now); err != nil {
		return false, err
	}
	return lxcStart.Dev != now.Dev || lxcStart.Ino != now.Ino, nil
}

// startError makes of LXC's log what a person wants to know.
//
//	lxc-start ID DATE ERROR start - FILE:start:2197 - No such file or directory - Failed to exec "/bin/x"
func startError(r *container.Record, log string) *container.StartError {
	var first string
	for line := range strings.Lines(log) {
		_, text, ok := strings.Cut(line, " ERROR ")
		if !ok {
			continue
		}
		parts := strings.SplitN(strings.TrimSpace(text), " - ", 3)
		text = parts[len(parts)-1]
		if cause, isExec := strings.CutSuffix(text, fmt.Sprintf(` - Failed to exec "%s"`, r.Path)); isExec {
			if strings.EqualFold(cause, unix.ENOENT.Error()) {
				return &container.StartError{Code: 127, Text: fmt.Sprintf("%s: no such program in the container (or its interpreter is missing)", r.Path)}
			}
			return &container.StartError{Code: 126, Text: fmt.Sprintf("%s: can't be executed: %s", r.Path, strings.ToLower(cause))}
		}
		if first == "" {
			first = text
		}
	}
	if first == "" {
		first = "it gave no reason"
	}
	if r.Config.Keys == "2013" {
		first = "it refuses the keys of 2013, renamed in LXC 2.1; they are in " + configPath(r)
	}
	return &container.StartError{Code: 125, Text: "lxc-start failed: " + first}
}
