package e2e

import (
	"bytes"
	"errors"
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

// TestRootless is what an ordinary user can do, whose daemon the client starts.
func TestRootless(t *testing.T) {
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
	// unshare(1): os/exec would change the user only after it had unshared.
	try := exec.Command("unshare", "--user", "true")
	try.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: learner, Gid: learner}}
	if err := try.Run(); err != nil {
		t.Skipf("SKIPPED: ordinary users can't make user namespaces here: %v", err)
	}
	run := func(args ...string) (string, error) {
		cmd := exec.Command(filepath.Join(binaries, "docker2013"), append([]string{"--rootless"}, args...)...)
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + home}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: learner, Gid: learner}}
		cmd.Dir = "/"
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		return out.String(), err
	}
	root := filepath.Join(home, ".local/share/docker2013")
	t.Cleanup(func() { endDaemon(t, root) })

	for _, x := range []struct {
		args string
		want string // in what it says; with a "!" before it: and it fails
	}{
		{"pull base", "base:"},
		{"run base /bin/sh -c id;touch${IFS}/made;rm${IFS}/etc/hosts;rm${IFS}-r${IFS}/opt;mkdir${IFS}/opt", "uid=0(root) gid=0(root)"},
		{"run base /bin/cat /proc/self/uid_map", " 0 "},
		{"run -t base tty", "/dev/pts/0"},
		{"run --read-only base /bin/touch /x", "!Read-only file system"},
		{"run base /bin/mount -t tmpfs none /tmp", "!ermission denied"},
		{"run -m 64m base /bin/true", `!an ordinary user has no cgroup controller "memory"`},
		{"run --path classic base /bin/true", "!no such path"},
		{"run --init --name one -d base /bin/sleep 1000", ""},
		{"exec one id -u", "0"},
		{"cp /etc/hostname one:/copied", ""},
		{"exec one /bin/ls /copied", "/copied"},
		{"pause one", "!can't be paused"},
		{"kill one", ""},
		{"wait one", "137"},
		{"diff one", "A /copied"},
		{"commit one mine", "mine:"},
		{"run mine /bin/ls /copied", "/copied"},
		{"rm one", ""},
	} {
		want, fails := strings.CutPrefix(x.want, "!")
		out, err := run(strings.Fields(x.args)...)
		if (err != nil) != fails || !strings.Contains(out, want) {
			t.Errorf("docker2013 --rootless %s: %v, %q; want %q", x.args, err, out, x.want)
		}
	}
	ps, err := run("ps", "-a")
	if err != nil {
		t.Fatal(err, ps)
	}
	first := strings.Split(strings.TrimSpace(ps), "\n")
	id := strings.Fields(first[len(first)-1])[0]
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
