// Package reaper is the small init of `run --init`: PID 1 of a container that
// starts the program, passes signals on to it, and reaps what nobody waits for.
//
// The kernel expects both of PID 1: it becomes the parent of every orphan in its
// PID namespace, and a signal that it has no handler for never reaches it
// (pid_namespaces(7)). Most programs were not written to be that.
package reaper

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Name is what the program is called in a container, as Docker calls its own.
const Name = "docker-init"

// signals are heard from the first moment on: before that Go ends on most of them.
var signals = make(chan os.Signal, 64)

func init() {
	if Is(os.Args[0]) {
		signal.Notify(signals)
	}
}

// Is tells by its name that this process is to be an init.
func Is(program string) bool { return filepath.Base(program) == Name }

// Main runs the command line behind "--" and exits as it does.
func Main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	code, err := run(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", Name, err)
	}
	os.Exit(code)
}

func run(args []string) (int, error) {
	if len(args) == 0 {
		return 125, errors.New("no command")
	}
	child, code, err := start(args)
	if err != nil {
		return code, err
	}
	for {
		if status, ended := reap(child); ended {
			if status.Signaled() {
				return 128 + int(status.Signal()), nil
			}
			return status.ExitStatus(), nil
		}
		switch sig := (<-signals).(syscall.Signal); sig {
		case unix.SIGCHLD, unix.SIGURG, unix.SIGTTIN, unix.SIGTTOU: // ours: the second is Go's own
		default:
			_ = unix.Kill(child, sig) // it ends, perhaps
		}
	}
}

// start starts the program in a process group of its own, in the foreground if
// there is a terminal.
func start(args []string) (pid, code int, err error) {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return 0, 127, fmt.Errorf("%s: no such program in the container", args[0])
	}
	_, terr := unix.IoctlGetInt(0, unix.TIOCGPGRP) // a terminal, and ours
	attr := &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setpgid: true, Foreground: terr == nil}}
	pid, err = syscall.ForkExec(path, args, attr)
	if err != nil {
		return 0, 126, fmt.Errorf("%s: can't be executed: %w", args[0], err)
	}
	return pid, 0, nil
}

// reap takes up all that have ended, and tells how child did if it is among them.
func reap(child int) (unix.WaitStatus, bool) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR:
		case err != nil || pid <= 0:
			return 0, false
		case pid == child:
			return status, true
		}
	}
}
