package evidence

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"docker2013/trace"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts and namespaces are the kernel's real ones")
	}
}

// child starts a program that lives until the test ends, and returns when it
// has got where its arguments send it.
func child(t *testing.T, attr *syscall.SysProcAttr, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(args[0], append(args[1:], "sh", "-c", "echo ready; read end")...)
	cmd.SysProcAttr = attr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait() // the exit status of a shell at its end of input says nothing
	})
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func want(t *testing.T, ev trace.Evidence, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(ev.Text, line) {
			t.Errorf("%s from %s lacks %q:\n%s", ev.Kind, ev.From, line, ev.Text)
		}
	}
}

// row is the line of a table that begins with name, blanks made single.
func row(ev trace.Evidence, name string) string {
	for line := range strings.Lines(ev.Text) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] == name {
			return strings.Join(fields, " ")
		}
	}
	return ""
}

func TestNamespaces(t *testing.T) {
	needRoot(t)
	cmd := child(t, &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUTS | unix.CLONE_NEWNET}, "env")
	ev := Namespaces(cmd.Process.Pid)
	if want := fmt.Sprintf("/proc/%d/ns", cmd.Process.Pid); ev.From != want {
		t.Errorf("From = %s, want %s", ev.From, want)
	}
	for name, verdict := range map[string]string{"uts": "different", "net": "different", "mnt": "same", "pid": "same"} {
		theirs, err := os.Stat(filepath.Join(ev.From, name)) // the inode, without the link's text
		if err != nil {
			t.Fatal(err)
		}
		ours, err := os.Stat("/proc/self/ns/" + name)
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("%s %d %d %s", name,
			theirs.Sys().(*syscall.Stat_t).Ino, ours.Sys().(*syscall.Stat_t).Ino, verdict)
		if got := row(ev, name); got != want {
			t.Errorf("row %q, want %q", got, want)
		}
	}
	want(t, Interfaces(cmd.Process.Pid), "lo:")
}

func TestPrivilegesOfARestrictedProcess(t *testing.T) {
	needRoot(t)
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip("not on this host: setpriv of util-linux, which drops privileges for this test")
	}
	cmd := child(t, nil, "setpriv", "--bounding-set=-mknod,-sys_admin", "--no-new-privs")
	p, err := ReadPrivileges(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for name, kept := range map[string]bool{"mknod": false, "sys_admin": false, "chown": true} {
		if p.Bounding.Has(name) != kept {
			t.Errorf("bounding set has %s: %v, want %v", name, !kept, kept)
		}
	}
	if !p.NoNewPrivs {
		t.Error("no_new_privs is not set")
	}
	ev := Capabilities(cmd.Process.Pid)
	want(t, ev, fmt.Sprintf("CapBnd: %016x", uint64(p.Bounding)), "NoNewPrivs: 1", "Seccomp: ")
	dropped := ev.Text[strings.Index(ev.Text, "dropped"):]
	for _, name := range []string{"mknod", "sys_admin"} {
		if !strings.Contains(dropped, name) {
			t.Errorf("%s isn't among the dropped:\n%s", name, ev.Text)
		}
	}
}

func TestCapsNames(t *testing.T) {
	for _, c := range []struct {
		set  Caps
		want string
	}{
		{0, ""},
		{1 << unix.CAP_CHOWN, "chown"},
		{1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_MKNOD, "sys_admin mknod"},
		{1 << unix.CAP_LAST_CAP, "checkpoint_restore"},
		{1 << 63, "63"}, // of a kernel to come
	} {
		if got := strings.Join(c.set.Names(), " "); got != c.want {
			t.Errorf("%x: %q, want %q", uint64(c.set), got, c.want)
		}
	}
	if len(known) != unix.CAP_LAST_CAP+1 {
		t.Errorf("%d names for %d capabilities", len(known), unix.CAP_LAST_CAP+1)
	}
}

func TestParsePrivilegesRefusesWhatIsNoNumber(t *testing.T) {
	for _, line := range []string{"CapEff:\tzz\n", "CapBnd:\n", "Seccomp:\tmany\n"} {
		if p, err := parsePrivileges(line); err == nil {
			t.Errorf("%q gave %+v", line, p)
		}
	}
}

func TestEndedProcess(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	for _, ev := range []trace.Evidence{
		Namespaces(pid), Cgroups(pid), Capabilities(pid), UserMap(pid), Interfaces(pid),
	} {
		if want := fmt.Sprintf("process %d has ended", pid); ev.Text != want {
			t.Errorf("%s: %q, want %q", ev.Kind, ev.Text, want)
		}
	}
}

// A process that has ended but wasn't waited for has no namespaces any more.
func TestZombie(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
	if err != nil {
		t.Fatal(err)
	}
	want(t, Namespaces(cmd.Process.Pid), "has ended")
}

func TestOwnProcess(t *testing.T) {
	pid := os.Getpid()
	want(t, UserMap(pid), "0 ") // "0 0 4294967295" where we aren't in a user namespace
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	if got := Cgroups(pid).Text; got != string(data) {
		t.Errorf("cgroups %q, want %q", got, data)
	}
}

