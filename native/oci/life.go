package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"docker2013/native/launch"
	"docker2013/native/shim"
)

// Start has a created container execute its program, and returns when it has.
func (rt *Runtime) Start(id string) error {
	var c *Container
	err := rt.locked(id, func(found *Container) error {
		c = found
		return c.start()
	})
	if err != nil || c.spec.Hooks == nil {
		return err
	}
	if err := runHooks("poststart", c.spec.Hooks.Poststart, c.hookState(specs.StateRunning, c.Pid)); err != nil {
		return errors.Join(err, rt.Delete(id, true))
	}
	return nil
}

func (c *Container) start() error {
	switch status := c.Status(); status {
	case specs.StateCreated:
	case specs.StateStopped:
		return errors.New("cannot start a container that has stopped")
	default:
		return fmt.Errorf("cannot start a container in the state %s", status)
	}
	s, err := c.config()
	if err != nil {
		return err
	}
	if s.Process == nil {
		return errors.New("cannot start a container without a process in its config.json")
	}
	if s.Hooks != nil && len(s.Hooks.StartContainer) > 0 {
		if err := c.startHooks(s.Hooks.StartContainer); err != nil {
			return errors.Join(err, c.kill(unix.SIGKILL), c.destroy(true))
		}
	}
	data, err := os.ReadFile(c.file("program"))
	if err != nil {
		return err
	}
	program, err := launch.Decode(data)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	conn := os.NewFile(uintptr(fd), startSocket)
	defer conn.Close()
	if err := shim.Named(c.dir(), startSocket, func(name string) error { return unix.Connect(fd, &unix.SockaddrUnix{Name: name}) }); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err = startError(program.Result(conn)); err != nil {
		c.awaitReaped()
	}
	return errors.Join(err, os.Remove(c.file(startSocket)))
}

