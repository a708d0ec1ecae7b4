package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestPodman has Debian's podman run containers with our runtime, from an image
// that is our base.
func TestPodman(t *testing.T) {
	if _, err := exec.LookPath("podman"); err != nil {
		t.Skip("SKIP: no podman: sudo scripts/setup.sh podman")
	}
	// podman takes 50 characters for its --runroot at most.
	work := filepath.Join(filepath.Dir(binaries), fmt.Sprintf("p%d", daemons.Add(1)))
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	// By a script: podman 4.3 forgets its --runtime-flag when it deletes.
	script := fmt.Sprintf("#!/bin/sh\nexec %s/docker2013-oci --root %s/state \"$@\"\n", binaries, work)
	if err := os.WriteFile(work+"/runtime", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	cgroup := fmt.Sprintf("docker2013-test-%d-podman", os.Getpid())
	p := &podman{t: t, args: []string{
		"--root", work + "/root", "--runroot", work + "/run", "--tmpdir", work + "/tmp", "--storage-driver", "vfs",
		"--events-backend", "none", "--cgroup-manager", "cgroupfs",
		"--runtime", work + "/runtime",
	}}
	defer p.end(work, cgroup)
	p.must("import", baseTar(t, work), "base")

	// A host may let nobody raise a limit, and podman would.
	run := []string{"run", "--network", "none", "--cgroup-parent", "/" + cgroup, "--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"}
	ids := []string{"--uidmap", "0:300000:65536", "--gidmap", "0:300000:65536"}
	for name, x := range map[string]struct {
		args   []string
		output string
		code   int
	}{
		"its output and its code":    {[]string{"base", "/bin/bash", "-c", "echo hello; exit 7"}, "hello", 7},
		"it is PID 1, in a new host": {[]string{"-h", "inside", "base", "/bin/bash", "-c", "echo $$ $(</proc/sys/kernel/hostname)"}, "1 inside", 0},
		"no such program":            {[]string{"base", "nosuch"}, "", 127},
		"no program":                 {[]string{"base", "/etc"}, "", 126},
		"a user":                     {[]string{"-u", "1000:1001", "base", "/bin/bash", "-c", "echo $UID; echo >/dev/stderr"}, "1000", 0},
		"limits":                     {[]string{"-m", "64m", "--pids-limit", "20", "base", "/bin/true"}, "", 0},
		"a read-only root":           {[]string{"--read-only", "base", "/bin/bash", "-c", "echo >/tmp/x && ! echo >/x"}, "", 0},
		"a volume":                   {[]string{"-v", work + ":/here:ro", "base", "/bin/bash", "-c", "cd /here && ! echo 2>/dev/null >x && echo *"}, "base.tar root run runtime", 0},
		"privileged":                 {[]string{"--privileged", "base", "/bin/bash", "-c", "echo >/proc/sys/net/ipv4/ip_forward 1"}, "", 0},
		"a device":                   {[]string{"--device", "/dev/full:/dev/mine", "base", "/bin/bash", "-c", "! echo >/dev/mine"}, "", 0},
		"other ids":                  {append(ids, "-v", work+":/here:ro", "base", "/bin/sh", "-c", "echo $(id -u) $(tr -s ' ' </proc/self/uid_map) $(stat -c %u:%g /bin /etc/passwd) $(touch /made && stat -c %u /made) $(cat /here/base.tar | head -c 1 | wc -c)"), "0 0 300000 65536 0:0 0:0 0 1", 0},
		"other ids, another user":    {append(ids, "-u", "5:6", "--read-only", "base", "/bin/sh", "-c", "id -u; echo >/dev/stderr; echo x >/tmp/x; ! touch /x"), "5", 0},
		"other ids, a device":        {append(ids, "--device", "/dev/full:/dev/mine", "base", "/bin/sh", "-c", "! echo 2>/dev/null >/dev/mine"), "", 0},
		"the host's PIDs":            {[]string{"--pid", "host", "base", "/bin/bash", "-c", "test $$ -gt 1"}, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			out, code := p.run(append(append([]string{}, append(run, "--rm")...), x.args...)...)
			if code != x.code || !strings.HasPrefix(out, x.output) {
				t.Errorf("exit code %d, want %d; output %q, want %q", code, x.code, out, x.output)
			}
		})
	}

	// A life in the background.
	p.must(append(append([]string{}, run...), "-d", "--name", "long", "base", "/bin/sleep", "1000")...)
	if out := p.must("exec", "long", "/bin/bash", "-c", "echo $$ in $(</proc/1/comm)"); !strings.Contains(out, "in sleep") {
		t.Errorf("exec: %q", out)
	}
	if _, code := p.run("exec", "long", "/bin/bash", "-c", "exit 5"); code != 5 {
		t.Errorf("exec ended with %d", code)
	}
	p.must("pause", "long")
	if out := p.must("ps", "-a", "--format", "{{.State}}"); out != "Paused" {
		t.Errorf("paused: %q", out)
	}
	p.must("unpause", "long")
	// Two in the namespaces of one.
	out := p.must("run", "--rm", "--pid", "container:long", "--network", "container:long", "--ipc", "container:long", "--cgroup-parent", "/"+cgroup,
		"--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000", "base", "/bin/bash", "-c", "echo $(</proc/1/comm)")
	if out != "sleep" {
		t.Errorf("in another's PID namespace: %q", out)
	}
	// One with ids of its own, and another in its user namespace.
	p.must(append(append(append([]string{}, run...), ids...), "-d", "--name", "mapped", "base", "/bin/sleep", "1000")...)
	if out := p.must("exec", "mapped", "/bin/sh", "-c", "id -u; cat /proc/self/uid_map"); !regexp.MustCompile(`^0\s+0\s+300000\s+65536$`).MatchString(out) {
		t.Errorf("exec with other ids: %q", out)
	}
	if out := p.must(append(append([]string{}, run...), "--rm", "--userns", "container:mapped", "--pid", "container:mapped", "base", "/bin/sh", "-c", "id -u; cat /proc/1/comm")...); out != "0\nsleep" {
		t.Errorf("in another's user namespace: %q", out)
	}
	p.must("kill", "mapped")
	p.must("wait", "mapped")
	p.must("rm", "mapped")
	p.must("kill", "long")
	if out := p.must("wait", "long"); out != "137" {
		t.Errorf("wait: %q", out)
	}
	p.must("rm", "long")
	if entries, err := os.ReadDir(work + "/state"); err != nil || len(entries) > 0 {
		t.Errorf("the runtime's state has %v, %v", entries, err)
	}
}

