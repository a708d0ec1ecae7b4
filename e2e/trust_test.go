package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"docker2013/e2e/trust"
)

// TestTrustDocument holds docs/trust.md equal to the table.
func TestTrustDocument(t *testing.T) {
	const file = "../docs/trust.md"
	if *update {
		if err := os.WriteFile(file, []byte(trust.Document()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil || string(have) != trust.Document() {
		t.Errorf("%s isn't the table (%v): go test ./e2e -run TestTrustDocument -update", file, err)
	}
}

// TestTrust makes all tries of package trust on both paths, and those from inside
// under runc too. One daemon serves them all.
func TestTrust(t *testing.T) {
	d := trustDaemon(t)
	_, err := os.Stat("/sys/kernel/security/apparmor/profiles")
	apparmor := err == nil
	before := hostState(t)
	modern := map[string]string{}
	for _, path := range []string{"classic", "modern"} {
		wanted := func(classic, modern string) string {
			if path == "classic" {
				return classic
			}
			return modern
		}
		answers := parseAnswers(d.client(t, path, d.run("/probe")...))
		if path == "modern" {
			modern = answers
		}
		t.Run(path+"/by exec", func(t *testing.T) {
			// Who comes later, by exec, is no less confined.
			id := strings.TrimSpace(d.client(t, path, append(d.run("/bin/sleep", "-d"), "1000")...))
			byExec := parseAnswers(d.client(t, path, append(append([]string{"exec"}, d.hints()...), id, "/probe")...))
			for name, answer := range answers {
				if byExec[name] != answer && name != "pids" { // which sees the sleep
					t.Errorf("%s: the answer is %q, and %q in the container itself", name, byExec[name], answer)
				}
			}
		})
		for _, s := range trust.Table {
			for _, p := range s.Probes {
				t.Run(path+"/"+p.Name, func(t *testing.T) {
					// AppArmor refuses what else would be allowed, or refused by another.
					stricter := apparmor && answers[p.Name] == "EACCES" && p.Modern != trust.Allowed
					if want := wanted(p.Classic, p.Modern); !trust.Is(answers[p.Name], want) && !stricter {
						t.Errorf("%s: the answer is %q, want %s", p.Tries, answers[p.Name], want)
					}
				})
			}
			for _, p := range s.Setups {
				t.Run(path+"/"+p.Name, func(t *testing.T) {
					if answer, want := d.setup(t, path, p), wanted(p.Classic, p.Modern); !trust.Is(answer, want) {
						t.Errorf("%s: the answer is %q, want %q", p.Tries, answer, want)
					}
				})
			}
		}
	}
	t.Run("keyring without the filter", func(t *testing.T) {
		// What hides the daemon's keys must not be the filter alone.
		out := d.client(t, "modern", "run", "--security-opt", "seccomp=unconfined", "-v", d.probe+":/probe:ro", "base", "/probe", "host-key")
		if parseAnswers(out)["host-key"] != "ENOKEY" {
			t.Errorf("the daemon's key in a container without a filter: %q", out)
		}
		id := strings.TrimSpace(d.client(t, "modern", "run", "-d", "--security-opt", "seccomp=unconfined", "-v", d.probe+":/probe:ro", "base", "/bin/sleep", "1000"))
		if out := d.client(t, "modern", "exec", id, "/probe", "host-key"); parseAnswers(out)["host-key"] != "ENOKEY" {
			t.Errorf("the daemon's key in an exec without a filter: %q", out)
		}
	})
	t.Run("no weaker with a user namespace", func(t *testing.T) {
		// Whoever is root of a namespace of his own has more capabilities in it
		// than anybody had before: nothing may be open to him for that.
		answers := parseAnswers(d.client(t, "modern", d.run("/probe", "--userns", "auto")...))
		for name, answer := range modern {
			if ours := answers[name]; ours == trust.Allowed && answer != trust.Allowed && name != "ids" {
				t.Errorf("%s: the answer is %q, without a user namespace it is %q", name, ours, answer)
			}
		}
		if answers["ids"] != trust.Allowed || answers["mknod"] != "EPERM" {
			t.Errorf("ids: %q, mknod: %q", answers["ids"], answers["mknod"])
		}
	})
	t.Run("no weaker than runc", func(t *testing.T) { compareWithRunc(t, d, modern) })
	if after := hostState(t); after != before {
		t.Errorf("the host has changed from\n%s\nto\n%s", before, after)
	}
}

// trusted is a daemon, and what a container must not find.
type trusted struct {
	*daemon
	port, pts      string // of the daemon, and a terminal's number
	probe, capable string // the probe; and a copy that has a capability as a file
}

func trustDaemon(t *testing.T) *trusted {
	t.Helper()
	work, err := os.MkdirTemp(filepath.Dir(binaries), "trust-")
	if err != nil {
		t.Fatal(err)
	}
	d := &trusted{daemon: &daemon{work: work, cgroup: fmt.Sprintf("docker2013-test-%d-%d", os.Getpid(), daemons.Add(1))},
		probe: filepath.Join(work, "probe"), capable: filepath.Join(work, "probe-with-caps")}
	build := exec.Command("go", "build", "-trimpath", "-o", d.probe, "./trust/probe")
	if built := filepath.Join(binaries, "trust-probe"); os.Getenv("DOCKER2013_BIN") != "" { // a machine without Go
		build = exec.Command("cp", built, d.probe)
	}
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the probe: %v\n%s", err, out)
	}
	program, err := os.ReadFile(d.probe)
	if err != nil {
		t.Fatal(err)
	}
	// cap_sys_admin+ep in revision 2 of the format (linux/capability.h).
	admin := []byte{1, 0, 0, 2, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if err := errors.Join(os.WriteFile(d.capable, program, 0o755), unix.Setxattr(d.capable, "security.capability", admin, 0), os.Chmod(work, 0o755)); err != nil {
		t.Fatal(err)
	}
	hostThings(t, d)

	// The daemon's session keyring is one of its own, with a key in it; it has a
	// file open that it knows nothing of, and a secret in its environment.
	runtime.LockOSThread() // the keyring is the thread's; the thread isn't used further
	if _, err := unix.KeyctlJoinSessionKeyring("docker2013-trust"); err != nil {
		t.Logf("no keyring: %v", err)
	} else if _, err := unix.AddKey("user", trust.KeyName, []byte("secret"), unix.KEY_SPEC_SESSION_KEYRING); err != nil {
		t.Fatal(err)
	}
	leak, err := unix.Open("/", unix.O_RDONLY, 0) // inherited by whoever is started from here
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	t.Setenv(trust.Secret, "secret")
	t.Cleanup(d.end)
	if err := d.start(nil); err != nil {
		t.Fatal(err)
	}
	_, d.port, err = net.SplitHostPort(d.tcp)
	if err != nil {
		t.Fatal(err)
	}
	d.client(t, "classic", "pull", "base")
	return d
}

// hostThings are there to be found: a socket, shared memory, a message queue, a
// terminal.
func hostThings(t *testing.T, d *trusted) {
	t.Helper()
	l, err := net.Listen("unix", trust.SocketName)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	shm, err := unix.SysvShmGet(trust.ShmKey, 4096, unix.IPC_CREAT|0o666)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.SysvShmCtl(shm, unix.IPC_RMID, nil) })
	if err := trust.MakeQueue(); err != nil && !errors.Is(err, unix.ENOSYS) {
		t.Fatal(err)
	}
	t.Cleanup(trust.RemoveQueue)
	for d.pts == "" || len(d.pts) < 2 { // the first ten could be the container's own as well
		master, slave, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = master.Close(), slave.Close() })
		d.pts = filepath.Base(slave.Name())
	}
}

