package shim

import (
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An end is seen whenever it comes: before the poller knows of the process, between
// that and the waiting, and later.
func TestAwaitEnd(t *testing.T) {
	for name, pause := range map[string][2]time.Duration{
		"before":  {100 * time.Millisecond, 0},
		"between": {0, 100 * time.Millisecond},
		"later":   {0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			fd := -1
			cmd := exec.Command("sleep", "0.05")
			cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &fd}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if fd < 0 {
				t.Skip("SKIP: this kernel has no pidfds")
			}
			time.Sleep(pause[0])
			f := Pidfd(fd)
			defer f.Close()
			time.Sleep(pause[1])
			ended := make(chan struct{})
			go func() { AwaitEnd(f); close(ended) }()
			select {
			case <-ended:
			case <-time.After(5 * time.Second):
				t.Fatal("nobody saw its end")
			}
			pid, err := unix.Wait4(cmd.Process.Pid, nil, unix.WNOHANG, nil)
			if err != nil || pid != cmd.Process.Pid {
				t.Errorf("it hadn't ended: %d, %v", pid, err)
			}
		})
	}
}
