package launch

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func program(calls ...Call) *Program { return &Program{Into: -1, PidNamespace: -1, Calls: calls} }

func execve(path string, argv ...string) Call {
	return Call{Name: "execute " + path, Number: unix.SYS_EXECVE, Args: []Arg{String(path), Strings(append([]string{path}, argv...)), Strings([]string{"A=b"})}}
}

// run runs a program and returns how its process ended.
func run(t *testing.T, p *Program, files ...int) (unix.WaitStatus, error) {
	t.Helper()
	back, err := Decode(p.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back.Encode(), p.Encode()) {
		t.Fatal("the program changed on its way")
	}
	pid, pidfd, err := back.Run(files, nil)
	if err != nil {
		return 0, err
	}
	defer unix.Close(pidfd)
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
		t.Fatal(err)
	}
	return status, nil
}

func TestExitStatus(t *testing.T) {
	status, err := run(t, program(execve("/bin/sh", "-c", `test $A = b && exit 7`)))
	if err != nil || status.ExitStatus() != 7 {
		t.Errorf("%v, %v", status, err)
	}
}

func TestNewNamespaces(t *testing.T) {
	p := program(
		Call{Name: "hostname", Number: unix.SYS_SETHOSTNAME, Args: []Arg{String("inside"), Number(6)}},
		execve("/bin/sh", "-c", `test $(hostname) = inside && test $$ = 1`))
	p.Flags = unix.CLONE_NEWUTS | unix.CLONE_NEWPID
	status, err := run(t, p)
	if errors.Is(err, unix.EPERM) && os.Geteuid() != 0 {
		t.Skip("SKIP: namespaces need root")
	}
	if err != nil || status.ExitStatus() != 0 {
		t.Errorf("%v, %v", status, err)
	}
	if name, err := os.Hostname(); err != nil || name == "inside" {
		t.Errorf("our own hostname is %q, %v", name, err)
	}
}

// The pidfd is the new process's, also where Go moves stacks all the time.
func TestPidfdOnAMovingStack(t *testing.T) {
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case <-done:
				return
			default:
				runtime.GC() // it halves the stacks that are too large
			}
		}
	}()
	for range 200 {
		lost := make(chan bool)
		go func() {
			grow(100)
			pid, pidfd, err := program(execve("/bin/true")).Run(nil, nil)
			if err != nil {
				t.Error(err)
				lost <- true
				return
			}
			lost <- unix.PidfdSendSignal(pidfd, 0, nil, 0) != nil
			_ = unix.Close(pidfd)
			_, _ = unix.Wait4(pid, nil, 0, nil)
		}()
		if <-lost {
			t.Fatal("no pidfd")
		}
	}
}

// grow makes the stack grow.
func grow(n int) byte {
	var room [1024]byte
	if n > 0 {
		room[n] = grow(n - 1)
	}
	return room[n/2]
}