// client runs a command on a path and gives its stdout.
func (d *trusted) client(t *testing.T, path string, args ...string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(binaries, "docker2013"), args...)
	cmd.Env = append(os.Environ(), "DOCKER="+d.tcp, "DOCKER2013_PATH="+path)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("docker2013 %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out)
}

// run is the command line of a container that has the probe.
func (d *trusted) run(program string, options ...string) []string {
	line := append(append([]string{"run"}, d.hints()...),
		"-v", d.probe+":/probe:ro", "-v", d.capable+":"+trust.FileCaps+":ro")
	return append(append(line, options...), "base", program)
}

// hints tell the probe where on the host to look for what it mustn't find.
func (d *trusted) hints() []string {
	return []string{"-e", trust.DaemonPort + "=" + d.port, "-e", trust.HostPts + "=" + d.pts, "-e", trust.Cgroup + "=" + d.cgroup}
}

func parseAnswers(out string) map[string]string {
	answers := map[string]string{}
	for line := range strings.Lines(out) {
		if name, answer, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			answers[name] = answer
		}
	}
	return answers
}

// setup runs a row's script, in a folder of its own.
func (d *trusted) setup(t *testing.T, path string, s trust.Setup) string {
	t.Helper()
	work, err := os.MkdirTemp(d.work, "setup-")
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(d.work, "out-"+filepath.Base(work))
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/bash", "-euc", s.Script)
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "DOCKER="+d.tcp, "DOCKER2013_PATH="+path, "PATH="+binaries+":"+os.Getenv("PATH"), "OUT="+out, "PROBE="+d.probe)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	answer, err := cmd.Output()
	if err != nil {
		t.Errorf("%v; it said %s%s", err, answer, stderr.Bytes())
	}
	lines := strings.Split(strings.TrimSpace(string(answer)), "\n")
	return lines[len(lines)-1]
}