// awaitReaped waits until somebody has taken up a process that has failed, for half
// a second at most: containerd's shim must know of its end before it is told of the
// failure, or it can't be rid of it.
func (c *Container) awaitReaped() {
	for range 50 {
		if err := unix.Kill(c.Pid, 0); err != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// startHooks run in the container, just before its program.
func (c *Container) startHooks(hooks []specs.Hook) error {
	pidfd, err := c.pidfd()
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	join, err := c.join()
	if err != nil {
		return err
	}
	defer join.Close()
	return c.runInside("startContainer", hooks, c.hookState(specs.StateCreated, c.Pid), pidfd, join)
}

// pidfd is of the first process. ErrNotRunning: it has ended.
func (c *Container) pidfd() (int, error) {
	fd, err := unix.PidfdOpen(c.Pid, 0)
	if err == nil && c.alive() { // the number was its own until now, and so is the descriptor
		return fd, nil
	}
	if err == nil {
		_ = unix.Close(fd)
	}
	return -1, ErrNotRunning
}

// Kill sends a signal to the first process; with all, to every one.
func (rt *Runtime) Kill(id string, sig unix.Signal, all bool) error {
	c, err := rt.Load(id)
	if err != nil {
		return err
	}
	if all {
		group, err := c.group()
		if err != nil {
			return err
		}
		pids, err := group.Pids()
		for _, pid := range pids {
			_ = unix.Kill(pid, sig) // gone is fine
		}
		return err
	}
	return c.kill(sig)
}

func (c *Container) kill(sig unix.Signal) error {
	switch c.Status() {
	case specs.StateStopped, specs.StateCreating:
		return ErrNotRunning
	}
	pidfd, err := c.pidfd()
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	if err := unix.PidfdSendSignal(pidfd, sig, nil, 0); err != nil {
		return fmt.Errorf("send %s: %w", unix.SignalName(sig), err)
	}
	if sig != unix.SIGKILL {
		return nil
	}
	s, err := c.config()
	if err != nil {
		return err
	}
	group, err := c.group()
	if err != nil {
		return err
	}
	if group.Frozen() { // on v1 it dies when it can run
		err = group.Thaw()
	}
	own := slices.ContainsFunc(s.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.PIDNamespace && ns.Path == "" })
	if !own { // nobody else ends the others
		err = errors.Join(err, group.Kill())
	}
	return err
}

// Delete removes a container that has ended; with force, any, and what an
// interrupted create has left.
func (rt *Runtime) Delete(id string, force bool) error {
	err := rt.locked(id, func(c *Container) error {
		status := c.Status()
		if status != specs.StateStopped {
			if !force && status != specs.StateCreating {
				return fmt.Errorf("cannot delete container %s that is not stopped: %s", id, status)
			}
			if err := c.kill(unix.SIGKILL); err != nil && !errors.Is(err, ErrNotRunning) {
				return err
			}
		}
		return c.destroy(!c.Creating)
	})
	if force && errors.Is(err, fs.ErrNotExist) { // a folder, and nothing in it yet
		return os.RemoveAll((&Container{rt: rt, Record: Record{ID: id}}).dir())
	}
	if force && errors.Is(err, ErrNotExist) {
		return nil
	}
	return err
}

// destroy undoes create: processes, cgroup, folder; then poststop's hooks, if the
// container was made.
func (c *Container) destroy(made bool) error {
	var errs []error
	if c.Cgroup != "" {
		group, parent, err := c.openGroup()
		if err == nil {
			err = group.End()
			parent.Prune(c.CgroupMade)
		}
		errs = append(errs, err)
	}
	if pidfd, err := c.pidfd(); err == nil { // one that has left its cgroup
		_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		if !awaitEnd(pidfd, 10_000) {
			errs = append(errs, fmt.Errorf("process %d doesn't end", c.Pid))
		}
		_ = unix.Close(pidfd)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s, serr := c.config()
	if err := os.RemoveAll(c.dir()); err != nil {
		return err
	}
	if made && serr == nil && s.Hooks != nil {
		state := c.hookState(specs.StateStopped, 0)
		for _, h := range s.Hooks.Poststop {
			if err := runHooks("poststop", []specs.Hook{h}, state); err != nil {
				c.rt.Warn("%v", err)
			}
		}
	}
	return nil
}

// Pause stops all processes where they are, Resume lets them go on.
func (rt *Runtime) Pause(id string) error {
	return rt.locked(id, func(c *Container) error {
		if s := c.Status(); s != specs.StateRunning && s != specs.StateCreated {
			return fmt.Errorf("cannot pause a container in the state %s", s)
		}
		group, err := c.group()
		if err != nil {
			return err
		}
		return group.Freeze()
	})
}

// Resume undoes Pause.
func (rt *Runtime) Resume(id string) error {
	return rt.locked(id, func(c *Container) error {
		if s := c.Status(); s != Paused {
			return fmt.Errorf("cannot resume a container in the state %s", s)
		}
		group, err := c.group()
		if err != nil {
			return err
		}
		return group.Thaw()
	})
}

// Pids lists the processes.
func (rt *Runtime) Pids(id string) ([]int, error) {
	c, err := rt.Load(id)
	if err != nil {
		return nil, err
	}
	group, err := c.group()
	if err != nil {
		return nil, err
	}
	return group.Pids()
}

// Update writes other limits. Devices stay as they are.
func (rt *Runtime) Update(id string, r *specs.LinuxResources) error {
	return rt.locked(id, func(c *Container) error {
		if c.Status() == specs.StateStopped {
			return ErrNotRunning
		}
		dir := path.Dir(c.Cgroup)
		if _, err := c.rt.host.Parent(path.Clean("/" + dir)[1:]); err != nil { // it knows the files of this kernel
			return err
		}
		r.Devices = nil
		plan, err := c.rt.host.Plan(r)
		if err != nil {
			return err
		}
		group, err := c.group()
		if err != nil {
			return err
		}
		return group.Apply(plan)
	})
}

// ParseSignal reads a signal's number or name, with or without SIG.
func ParseSignal(s string) (unix.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 && n <= 64 {
		return unix.Signal(n), nil
	}
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	if rest, ok := strings.CutPrefix(name, "SIGRTMIN"); ok { // as libc counts: 34 is the first
		if n, err := strconv.Atoi("0" + strings.TrimPrefix(rest, "+")); err == nil && n <= 30 {
			return unix.Signal(34 + n), nil
		}
	}
	if rest, ok := strings.CutPrefix(name, "SIGRTMAX"); ok {
		if n, err := strconv.Atoi("0" + strings.TrimPrefix(rest, "-")); err == nil && n <= 30 {
			return unix.Signal(64 - n), nil
		}
	}
	return 0, fmt.Errorf("unknown signal %q", s)
}