func TestMount(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), `a b\c`)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	want(t, Mount(dir), "nothing is mounted at")
	for _, name := range []string{"below", "above"} {
		if err := unix.Mount(name, dir, "tmpfs", 0, "size=64k"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir, 0); err != nil {
				t.Error(err)
			}
		})
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{dir, dir + "/", link} {
		ev := Mount(target)
		want(t, ev, " - tmpfs above ")
		if strings.Contains(ev.Text, "\n") {
			t.Errorf("more than one line: %q", ev.Text)
		}
	}
}

func TestFindMount(t *testing.T) {
	const table = "36 35 98:0 /mnt1 /mnt2 rw - ext3 /dev/root rw\n" +
		"37 36 0:1 / /mnt2/with\\040blank rw - tmpfs t rw\n" +
		"short line\n" +
		"38 36 0:2 / /mnt2 rw - tmpfs last rw\n"
	for _, c := range []struct{ target, want string }{
		{"/mnt2", "38 36 0:2 / /mnt2 rw - tmpfs last rw"},
		{"/mnt2/with blank", `37 36 0:1 / /mnt2/with\040blank rw - tmpfs t rw`},
		{"/mnt1", ""},
		{"", ""},
	} {
		got, err := findMount(strings.NewReader(table), c.target)
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.target, got, err, c.want)
		}
	}
	endless := bytes.NewReader(bytes.Repeat([]byte("x"), 2*mountLine))
	if _, err := findMount(endless, "/"); err == nil {
		t.Error("an endless line is no error")
	}
}

func TestUnescape(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`/plain`, "/plain"},
		{`/a\040b\011c\012d\134e`, "/a b\tc\nd\\e"},
		{`/a\04`, `/a\04`},
		{`/a\999`, `/a\999`},
		{`\`, `\`},
	} {
		if got := unescape(c.in); got != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("config.lxc", "lxc.uts.name = box\n")
	write("hostile", "a\x1b[2Jb\x00c\xffd\u009be\ttab\n")
	write("big", strings.Repeat("x", fileLimit+1))
	write("full", strings.Repeat("x", fileLimit))
	if err := os.Symlink("/etc/passwd", path("link")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(path("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, want string }{
		{"config.lxc", "lxc.uts.name = box\n"},
		{"hostile", "a\\x1b[2Jb\\x00c\\xffd\\x9be\ttab\n"},
		{"big", strings.Repeat("x", fileLimit) + "\n… and more"},
		{"full", strings.Repeat("x", fileLimit)},
		{"link", "can't be read: too many levels of symbolic links"},
		{"pipe", "can't be read: not a regular file but p---------"}, // and doesn't block
		{"missing", "not there any more"},
	} {
		ev := File(path(c.name))
		if ev.Text != c.want || ev.Kind != c.name || ev.From != path(c.name) {
			t.Errorf("%s: %.80q, want %.80q", c.name, ev.Text, c.want)
		}
	}
}

func TestCommonParent(t *testing.T) {
	for _, c := range []struct {
		paths []string
		want  string
	}{
		{[]string{"/r/layers/a"}, "/r/layers"},
		{[]string{"/r/layers/a", "/r/layers/b"}, "/r/layers"},
		{[]string{"/r/lay/a", "/r/layers/b"}, "/r"},
		{[]string{"/a", "/b"}, "/"},
		{[]string{"/r/layers/a", "relative"}, "/"},
		{[]string{"relative", "/r"}, "."},
	} {
		if got := commonParent(c.paths); got != c.want {
			t.Errorf("%v: %s, want %s", c.paths, got, c.want)
		}
	}
}

// One event of each step, as the engine makes them, read through a recorder.
func TestRegister(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "config.lxc")
	if err := os.WriteFile(config, []byte("lxc.tty.max = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var r trace.Recorder
	Register(&r)
	sub := r.Subscribe(0, 16)
	defer sub.Close()
	ctx := trace.WithRecorder(context.Background(), &r, 1)
	for _, c := range []struct {
		step   string
		values []any
		kinds  string
	}{
		{"images.find", []any{"layers", []string{"/l/top", "/l/base"}}, "layers, top first"},
		{"images.find", nil, ""},
		{"container.create", []any{"dir", dir}, "tree"},
		{"runtime.config", []any{"config", config}, "config.lxc"},
		{"union.mount", []any{"rootfs", "/proc", "rw", dir}, "mountinfo tree"},
		{"network.attach", []any{"mode", "none"}, ""},
		{"runtime.isolate", []any{"pid", os.Getpid()}, "namespaces cgroups privileges uid_map"},
		{"runtime.isolate", []any{"pid", 0}, ""},
		{"union.umount", []any{"rw", dir}, "tree"},
		{"container.cleanup", []any{"rw", dir + "/missing"}, "tree"},
		{"cli.dial", nil, ""},
	} {
		if err := trace.Step(ctx, c.step, c.values...).End(nil); err != nil {
			t.Fatal(err)
		}
		var kinds []string
		for _, ev := range (<-sub.C).Evidence {
			kinds = append(kinds, ev.Kind)
			if ev.From == "" || ev.Text == "" {
				t.Errorf("%s %v: evidence without place or text: %+v", c.step, c.values, ev)
			}
		}
		if got := strings.Join(kinds, " "); got != c.kinds {
			t.Errorf("%s %v: evidence %q, want %q", c.step, c.values, got, c.kinds)
		}
	}
}
