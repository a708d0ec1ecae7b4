package native

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"docker2013/cgroups"
	"docker2013/container"
	"docker2013/native/shim"
)

// A shim that had another container before may still have a word of an exec in that.
func TestWordsOfTheLastContainer(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := shim.NewConn(pair[0])
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := shim.NewConn(pair[1])
	if err != nil {
		t.Fatal(err)
	}
	parent, err := cgroups.None().Parent("")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pidfd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []struct {
		kind  shim.Kind
		note  any
		files []int
	}{
		{shim.ExecStart, shim.ExecNote{ID: 1, Pid: 2}, []int{pidfd}},
		{shim.ExecExited, shim.ExecNote{ID: 1}, nil},
		{shim.ExecFailed, shim.FailedNote{ID: 2, Call: "setns"}, nil},
		{shim.Started, shim.StartedNote{Pid: cmd.Process.Pid}, []int{pidfd}},
	} {
		if err := theirs.Send(m.kind, m.note, nil, m.files...); err != nil {
			t.Fatal(err)
		}
	}
	p, err := (&Runtime{}).attach(&container.Record{Id: "0705e18c"}, parent.Open("0705e18c"), ours)
	if err != nil {
		t.Fatal(err)
	}
	if p.Pid() != cmd.Process.Pid {
		t.Errorf("PID %d, want %d", p.Pid(), cmd.Process.Pid)
	}
	if err := theirs.Close(); err != nil { // then it kills what nobody looks after
		t.Fatal(err)
	}
	p.Wait()
	_, _ = cmd.Wait(), unix.Close(pidfd)
}