// What fails is told, by name and reason, and no process is left.
func TestFailures(t *testing.T) {
	for name, x := range map[string]struct {
		calls []Call
		call  string
		errno unix.Errno
	}{
		"a call":  {[]Call{{Name: "open nothing", Number: unix.SYS_OPENAT, Args: []Arg{Number(unix.AT_FDCWD), String("/no/such"), Number(0)}}}, "open nothing", unix.ENOENT},
		"execve":  {[]Call{execve("/no/such")}, "execute /no/such", unix.ENOENT},
		"no call": {[]Call{{Name: "nonsense", Number: 60000}}, "nonsense", unix.ENOSYS},
		"another error than the one that is fine": {
			[]Call{{Name: "close 999", Number: unix.SYS_CLOSE, Args: []Arg{Number(999)}, Ok: []unix.Errno{unix.ENOENT}}}, "close 999", unix.EBADF},
	} {
		_, err := run(t, program(x.calls...))
		f, ok := errors.AsType[*Failure](err)
		if !ok || f.Call != x.call || f.Errno != x.errno {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Go's own check of pidfds has a child for a moment (os.checkPidfd).
	pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
	for range 100 {
		if err == unix.ECHILD {
			return
		}
		time.Sleep(10 * time.Millisecond)
		pid, err = unix.Wait4(-1, nil, unix.WNOHANG, nil)
	}
	t.Errorf("a child is left: %d, %v", pid, err)
}

// Results can be used by later calls, files given along, failures skipped over.
func TestSlotsFilesAndSkips(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := program(
		Call{Name: "open nothing", Number: unix.SYS_OPENAT, Args: []Arg{Number(unix.AT_FDCWD), String("/no/such"), Number(0)}, Keep: 1, Ok: []unix.Errno{unix.ENOENT}, Skip: 1},
		Call{Name: "never made", Number: unix.SYS_EXIT, Args: []Arg{Number(1)}},
		Call{Name: "dup", Number: unix.SYS_DUP, Args: []Arg{File(0)}, Keep: 2},
		Call{Name: "dup2", Number: unix.SYS_DUP3, Args: []Arg{Slot(2), Number(1), Number(0)}},
		execve("/bin/echo", "through a slot"))
	status, err := run(t, p, int(w.Fd()))
	w.Close()
	if err != nil || status.ExitStatus() != 0 {
		t.Fatalf("%v, %v", status, err)
	}
	b := make([]byte, 100)
	n, err := r.Read(b)
	if err != nil || string(b[:n]) != "through a slot\n" {
		t.Errorf("%q, %v", b[:n], err)
	}
}

// The new process has its maker's descriptors only where they go with the program:
// here the reading end of a pipe, not the writing one.
func TestOnlyTheProgramsFiles(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	want := []string{"0", "1", "2", fmt.Sprint(ErrorFD), fmt.Sprint(r.Fd())}
	slices.Sort(want)
	p := program(Call{Name: "wait", Number: unix.SYS_READ, Args: []Arg{File(0), Bytes(make([]byte, 1)), Number(1)}}, execve("/bin/true"))
	_, pidfd, err := p.Run([]int{int(r.Fd())}, func(pid, _ int) error {
		defer w.Close()
		var have []string
		for range 500 {
			entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
			if err != nil {
				return err
			}
			have = nil
			for _, e := range entries {
				have = append(have, e.Name())
			}
			slices.Sort(have)
			if slices.Equal(have, want) {
				return nil
			}
			time.Sleep(10 * time.Millisecond)
		}
		return fmt.Errorf("it has %v, want %v", have, want)
	})
	if err != nil {
		t.Fatal(err)
	}
	var info unix.Siginfo
	if err := errors.Join(unix.Waitid(unix.P_PIDFD, pidfd, &info, unix.WEXITED, nil), unix.Close(pidfd)); err != nil {
		t.Error(err)
	}
}

func TestBadPrograms(t *testing.T) {
	if _, _, err := program(Call{Name: "x", Args: []Arg{File(3)}}).Run(nil, nil); err == nil {
		t.Error("a descriptor that isn't there was taken")
	}
	if _, _, err := program(Call{Name: "x", Args: []Arg{Slot(0)}}).Run(nil, nil); err == nil {
		t.Error("a slot that isn't there was taken")
	}
	good := program(execve("/bin/true")).Encode()
	for i := range good {
		if _, err := Decode(good[:i]); err == nil {
			t.Errorf("%d of %d bytes are a program", i, len(good))
		}
	}
	if _, err := Decode(append(good, 0)); err == nil {
		t.Error("a program with something behind it is one")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(program(execve("/bin/true")).Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Decode(data)
		if err != nil {
			return
		}
		if again, err := Decode(p.Encode()); err != nil || !reflect.DeepEqual(p, again) {
			t.Errorf("%+v became %+v, %v", p, again, err)
		}
	})
}

// BenchmarkRun is the cost of a process that does nothing, in new namespaces.
func BenchmarkRun(b *testing.B) {
	p := program(execve("/bin/true"))
	p.Flags = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWPID | unix.CLONE_NEWNET
	if os.Geteuid() != 0 {
		b.Skip("SKIP: namespaces need root")
	}
	for b.Loop() {
		pid, pidfd, err := p.Run(nil, nil)
		if err != nil {
			b.Fatal(err)
		}
		unix.Close(pidfd)
		if _, err := unix.Wait4(pid, nil, 0, nil); err != nil {
			b.Fatal(err)
		}
	}
}
