package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"docker2013/cgroups"
	"docker2013/native"
	"docker2013/native/launch"
	"docker2013/ociconfig"
)

// hasHooks tells whether create has some to run.
func hasHooks(h *specs.Hooks) bool {
	return h != nil && len(ociconfig.Prestart(h))+len(h.CreateRuntime)+len(h.CreateContainer) > 0
}

// createHooks are those of create: mounts and namespaces are there, and the process
// has not left the host's root yet.
func (c *Container) createHooks(pid, pidfd int, join cgroups.Join) error {
	c.note(pid)
	c.made = true
	if err := errors.Join(c.save(), c.copyUp(pid)); err != nil {
		return err
	}
	h, state := c.spec.Hooks, c.hookState(specs.StateCreating, pid)
	if h == nil {
		return nil
	}
	if err := runHooks("prestart", ociconfig.Prestart(h), state); err != nil {
		return err
	}
	if err := runHooks("createRuntime", h.CreateRuntime, state); err != nil {
		return err
	}
	return c.runInside("createContainer", h.CreateContainer, state, pidfd, join)
}

// runHooks runs hooks where we are, one after the other, until one fails.
func runHooks(point string, hooks []specs.Hook, state []byte) error {
	for _, h := range hooks {
		ctx, cancel := context.WithCancel(context.Background())
		if h.Timeout != nil {
			ctx, cancel = context.WithTimeout(context.Background(), time.Duration(*h.Timeout)*time.Second)
		}
		cmd := exec.CommandContext(ctx, h.Path)
		if len(h.Args) > 0 {
			cmd.Args = h.Args
		}
		var out bytes.Buffer
		cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = append([]string{}, h.Env...), bytes.NewReader(state), &out, &out
		cmd.WaitDelay = time.Second // for what a hook leaves running
		err := cmd.Run()
		if ctx.Err() != nil {
			err = fmt.Errorf("it was killed after %d seconds", *h.Timeout)
		}
		cancel()
		if errors.Is(err, exec.ErrWaitDelay) {
			err = nil
		}
		if err != nil {
			return fmt.Errorf("%s hook %s: %w%s", point, h.Path, err, said(out.Bytes()))
		}
	}
	return nil
}

func said(out []byte) string {
	if out = bytes.TrimSpace(out); len(out) > 0 {
		return fmt.Sprintf("; it said %q", out)
	}
	return ""
}

// runInside runs hooks in the container's namespaces.
func (c *Container) runInside(point string, hooks []specs.Hook, state []byte, pidfd int, join cgroups.Join) error {
	for _, h := range hooks {
		if err := c.inside(h, state, pidfd, join); err != nil {
			return fmt.Errorf("%s hook %s: %w", point, h.Path, err)
		}
	}
	return nil
}

func (c *Container) inside(h specs.Hook, state []byte, pidfd int, join cgroups.Join) error {
	in, err := memory(state)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := memory(nil)
	if err != nil {
		return err
	}
	defer out.Close()
	b := &birth{setup: native.NewSetup(), sync: [2]int{-1, -1}}
	b.setup.User = native.Joins(c.spec)
	b.setup.Join(join)
	o := b.setup.Add(int(out.Fd()))
	b.setup.Stdio = [3]int{b.setup.Add(int(in.Fd())), o, o}
	b.setup.Pidfd = b.setup.Add(pidfd)
	program, err := native.CompileHook(h, b.setup)
	if err != nil {
		return err
	}
	pid, child, err := b.run(program)
	if err != nil {
		return err
	}
	defer unix.Close(child)
	timeout := -1
	if h.Timeout != nil {
		timeout = *h.Timeout * 1000
	}
	ended := awaitEnd(child, timeout)
	if !ended {
		_ = unix.PidfdSendSignal(child, unix.SIGKILL, nil, 0)
	}
	status := launch.Reap(pid)
	if !ended {
		return fmt.Errorf("it was killed after %d seconds", *h.Timeout)
	}
	if status != 0 {
		text := make([]byte, 4096)
		n, _ := out.ReadAt(text, 0)
		return fmt.Errorf("exit status %d%s", exitCode(status), said(text[:n]))
	}
	return nil
}

// memory is a file that is nowhere.
func memory(data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("hook", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "hook")
	_, err = f.WriteAt(data, 0)
	return f, err
}

// awaitEnd waits for a process's end, at most so many milliseconds; -1: for ever.
func awaitEnd(pidfd, timeout int) bool {
	deadline := time.Now().Add(time.Duration(timeout) * time.Millisecond)
	for {
		left := -1
		if timeout >= 0 {
			left = max(0, int(time.Until(deadline).Milliseconds()))
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, left)
		if err != unix.EINTR {
			return n == 1
		}
	}
}

// exitCode is a status as a shell says it.
func exitCode(s unix.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}
