package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// learner is somebody who is nobody in particular on this host.
const learner = 12345

// TestRootless is what an ordinary user can do, whose daemon the client starts: one whom
// the administrator has given further ids (subuid(5)), and one who has his own alone.
func TestRootless(t *testing.T) {
	// unshare(1): os/exec would change the user only after it had unshared.
	try := exec.Command("unshare", "--user", "true")
	try.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: learner, Gid: learner}}
	if err := try.Run(); err != nil {
		t.Skipf("not on this host: user namespaces for ordinary users: %v", err)
	}
	t.Run("own", func(t *testing.T) {
		testRootless(t, "", []rootlessCall{
			{"run base cat /proc/self/uid_map", " 0          1\n"},
			{"run -u 1000 base true", "!this container has but one of each"},
		})
	})
	t.Run("subordinate", func(t *testing.T) {
		for _, name := range []string{"newuidmap", "newgidmap", "setpriv"} {
			if _, err := exec.LookPath(name); err != nil {
				t.Skipf("SKIP: no %s: sudo scripts/setup.sh uidmap", name)
			}
		}
		testRootless(t, "learner:500000:65536\n", []rootlessCall{
			{"run base grep -c . /proc/self/uid_map", "2"},
			{"run -u 1000:1001 base sh -c id; touch /tmp/x; stat -c %u:%g /tmp/x; : >/dev/stderr", "uid=1000 gid=1001\n1000:1001\n"},
			{"run -t base sh -c stat -c %g $(tty)", "5"},
			{"run --name owned base sh -c touch /f; chown 7:8 /f", ""},
			{"diff owned", "A /f"},
			{"commit owned owned", "owned:"},
			{"run owned stat -c %u:%g /f", "7:8"},
		})
	})
}

// TestRootlessSpec has an ordinary user's runc run what `spec --rootless` writes.
func TestRootlessSpec(t *testing.T) {
	needPrograms(t, "runc", "runc", "setpriv")
	work, err := os.MkdirTemp(filepath.Dir(binaries), "spec-")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(filepath.Dir(binaries), 0o711), os.Chown(work, learner, learner)); err != nil {
		t.Fatal(err)
	}
	const script = `set -e
mkdir -p rootfs/bin run
cp "$1" rootfs/bin/sh
docker2013-oci spec --rootless
sed -i 's/"terminal": true/"terminal": false/; s/"sh"/"sh", "-c", "echo $(id -u) $(hostname)"/' config.json
runc --root $PWD/run run one
! docker2013-oci run two`
	cmd := exec.Command("setpriv", "--reuid", fmt.Sprint(learner), "--regid", fmt.Sprint(learner), "--clear-groups", "sh", "-c", script, "sh", needBusybox(t))
	cmd.Dir, cmd.Env = work, []string{"PATH=" + binaries + ":/usr/sbin:/usr/bin:/sbin:/bin", "XDG_RUNTIME_DIR=" + work}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "0 docker2013\n") || !strings.Contains(string(out), "as an ordinary user use docker2013 --rootless run") {
		t.Errorf("%v: %s", err, out)
	}
}

// rootlessCall is a command line, and what it says; with a "!" before that: and it fails.
// What is behind -c is one argument.
type rootlessCall struct{ line, want string }

func (c rootlessCall) args() []string {
	line, script, has := strings.Cut(c.line, " -c ")
	args := strings.Fields(line)
	if has && strings.HasSuffix(line, "sh") {
		return append(args, "-c", script)
	}
	return strings.Fields(c.line)
}

