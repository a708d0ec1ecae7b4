package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// engine is a daemon of somebody else's, with folders and sockets of its own.
type engine struct {
	t      *testing.T
	work   string
	client []string
}

// startEngine starts one, and waits until its client answers to ready. It is ended with
// the test, and so are the mounts that it leaves.
func startEngine(t *testing.T, work string, client, ready []string, program string, args ...string) *engine {
	t.Helper()
	log, err := os.Create(filepath.Join(work, program+".log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, work
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	said := func() string { data, _ := os.ReadFile(log.Name()); return string(data) }
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			t.Errorf("%s doesn't end: %s", program, said())
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("%s said: %s", program, said())
		}
		unmountBelow(t, work)
	})
	e := &engine{t, work, client}
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, code := e.run(ready...); code == 0 {
			return e
		}
		select {
		case <-ended:
			ended <- nil
			t.Fatalf("%s has ended: %s", program, said())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s doesn't answer", program)
		}
	}
}

// run runs its client; the output is of both streams.
func (e *engine) run(args ...string) (string, int) {
	e.t.Helper()
	out, err := exec.Command(e.client[0], append(append([]string{}, e.client[1:]...), args...)...).CombinedOutput()
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		e.t.Fatal(err)
	}
	return strings.TrimSpace(string(out)), code
}

// says has a command succeed, and say something.
func (e *engine) says(want string, args ...string) {
	e.t.Helper()
	if out, code := e.run(args...); code != 0 || !strings.Contains(out, want) {
		e.t.Errorf("%s %s: exit code %d; %q, want %q", e.client[0], strings.Join(args, " "), code, out, want)
	}
}

// fails has a command end with a code, and say something.
func (e *engine) fails(code int, want string, args ...string) {
	e.t.Helper()
	if out, got := e.run(args...); got != code || !strings.Contains(out, want) {
		e.t.Errorf("%s %s: exit code %d, want %d; %q, want %q", e.client[0], strings.Join(args, " "), got, code, out, want)
	}
}

// needPrograms skips a test without them.
func needPrograms(t *testing.T, pkg string, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("not on this host: no %s: apt-get install %s", name, pkg)
		}
	}
}

// engineFolder is for an engine and all that it makes: unix sockets' paths are short.
func engineFolder(t *testing.T) string {
	work := filepath.Join(filepath.Dir(binaries), fmt.Sprintf("e%d", daemons.Add(1)))
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	return work
}

