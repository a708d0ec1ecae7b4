package oci

import (
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"docker2013/native"
	"docker2013/native/launch"
	"docker2013/ociconfig"
)

// Exec starts a further process in a container. change makes it of the container's
// own. Who calls waits for it, with Wait, or exits.
func (rt *Runtime) Exec(id string, change func(*specs.Process) (*specs.Process, error), o Starting) (pid int, err error) {
	err = rt.locked(id, func(c *Container) error {
		pid, err = c.exec(change, o)
		return err
	})
	return pid, err
}

func (c *Container) exec(change func(*specs.Process) (*specs.Process, error), o Starting) (int, error) {
	if s := c.Status(); s != specs.StateRunning && s != specs.StateCreated {
		return 0, fmt.Errorf("cannot exec in a container in the state %s", s)
	}
	config, err := c.config()
	if err != nil {
		return 0, err
	}
	s := *config
	var own specs.Process
	if s.Process != nil {
		own = *s.Process
		own.Terminal, own.ConsoleSize = false, nil
	}
	if s.Process, err = change(&own); err != nil {
		return 0, err
	}
	if err := ociconfig.CheckProcess(s.Process); err != nil {
		return 0, err
	}
	if err := o.check(s.Process.Terminal); err != nil {
		return 0, err
	}
	for _, name := range ociconfig.DropUnknown(s.Process.Capabilities) {
		c.rt.Warn("the capability %s is not to be had here: it is left out", name)
	}
	join, err := c.join()
	if err != nil {
		return 0, err
	}
	defer join.Close()
	pidfd, err := c.pidfd()
	if err != nil {
		return 0, err
	}
	defer unix.Close(pidfd)
	b, err := c.rt.newBirth(&s, join, o)
	if err != nil {
		return 0, err
	}
	defer b.close()
	b.setup.Pidfd = b.setup.Add(pidfd)
	if b.setup.User.Is {
		for _, l := range native.Limits(s.Process) {
			if err := l.Raise(0); err != nil { // our own: there is nothing that we do behind it
				return 0, err
			}
		}
	}
	program, err := native.CompileExec(&s, b.setup)
	if err != nil {
		return 0, err
	}
	pid, child, err := b.run(program)
	if err != nil {
		return 0, err
	}
	_ = unix.Close(child)
	return pid, writePidFile(o.PidFile, pid)
}

// Wait waits for a child's end, passes signals on to it until then, and gives its
// exit code.
func Wait(pid int) int {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		go func() {
			for sig := range signals {
				ours := []os.Signal{unix.SIGCHLD, unix.SIGURG, unix.SIGWINCH, unix.SIGTTIN, unix.SIGTTOU, unix.SIGPIPE}
				if !slices.Contains(ours, sig) {
					_ = unix.PidfdSendSignal(pidfd, sig.(syscall.Signal), nil, 0) // ended: no matter
				}
			}
		}()
	}
	return exitCode(launch.Reap(pid))
}
