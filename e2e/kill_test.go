package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKilledAnywhere kills the daemon, or a container's shim, at random points of
// runs on the modern path. After each the next daemon must find the truth: no exit
// code made up, no line of a log lost or doubled. That nothing is left in the
// kernel, the census says at the end of all tests.
func TestKilledAnywhere(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: -short")
	}
	rounds := 20
	if n, err := strconv.Atoi(os.Getenv("KILLS")); err == nil {
		rounds = n
	}
	work, err := os.MkdirTemp(filepath.Dir(binaries), "kills-") // where the census looks
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{work: work, cgroup: fmt.Sprintf("docker2013-test-%d-kills", os.Getpid())}
	defer d.end()
	if err := d.start(nil); err != nil {
		t.Fatal(err)
	}
	docker := func(args ...string) (string, string, int) {
		cmd := exec.Command(filepath.Join(binaries, "docker2013"), args...)
		cmd.Env = append(os.Environ(), "DOCKER="+d.tcp, "DOCKER2013_PATH=modern")
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		_ = cmd.Run()
		return strings.TrimSpace(out.String()), errs.String(), cmd.ProcessState.ExitCode()
	}
	if _, errs, code := docker("pull", "base"); code != 0 {
		t.Fatal(errs)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	ending := regexp.MustCompile(`Exit 7\b|Exit 125\b|Exit 255\b|Created`)
	for round := range rounds {
		ended := make(chan struct{})
		go func() { // it may lose its daemon
			defer close(ended)
			docker("run", "base", "/bin/bash", "-c", `for i in {1..50}; do echo line $i; done; sleep 0.0$((RANDOM % 10)); echo last; exit 7`)
		}()
		time.Sleep(time.Duration(random.IntN(60_000)) * time.Microsecond)
		what := "daemon"
		if random.IntN(3) == 0 {
			what = "shim"
			for _, pid := range shims(t, d.cmd.Process.Pid) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			<-ended
		} else {
			if err := d.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			<-d.exited
			d.cmd = nil
			<-ended
			time.Sleep(time.Duration(random.IntN(30_000)) * time.Microsecond)
			if err := d.start(nil); err != nil {
				t.Fatal(err)
			}
		}
		list, errs, code := docker("ps", "-a", "-q")
		if code != 0 {
			t.Fatalf("round %d, %s killed: ps: %s", round, what, errs)
		}
		for _, id := range strings.Fields(list) {
			docker("wait", id)
			status, _, _ := docker("ps", "-a")
			for line := range strings.Lines(status) {
				if !strings.HasPrefix(line, id) {
					continue
				}
				want := complete
				switch fields := ending.FindStringSubmatch(line); {
				case fields == nil:
					t.Errorf("round %d, %s killed: %s", round, what, line)
					continue
				case fields[0] == "Exit 255": // nobody knows, of its output neither
					continue
				case fields[0] == "Created", fields[0] == "Exit 125": // and never started
					want = ""
				}
				if out, _, _ := docker("logs", id); out != want {
					t.Errorf("round %d, %s killed: %s with the log %q", round, what, line, out)
				}
			}
			if _, errs, code := docker("rm", id); code != 0 {
				t.Errorf("round %d, %s killed: rm: %s", round, what, errs)
			}
		}
	}
}

var complete = func() string {
	var b strings.Builder
	for i := range 50 {
		fmt.Fprintf(&b, "line %d\n", i+1)
	}
	return b.String() + "last"
}()

// shims are the shims that a daemon has started.
func shims(t *testing.T, daemon int) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		stat, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		f := strings.Fields(string(stat))
		if bytes.HasPrefix(cmdline, []byte("docker2013-shim\x00")) && len(f) > 3 && f[3] == strconv.Itoa(daemon) {
			pids = append(pids, pid)
		}
	}
	return pids
}