type podman struct {
	t    *testing.T
	args []string
}

// run calls podman; the output is of both streams.
func (p *podman) run(args ...string) (string, int) {
	p.t.Helper()
	out, err := exec.Command("podman", append(append([]string{}, p.args...), args...)...).CombinedOutput()
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		p.t.Fatal(err)
	}
	text := strings.TrimSpace(string(out))
	if code > 7 {
		p.t.Logf("podman %s: %s", strings.Join(args, " "), text)
		if code >= 125 {
			text = ""
		}
	}
	return text, code
}

func (p *podman) must(args ...string) string {
	p.t.Helper()
	out, code := p.run(args...)
	if code != 0 {
		p.t.Fatalf("podman %s: exit code %d: %s", strings.Join(args, " "), code, out)
	}
	return out
}

// end removes what podman leaves: its containers, its mounts, its cgroups.
func (p *podman) end(work, cgroup string) {
	p.run("rm", "--all", "--force", "--time", "0")
	unmountBelow(p.t, work)
	removeCgroups(cgroup)
}

// baseTar is the image base of our own daemon, as a tar.
func baseTar(t *testing.T, work string) string {
	t.Helper()
	d := &daemon{work: work + "-daemon", cgroup: fmt.Sprintf("docker2013-test-%d-base", os.Getpid())}
	if err := os.Mkdir(d.work, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := d.start(nil); err != nil {
		t.Fatal(err)
	}
	defer d.end()
	layers := ""
	for _, args := range [][]string{{"pull", "base"}, {"layers"}} {
		cmd := exec.Command(filepath.Join(binaries, "docker2013"), args...)
		cmd.Env = append(os.Environ(), "DOCKER="+d.tcp)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("docker2013 %v: %v", args, err)
		}
		layers = strings.TrimSpace(string(out))
	}
	file := work + "/base.tar"
	if out, err := exec.Command("tar", "-C", layers, "-cf", file, ".").CombinedOutput(); err != nil {
		t.Fatalf("tar %s: %v: %s", layers, err, out)
	}
	return file
}
