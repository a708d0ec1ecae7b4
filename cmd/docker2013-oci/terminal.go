package main

import (
	"io"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"docker2013/native/oci"
)

// terminal joins a process's terminal with ours, for run and exec without
// --console-socket.
type terminal struct {
	master *os.File
	output sync.WaitGroup
}

func (t *terminal) take(master *os.File) { t.master = master }

// wait waits for the process, with its terminal on ours, and gives its exit code.
func (t *terminal) wait(pid int) int {
	if t.master == nil {
		return oci.Wait(pid)
	}
	if old, err := term.MakeRaw(0); err == nil {
		defer func() { _ = term.Restore(0, old) }()
	}
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, unix.SIGWINCH)
	go func() {
		for ; ; <-resized {
			if size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ); err == nil {
				_ = unix.IoctlSetWinsize(int(t.master.Fd()), unix.TIOCSWINSZ, size)
			}
		}
	}()
	go func() { _, _ = io.Copy(t.master, os.Stdin) }()
	t.output.Go(func() { _, _ = io.Copy(os.Stdout, t.master) }) // until EIO: nobody has it open any more
	code := oci.Wait(pid)
	t.output.Wait()
	return code
}