// hostState is what tries would change.
func hostState(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, file := range []string{"kernel/core_pattern", "kernel/panic", "kernel/hostname", "kernel/randomize_va_space", "vm/panic_on_oom", "fs/file-max"} {
		data, err := os.ReadFile("/proc/sys/" + file)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s: %s", file, data)
	}
	return b.String()
}

// compareWithRunc makes the tries from inside under runc. What that refuses, the
// modern path must refuse.
func compareWithRunc(t *testing.T, d *trusted, modern map[string]string) {
	runc, err := exec.LookPath("runc")
	if err != nil {
		t.Skip("SKIPPED: there is no runc to compare with: apt-get install runc")
	}
	answers := parseAnswers(runUnderRunc(t, d, runc))
	if len(answers) == 0 {
		t.Fatal("runc gave no answers")
	}
	for _, s := range trust.Table {
		for _, p := range s.Probes {
			theirs, ours := answers[p.Name], modern[p.Name]
			if theirs == "" {
				t.Errorf("%s: runc gave no answer", p.Name)
			}
			if theirs != trust.Allowed && ours == trust.Allowed {
				t.Errorf("%s: %s: modern is weaker: runc answers %q, we %q", p.Name, p.Tries, theirs, ours)
			}
			if theirs != ours {
				t.Logf("%s: runc answers %q, we %q", p.Name, theirs, ours)
			}
		}
	}
}

func runUnderRunc(t *testing.T, d *trusted, runc string) string {
	bundle := filepath.Join(d.work, "runc")
	for _, dir := range []string{"proc", "sys", "dev", "etc"} {
		if err := os.MkdirAll(filepath.Join(bundle, "rootfs", dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	config, err := dockerSpec(d)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), config, 0o644); err != nil {
		t.Fatal(err)
	}
	id := d.cgroup + "-runc"
	cmd := exec.Command(runc, "--root", filepath.Join(d.work, "runc-state"), "run", "--bundle", bundle, id)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		_ = exec.Command(runc, "--root", filepath.Join(d.work, "runc-state"), "delete", "--force", id).Run()
		t.Fatalf("runc: %v\n%s%s", err, out, stderr.Bytes())
	}
	return string(out)
}
