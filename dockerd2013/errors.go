package dockerd2013

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"docker2013/container"
	"docker2013/rcli"
)

// noSuch is an answer of 2013: "No such container: NAME". What is one of
// "command", "container", "image", "container or image".
func noSuch(what, name string) error {
	return fmt.Errorf("No such %s: %s", what, name) //lint:ignore ST1005 a text of 2013, reproduced exactly
}

// advise adds to an error of the host, where it has run out of something, what to do.
func (d *Daemon) advise(err error) error {
	var advice string
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		advice = fmt.Sprintf("if it is %s that is full, as df -h and df -i tell, docker2013 rm and rmi make room", d.Root)
	case errors.Is(err, unix.EROFS) && strings.Contains(err.Error(), d.Root): // and not inside a container
		advice = fmt.Sprintf("%s is on a file system that is read-only: see dmesg why, then remount it", d.Root)
	case errors.Is(err, unix.EMFILE):
		advice = "the daemon has as many files open as it may: start it with a higher limit, ulimit -n"
	case errors.Is(err, unix.ENFILE):
		advice = "this host has as many files open as it may: raise it, sysctl fs.file-max"
	case errors.Is(err, unix.EAGAIN) && strings.Contains(err.Error(), "fork/exec"):
		advice = "no more processes may be started: raise the limit of the daemon, ulimit -u or its cgroup's pids.max, or end some"
	default:
		return err
	}
	if exit, ok := errors.AsType[*rcli.Exit](err); ok {
		return &rcli.Exit{Code: exit.Code, Err: fmt.Errorf("%w: %s", exit.Err, advice)}
	}
	return fmt.Errorf("%w: %s", err, advice)
}

// find finds a container.
func (d *Daemon) find(name string) (*container.Container, error) {
	if c := d.Containers.Get(name); c != nil {
		return c, nil
	}
	if n := d.Containers.Fitting(name); n > 1 {
		return nil, fmt.Errorf("%s: %d containers' ids begin so: say more of it", name, n)
	}
	return nil, noSuch("container", name)
}

// each calls f for every named container, in order. The first name that isn't
// one ends it, as in 2013.
func (d *Daemon) each(names []string, f func(*container.Container) error) error {
	for _, name := range names {
		c, err := d.find(name)
		if err != nil {
			return err
		}
		if err := f(c); err != nil {
			return err
		}
	}
	return nil
}

// ended is the answer to a call that has watched a container end: its exit
// code, and a text only if the code is not the program's own.
func ended(code int, err error) error {
	if se, ok := errors.AsType[*container.StartError](err); ok {
		return &rcli.Exit{Code: se.Code, Err: se}
	}
	if err != nil {
		if code == 0 {
			code = rcli.StatusOurs
		}
		return &rcli.Exit{Code: code, Err: err}
	}
	if code != 0 {
		return &rcli.Exit{Code: code}
	}
	return nil
}
