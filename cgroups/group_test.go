package cgroups

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// hosts are this host as it is and, on a hybrid one, its empty v2 tree: it has
// no controllers, but it freezes and kills.
func hosts(t testing.TB) map[string]*Host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP: cgroups need root")
	}
	host, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*Host{fmt.Sprintf("v%d", host.Version): host}
	unified := filepath.Join(Root, "unified")
	var st unix.Statfs_t
	if host.Version == 1 && unix.Statfs(unified, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		all["v2 of a hybrid"] = &Host{Version: 2, hierarchies: []hierarchy{{unified, nil}}}
	}
	return all
}

func parent(t testing.TB, host *Host) *Parent {
	t.Helper()
	p, err := host.Parent(fmt.Sprintf("docker2013-test-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, name := range names(p) {
			if err := errors.Join(p.Open(name).Kill(), p.Open(name).Remove()); err != nil {
				t.Error(err)
			}
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// names are the containers' cgroups in it.
func names(p *Parent) (list []string) {
	for _, h := range p.host.hierarchies {
		entries, _ := os.ReadDir(filepath.Join(h.dir, p.name)) // gone: none
		for _, e := range entries {
			if e.IsDir() && !slices.Contains(list, e.Name()) {
				list = append(list, e.Name())
			}
		}
	}
	return list
}

// join starts a shell that enters the cgroup as a container does, and then runs
// the script. Its PID is the first line.
func join(t *testing.T, g *Group, script string) *exec.Cmd {
	t.Helper()
	j, err := g.Join()
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	cmd := exec.Command("/bin/bash", "-c", script) // sh knows descriptors up to 9 only
	cmd.Stderr = os.Stderr
	enter := ""
	for i, fd := range j.Tasks {
		f := os.NewFile(uintptr(fd), "tasks")
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		enter += fmt.Sprintf("echo 0 >&%d; ", 3+i)
	}
	if j.Into >= 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: j.Into}
	}
	cmd.Args[2] = enter + "exec /bin/sh -c '" + script + "'"
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestLifeOfAGroup(t *testing.T) {
	for name, host := range hosts(t) {
		t.Run(name, func(t *testing.T) {
			p := parent(t, host)
			g, err := p.Create("0705e18c", Plan{})
			if err != nil {
				t.Fatal(err)
			}
			cmd := join(t, g, "sleep 1000 & wait")
			eventually(t, "two processes", func() bool { pids, err := g.Pids(); return err == nil && len(pids) == 2 })
			pids, _ := g.Pids()
			if !slices.Contains(pids, cmd.Process.Pid) {
				t.Errorf("processes %v, want %d", pids, cmd.Process.Pid)
			}
			if err := g.Freeze(); err != nil {
				t.Fatal(err)
			}
			if err := g.Freeze(); err != nil {
				t.Errorf("twice: %v", err)
			}
			if err := g.Thaw(); err != nil {
				t.Fatal(err)
			}
			if err := g.Freeze(); err != nil { // the frozen die too
				t.Fatal(err)
			}
			if err := p.Open("nosuch").End(); err != nil {
				t.Errorf("End of nothing: %v", err)
			}
			if err := g.Kill(); err != nil {
				t.Fatal(err)
			}
			if pids, err := g.Pids(); err != nil || pids == nil || len(pids) != 0 {
				t.Errorf("after Kill: %#v, %v", pids, err)
			}
			for range 2 {
				if err := g.Remove(); err != nil {
					t.Error(err)
				}
			}
			if g, err = p.Create("busy", Plan{}); err != nil {
				t.Fatal(err)
			}
			join(t, g, "sleep 1000")
			eventually(t, "a process", func() bool { pids, err := g.Pids(); return err == nil && len(pids) > 0 })
			if err := g.End(); err != nil {
				t.Error(err)
			}
			if left := names(p); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestLimitsHold(t *testing.T) {
	for name, host := range hosts(t) {
		if !host.has("memory") || !host.has("pids") {
			continue // the empty tree of a hybrid host
		}
		t.Run(name, func(t *testing.T) {
			p := parent(t, host)
			plan, err := host.Plan(&specs.LinuxResources{
				Memory: &specs.LinuxMemory{Limit: new(int64(16 << 20))}, Pids: &specs.LinuxPids{Limit: new(int64(5))}})
			if err != nil {
				t.Fatal(err)
			}
			g, err := p.Create("limited", plan)
			if err != nil {
				t.Fatal(err)
			}
			if s := g.Stats(); s.MemoryLimit != 16<<20 || s.Pids != 0 || s.CPU < 0 {
				t.Errorf("stats %+v", s)
			}
			if g.OOMKills() != 0 {
				t.Error("killed before anything ran")
			}
			cmd := join(t, g, "exec dd if=/dev/zero of=/dev/null bs=64M count=1")
			cmd.Stderr = nil
			if err := cmd.Wait(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Errorf("with 64 MiB of 16: %v", err)
			}
			if g.OOMKills() == 0 {
				t.Error("the kernel's kill wasn't counted")
			}
			var stderr bytes.Buffer
			many := join(t, g, "for i in 1 2 3 4 5 6 7 8; do sleep 2 & done; wait")
			many.Stderr = &stderr
			eventually(t, "five processes", func() bool { return g.Stats().Pids == 5 })
		})
	}
}

// What a rule doesn't allow is refused, also beside what it allows: /dev/zero may
// be read and is opened to read and write.
func TestDevices(t *testing.T) {
	rule := func(allow bool, kind string, major, minor int64, access string) specs.LinuxDeviceCgroup {
		return specs.LinuxDeviceCgroup{Allow: allow, Type: kind, Major: &major, Minor: &minor, Access: access}
	}
	for name, host := range hosts(t) {
		if host.Version == 1 && !host.has("devices") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			p := parent(t, host)
			plan, err := host.Plan(&specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{
				{}, rule(true, "c", -1, -1, "m"), rule(true, "c", 1, 3, "rwm"), rule(true, "c", 1, 5, "r"),
				rule(true, "c", 1, 7, ""), rule(false, "c", 1, 7, "w"), rule(true, "b", 1, 8, "rwm"),
			}})
			if err != nil {
				t.Fatal(err)
			}
			g, err := p.Create("devices", plan)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "seen")
			script := "for f in null zero full random; do for how in r w rw; do " +
				"case $how in r) true </dev/$f;; w) true >/dev/$f;; rw) true <>/dev/$f;; esac 2>&- && echo $f $how; " +
				"done; done >" + file + "; true"
			cmd := join(t, g, script)
			if err := cmd.Wait(); err != nil {
				t.Fatal(err)
			}
			seen, err := os.ReadFile(file)
			if want := "null r\nnull w\nnull rw\nzero r\nfull r\n"; err != nil || string(seen) != want {
				t.Errorf("could open %q, %v; want %q", seen, err, want)
			}
		})
	}
}

// A plan that can't be written leaves nothing.
func TestCreateFails(t *testing.T) {
	for name, host := range hosts(t) {
		if !host.has("memory") {
			continue
		}
		p := parent(t, host)
		_, err := p.Create("broken", Plan{Writes: []Write{{"memory", "memory.no_such_file", "1"}}})
		if err == nil || !strings.Contains(err.Error(), "no_such_file") {
			t.Errorf("%s: %v", name, err)
		}
		if left := names(p); len(left) != 0 {
			t.Errorf("%s: left %v", name, left)
		}
	}
}

// A parent that can't be made is an error.
func TestParentFails(t *testing.T) {
	for name, host := range hosts(t) {
		if p, err := host.Parent("cgroup.procs/x"); err == nil || p != nil {
			t.Errorf("%s: %v, %v; want an error", name, p, err)
		}
	}
}

// BenchmarkCreate is what a container's start waits for.
func BenchmarkCreate(b *testing.B) {
	host, err := Detect()
	if err != nil || os.Geteuid() != 0 {
		b.Skip("SKIP: cgroups need root")
	}
	p := parent(b, host)
	for b.Loop() {
		g, err := p.Create("bench", Plan{})
		if err != nil {
			b.Fatal(err)
		}
		j, err := g.Join()
		if err != nil {
			b.Fatal(err)
		}
		j.Close()
		if err := g.Remove(); err != nil {
			b.Fatal(err)
		}
	}
}
