package lxc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"docker2013/container"
)

// findMonitors finds the lxc-starts that run on an LXC path, by container. One
// that was started a moment before its daemon died doesn't answer on its
// socket yet, but its command line tells whose it is.
func findMonitors(lxcpath string) (map[string]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("look for running containers: %w", err)
	}
	found := map[string]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		data, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil {
			continue // it has ended
		}
		argv := strings.Split(string(data), "\x00")
		end := slices.Index(argv, "--")
		if filepath.Base(argv[0]) != "lxc-start" || end < 0 {
			continue
		}
		options := argv[:end]
		p, n := slices.Index(options, "-P"), slices.Index(options, "-n")
		if p < 0 || n < 0 || p+1 >= end || n+1 >= end || options[p+1] != lxcpath {
			continue
		}
		// lxc-start's child has the same command line until it executes the
		// program. The monitor is the one that came first.
		if other, ok := found[options[n+1]]; !ok || pid < other {
			found[options[n+1]] = pid
		}
	}
	return found, nil
}

// Adopt takes up a container that an earlier daemon started.
func (rt *Runtime) Adopt(ctx context.Context, r *container.Record) (container.Process, error) {
	monitor := rt.running[r.Id]
	if monitor == 0 {
		if err := rt.sweepIfThere(r.Id); err != nil {
			return nil, err
		}
		// Its pipes are there while it runs: so there was a run.
		s := &stdio{dir: r.Root, log: rt.log}
		if _, err := os.Lstat(s.pipePath("stdout")); err == nil {
			s.removePipes()
			return nil, &container.EndedError{Exit: container.Exit{Code: container.ExitUnknown, Err: container.ErrUnseen},
				Err: fmt.Errorf("container %s: %w", r.Id, container.ErrNotRunning)}
		}
		return nil, fmt.Errorf("container %s: %w", r.Id, container.ErrNotRunning)
	}
	fd, err := unix.PidfdOpen(monitor, 0)
	if errors.Is(err, unix.ESRCH) { // it has ended since we looked
		return nil, fmt.Errorf("container %s: %w", r.Id, container.ErrNotRunning)
	}
	if err != nil {
		return nil, fmt.Errorf("adopt container %s: %w", r.Id, err)
	}
	std, err := adoptStdio(r, rt.log)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("adopt container %s: %w", r.Id, err)
	}
	p := rt.process(r, rt.monitor.watch(r.Id), std)
	go p.reap(func() error { return awaitPidfd(fd) })
	// It may be on its way up, or on its way out.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if p.askPid() > 0 {
			return p, nil
		}
		select {
		case <-p.gone:
			p.Gone(true)
			return nil, fmt.Errorf("container %s: %w", r.Id, container.ErrNotRunning)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		default:
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("container %s: its lxc-start (PID %d) doesn't answer: end it by hand", r.Id, monitor)
		}
	}
}

// sweepIfThere sweeps a container that has a cgroup left.
func (rt *Runtime) sweepIfThere(id string) error {
	dirs, err := inHierarchies(rt.parent)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		for _, name := range []string{id, id + ".monitor"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				return rt.sweep(id)
			}
		}
	}
	return nil
}

// awaitPidfd blocks until the process ends: then the descriptor is readable
// (pidfd_open(2)). Not being its parent, we can't know its status.
func awaitPidfd(fd int) error {
	defer unix.Close(fd)
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if err != unix.EINTR {
			return err
		}
	}
}
