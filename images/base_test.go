package images

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func baseLayer(t testing.TB) []byte {
	t.Helper()
	for _, program := range []string{bashStatic, busyboxStatic} {
		if _, err := os.Stat(program); err != nil {
			t.Skip("SKIPPED: apt-get install bash-static busybox-static")
		}
	}
	var b bytes.Buffer
	if err := BaseLayer(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestBaseIsTheSameEveryTime(t *testing.T) {
	if !bytes.Equal(baseLayer(t), baseLayer(t)) {
		t.Error("two layers made of the same programs differ")
	}
}

// TestBaseRuns runs base's own shell in it, with nothing else of the host.
func TestBaseRuns(t *testing.T) {
	needRoot(t)
	s := newStore(t)
	img := put(t, s, "base", baseLayer(t), nil)
	run := func(path string, args ...string) string {
		t.Helper()
		cmd := exec.Command(path, args...)
		cmd.Dir = "/"
		cmd.Env = []string{}
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: img.Layers[0]}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v: %s", path, args, err, out)
		}
		return string(out)
	}
	if got := run("/bin/bash", "-c", "id -un; echo ~; stat -c %a /tmp /root; ls /"); !strings.HasPrefix(got, "root\n/root\n1777\n700\n") {
		t.Errorf("bash says %q", got)
	}
	if got := run("/bin/sh", "-c", "echo hi | grep -c hi"); got != "1\n" {
		t.Errorf("sh says %q", got)
	}
	run("/bin/true")
	if got := run("/bin/echo", "hello"); got != "hello\n" {
		t.Errorf("echo says %q", got)
	}
	for _, name := range []string{"proc", "sys", "dev/pts", "dev/shm", "etc/resolv.conf", "etc/hosts", "var/tmp"} {
		if _, err := os.Lstat(filepath.Join(img.Layers[0], name)); err != nil {
			t.Error(err)
		}
	}
}

func TestBaseWantsStaticPrograms(t *testing.T) {
	f, err := os.Open("/bin/ls")
	if err != nil {
		t.Skip("SKIPPED: there is no /bin/ls")
	}
	defer f.Close()
	if err := checkStatic(f, "busybox-static"); err == nil || !strings.Contains(err.Error(), "apt-get install busybox-static") {
		t.Errorf("/bin/ls: %v", err)
	}
	if err := missing("/bin/nosuch", "bash-static", os.ErrNotExist); !strings.Contains(err.Error(), "apt-get install bash-static") {
		t.Error(err)
	}
}