func testRootless(t *testing.T, subids string, more []rootlessCall) {
	work, err := os.MkdirTemp(filepath.Dir(binaries), "rootless-")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Dir(binaries), work} {
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	home := filepath.Join(work, "home")
	if err := errors.Join(os.Mkdir(home, 0o700), os.Chown(home, learner, learner)); err != nil {
		t.Fatal(err)
	}
	// An /etc of his own tells newuidmap who he is, and what he may have.
	as := "exec \"$@\""
	if subids != "" {
		as = fmt.Sprintf(`mount --bind %[1]s/etc /etc && exec setpriv --reuid %[2]d --regid %[2]d --clear-groups "$@"`, work, learner)
		script := fmt.Sprintf("cp -a /etc %[1]s/etc && echo learner:x:%[2]d:%[2]d::%[3]s:/bin/sh >>%[1]s/etc/passwd", work, learner, home)
		if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if err := errors.Join(os.WriteFile(work+"/etc/subuid", []byte(subids), 0o644), os.WriteFile(work+"/etc/subgid", []byte(subids), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) (string, error) {
		cmd := exec.Command("sh", append([]string{"-c", as, "sh", filepath.Join(binaries, "docker2013"), "--rootless"}, args...)...)
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + home}
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		if subids == "" {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: learner, Gid: learner}}
		}
		cmd.Dir = "/"
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		return out.String(), err
	}
	root := filepath.Join(home, ".local/share/docker2013")
	t.Cleanup(func() { endDaemon(t, root) })

	calls := []rootlessCall{
		{"pull base", "base:"},
		{"run base /bin/sh -c id; touch /made; rm /etc/hosts; rm -r /opt; mkdir /opt", "uid=0(root) gid=0(root)"},
		{"run -t base tty", "/dev/pts/0"},
		{"run --read-only base /bin/touch /x", "!Read-only file system"},
		{"run base /bin/mount -t tmpfs none /tmp", "!ermission denied"},
		{"run -m 64m base /bin/true", `!an ordinary user has no cgroup controller "memory"`},
		{"run --path classic base /bin/true", "!no such path"},
		{"run --init --name one -d base /bin/sleep 1000", ""},
		{"ps", "Up"},
		{"exec one id -u", "0"},
		{"exec -t one sh -c test -t 0 && echo a terminal", "a terminal"},
		{"cp /etc/hostname one:/copied", ""},
		{"exec one /bin/ls /copied", "/copied"},
		{"top one", "/bin/sleep 1000"},
		{"pause one", "!can't be paused"},
		{"kill one", ""},
		{"wait one", "137"},
		{"diff one", "A /copied"},
		{"commit one mine", "mine:"},
		{"run mine /bin/ls /copied", "/copied"},
		{"rm one", ""},
		{"run -d --name two base /bin/sh -c trap 'echo end; exit 3' TERM; echo begin; while :; do sleep 0.05; done", ""},
		{"logs two", "begin"},
		{"stop -t 5 two", ""},
		{"logs two", "begin\nend"},
		{"inspect -f {{.State.ExitCode}} two", "3"},
		{"start two", ""},
		{"restart -t 0 two", ""},
		{"stop -t 0 two", ""},
		{"rm two", ""},
	}
	for _, x := range append(calls, more...) {
		want, fails := strings.CutPrefix(x.want, "!")
		out, err := run(x.args()...)
		for deadline := time.Now().Add(10 * time.Second); x.line == "logs two" && !strings.Contains(out, want) && time.Now().Before(deadline); {
			time.Sleep(20 * time.Millisecond)
			out, err = run("logs", "two")
		}
		if (err != nil) != fails || !strings.Contains(out, want) {
			t.Errorf("docker2013 --rootless %s: %v, %q; want %q", x.line, err, out, x.want)
		}
	}
	ps, err := run("ps", "-a")
	if err != nil {
		t.Fatal(err, ps)
	}
	list := strings.Split(strings.TrimSpace(ps), "\n")
	id := strings.Fields(list[len(list)-1])[0] // the first
	if out, err := run("diff", id); err != nil || out != "C /etc\nD /etc/hosts\nA /made\n" && out != "C /etc\nD /etc/hosts\nA /made\nC /opt\n" {
		t.Errorf("diff: %q, %v", out, err)
	}
	// All of it is the learner's, and nobody else comes to it.
	fi, err := os.Stat(filepath.Join(root, "containers", id, "rw/made"))
	if err != nil || fi.Sys().(*syscall.Stat_t).Uid != learner {
		t.Errorf("what a container made belongs to %+v, %v", fi, err)
	}
}

// endDaemon ends the daemon that the client has started.
func endDaemon(t *testing.T, root string) {
	data, err := os.ReadFile(filepath.Join(root, "lock"))
	if err != nil {
		t.Errorf("no daemon: %v", err)
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Error(err)
		return
	}
	if err := unix.Kill(pid, unix.SIGTERM); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(30 * time.Second); unix.Kill(pid, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("the daemon %d hasn't ended", pid)
			return
		}
	}
}