func startContainerd(t *testing.T, work string) *engine {
	config := fmt.Sprintf(`version = 2
root = "%[1]s/root"
state = "%[1]s/run"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
	"io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt"]
[grpc]
address = "%[1]s/sock"
[ttrpc]
address = "%[1]s/ttrpc"
`, work)
	if err := os.WriteFile(work+"/containerd.toml", []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	return startEngine(t, work, []string{"ctr", "--address", work + "/sock"}, []string{"version"}, "containerd", "--log-level", "warn", "--config", work+"/containerd.toml")
}

// unpackBase makes a folder of our image base.
func unpackBase(t *testing.T, work string) string {
	root := work + "/rootfs"
	tar := baseTar(t, work)
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-C", root, "-xf", tar).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	return root
}

// TestContainerd has Debian's containerd run containers with our runtime.
func TestContainerd(t *testing.T) {
	needPrograms(t, "containerd", "containerd", "ctr", "containerd-shim-runc-v2")
	work := engineFolder(t)
	rootfs := unpackBase(t, work)
	cgroup := fmt.Sprintf("docker2013-test-%d-containerd", os.Getpid())
	t.Cleanup(func() { removeCgroups(cgroup) })
	c := startContainerd(t, work)
	run := func(more ...string) []string {
		return append([]string{"run", "--runc-binary", binaries + "/docker2013-oci", "--runc-root", work + "/state", "--cgroup", "/" + cgroup + "/c"}, more...)
	}
	c.fails(7, "hello", run("--rm", "--rootfs", rootfs, "one", "/bin/sh", "-c", "echo hello; exit 7")...)
	c.says("1", run("--rm", "--rootfs", rootfs, "one", "/bin/sh", "-c", "echo $$")...)
	c.fails(1, "executable file not found", run("--rm", "--rootfs", rootfs, "one", "nosuch")...)
	c.says("", run("-d", "--memory-limit", "67108864", "--rootfs", rootfs, "long", "/bin/sleep", "1000")...)
	c.says("in sleep", "task", "exec", "--exec-id", "x", "long", "/bin/sh", "-c", "echo in $(cat /proc/1/comm)")
	c.fails(5, "", "task", "exec", "--exec-id", "x", "long", "/bin/sh", "-c", "exit 5")
	c.says("", "task", "pause", "long")
	c.says("PAUSED", "task", "ls")
	c.says("", "task", "resume", "long")
	c.says("RUNNING", "task", "ls")
	c.says("", "task", "metrics", "long")
	c.says("", "task", "kill", "--signal", "KILL", "long")
	c.says("exit code 137", "task", "delete", "long")
	c.says("", "container", "delete", "long")
	if entries, err := os.ReadDir(work + "/state/default"); err != nil || len(entries) > 0 {
		t.Errorf("the runtime's state has %v, %v", entries, err)
	}

	// ctr maps ids for its own images alone, so a configuration says it.
	if out, err := exec.Command("sh", "-c", "chown -R 300000:300000 "+rootfs+" && "+binaries+"/docker2013-oci spec --bundle "+work).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ids := []any{map[string]any{"containerID": 0, "hostID": 300000, "size": 65536}}
	patchConfig(t, work+"/config.json", map[string]any{
		"process": map[string]any{"terminal": false, "rlimits": nil, "args": []any{"/bin/sh", "-c", "echo $(cat /proc/self/uid_map)"}},
		"root":    map[string]any{"path": rootfs},
		"linux":   map[string]any{"cgroupsPath": "/" + cgroup + "/c", "+namespaces": []any{map[string]any{"type": "user"}}, "uidMappings": ids, "gidMappings": ids},
	})
	c.says("0 300000 65536", "run", "--rm", "--runc-binary", binaries+"/docker2013-oci", "--runc-root", work+"/state", "--config", work+"/config.json", "one")
}

// TestDocker has Debian's Docker run containers with our runtime.
func TestDocker(t *testing.T) {
	needPrograms(t, "docker.io", "dockerd", "docker", "containerd", "containerd-shim-runc-v2")
	work := engineFolder(t)
	tar := baseTar(t, work)
	cgroup := fmt.Sprintf("docker2013-test-%d-docker", os.Getpid())
	t.Cleanup(func() { removeCgroups(cgroup) })
	if err := os.WriteFile(work+"/docker.json", []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	startContainerd(t, work)
	d := startEngine(t, work, []string{"docker", "--config", work + "/client", "--host", "unix://" + work + "/docker.sock"}, []string{"info"},
		"dockerd", "--log-level", "warn", "--config-file", work+"/docker.json", "--data-root", work+"/data", "--exec-root", work+"/exec", "--pidfile", work+"/docker.pid",
		"--host", "unix://"+work+"/docker.sock", "--containerd", work+"/sock", "--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false",
		"--storage-driver", "vfs", "--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", "/"+cgroup,
		"--add-runtime", "ours="+binaries+"/docker2013-oci", "--default-runtime", "ours")
	d.says("sha256:", "import", tar, "base")
	run := func(more ...string) []string { return append([]string{"run", "--network", "none"}, more...) }
	d.says("ours", "info", "--format", "{{.DefaultRuntime}}")
	d.fails(7, "hello", run("--rm", "base", "/bin/sh", "-c", "echo hello; exit 7")...)
	d.fails(127, "executable file not found", run("--rm", "base", "nosuch")...)
	d.fails(126, "permission denied", run("--rm", "base", "/etc")...)
	d.says("1000 inside", run("--rm", "-u", "1000", "-h", "inside", "-m", "64m", "--pids-limit", "20", "base", "/bin/sh", "-c", "echo $(id -u) $(hostname)")...)
	d.says("Seccomp: 2", run("--rm", "--read-only", "--init", "base", "/bin/sh", "-c", "! touch /x 2>/dev/null && echo $(grep Seccomp: /proc/self/status)")...)
	d.says("/dev/pts/0", run("--rm", "-t", "base", "tty")...)
	d.says("", run("--rm", "--privileged", "base", "/bin/sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")...)
	d.says("", run("-d", "--name", "long", "base", "/bin/sleep", "1000")...)
	d.says("in sleep", "exec", "long", "/bin/sh", "-c", "echo in $(cat /proc/1/comm)")
	d.fails(5, "", "exec", "long", "/bin/sh", "-c", "exit 5")
	d.says("", "pause", "long")
	d.says("Paused", "ps")
	d.says("", "unpause", "long")
	d.says("", "update", "--pids-limit", "30", "long")
	d.says("sleep", "top", "long")
	d.says("", "stop", "-t", "0", "long")
	d.says("137", "inspect", "-f", "{{.State.ExitCode}}", "long")
	d.says("", "start", "long")
	d.says("", "rm", "-f", "long")
}

// unmountBelow unmounts what somebody has left below a folder.
func unmountBelow(t *testing.T, work string) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if target := strings.Fields(line)[1]; strings.HasPrefix(target, work+"/") {
			if out, err := exec.Command("umount", "-l", target).CombinedOutput(); err != nil {
				t.Errorf("umount: %v: %s", err, out)
			}
		}
	}
}

// removeCgroups removes what somebody has left of a cgroup: podman, say, conmon's. What
// can't be removed, the census tells.
func removeCgroups(cgroup string) {
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + cgroup)
	more, _ := filepath.Glob("/sys/fs/cgroup/" + cgroup)
	for _, dir := range append(dirs, more...) {
		_ = exec.Command("find", dir, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";").Run()
	}
}
