package native

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"docker2013/container"
)

// A container in a user namespace that is there already has new namespaces of that
// one, and is its PID 1.
func TestJoinUserNamespace(t *testing.T) {
	rootfs := root(t)
	const first = 1 << 20
	err := filepath.WalkDir(rootfs, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, first, first)
	})
	if err != nil {
		t.Fatal(err)
	}
	holder := exec.Command("/bin/busybox", "sleep", "1000")
	maps := []syscall.SysProcIDMap{{HostID: first, Size: 1 << 16}}
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: maps, GidMappings: maps, GidMappingsEnableSetgroups: true}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Process.Kill(); _ = holder.Wait() }()
	path := fmt.Sprintf("/proc/%d/ns/user", holder.Process.Pid)
	want, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}

	s := spec(t, container.Config{User: "5:6"}, "/bin/sh", "-c", `echo $$ $(id -u) $(id -g); readlink /proc/self/ns/user; stat -c %u:%g /bin/busybox; hostname; ls /dev/null; grep -c . /proc/self/uid_map`)
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: path})
	if err := os.Symlink("busybox", filepath.Join(rootfs, "bin/readlink")); err != nil {
		t.Fatal(err)
	}
	out, status, err := start(t, rootfs, s)
	if want := fmt.Sprintf("1 5 6\n%s\n0:0\n0705e18c\n/dev/null\n1\n", want); err != nil || status != 0 || out != want {
		t.Errorf("%v, %v; it said %q, want %q", status, err, out, want)
	}

	// What fails behind the fork is told like all else.
	s.Process.Args = []string{"/bin/nosuch"}
	if _, _, err := start(t, rootfs, s); err == nil || !strings.Contains(err.Error(), "/bin/nosuch: no such file") {
		t.Errorf("no such program: %v", err)
	}
	s.Linux.Namespaces[len(s.Linux.Namespaces)-1].Path = "/proc/self/ns/uts"
	if _, _, err := start(t, rootfs, s); err == nil || !strings.Contains(err.Error(), "join /proc/self/ns/uts") {
		t.Errorf("no user namespace: %v", err)
	}
}
