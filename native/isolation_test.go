package native

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"docker2013/container"
	"docker2013/native/launch"
)

// What a container sees and can't do. Each script ends with 0 if it is as it
// should be.
func TestIsolation(t *testing.T) {
	rootfs := root(t)
	shared := t.TempDir()
	if err := os.WriteFile(filepath.Join(shared, "file"), []byte("from the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		config container.Config
		script string
	}{
		"it is PID 1, alone":      {container.Config{}, `set -- /proc/[0-9]*; test $$ = 1 && test "$*" = /proc/1`},
		"its hostname":            {container.Config{Hostname: "inside"}, `test $(hostname) = inside`},
		"the host's root is gone": {container.Config{}, `! ls / | grep -q '^usr$' && test $(grep -c . /proc/mounts) -lt 25`},
		"no file of ours is open":/* 3 and ls's own */ {container.Config{}, `test "$(exec ls /proc/self/fd | wc -l)" = 4`},
		"loopback is up":              {container.Config{}, `grep -q lo /proc/net/dev && ip addr show lo | grep -q 127.0.0.1`},
		"devices":                     {container.Config{}, `test -c /dev/null && echo x >/dev/null && test -c /dev/urandom && test -L /dev/fd`},
		"no other device":             {container.Config{}, `! test -e /dev/vda && ! test -e /dev/kmsg`},
		"/proc/sys is read-only":      {container.Config{}, `! echo 1 >/proc/sys/kernel/panic`},
		"/sys is read-only":           {container.Config{}, `! mkdir /sys/fs/cgroup/x`},
		"masked":                      {container.Config{}, `test -z "$(cat /proc/timer_list)" && test -z "$(ls /sys/firmware)"`},
		"mount is refused":            {container.Config{}, `! mount -t tmpfs none /tmp`},
		"14 capabilities":             {container.Config{}, `grep -q '^CapBnd:.*00000000a80425fb' /proc/self/status`},
		"a filter":                    {container.Config{}, `grep -q '^Seccomp:.*2' /proc/self/status`},
		"no filter if so wanted":      {container.Config{SecurityOpt: []string{"seccomp=unconfined"}}, `grep -q '^Seccomp:.*0' /proc/self/status`},
		"no new privileges":           {container.Config{SecurityOpt: []string{"no-new-privileges"}}, `grep -q '^NoNewPrivs:.*1' /proc/self/status && grep -q '^Seccomp:.*2' /proc/self/status`},
		"another user":                {container.Config{User: "1000:1001"}, `test "$(id -u):$(id -g)" = 1000:1001 && grep -q '^CapEff:.*0000000000000000' /proc/self/status && ! touch /x`},
		"one capability":              {container.Config{CapDrop: []string{"ALL"}, CapAdd: []string{"CHOWN"}}, `grep -q '^CapEff:.*0000000000000001' /proc/self/status`},
		"a working directory":         {container.Config{WorkingDir: "/made/for/it"}, `test "$PWD" = /made/for/it`},
		"a working directory outside": {container.Config{WorkingDir: "/proc/self/fd/7"}, `false`},
		"a read-only root":            {container.Config{ReadOnly: true}, `! touch /x && touch /dev/shm/x`},
		"a mount":                     {container.Config{Mounts: []container.Mount{{Type: "bind", Source: shared, Target: "/deep/down"}}}, `test "$(cat /deep/down/file)" = "from the host" && touch /deep/down/new`},
		"a read-only mount":           {container.Config{Mounts: []container.Mount{{Type: "bind", Source: shared, Target: "/ro", ReadOnly: true}}}, `cat /ro/file && ! touch /ro/x`},
		"a file":                      {container.Config{Mounts: []container.Mount{{Type: "bind", Source: filepath.Join(shared, "file"), Target: "/one"}}}, `test "$(cat /one)" = "from the host"`},
		"a tmpfs":                     {container.Config{Mounts: []container.Mount{{Type: "tmpfs", Target: "/t", Options: []string{"size=64k", "mode=1777"}}}}, `grep -q ' /t tmpfs .*size=64k' /proc/mounts && test "$(stat -c %a /t)" = 1777`},
		"a limit":                     {container.Config{Ulimits: []container.Ulimit{{Name: "nofile", Soft: 10, Hard: 30}}, OomScoreAdj: 5}, `test $(ulimit -n) = 10 && test $(ulimit -Hn) = 30 && grep -qx 5 /proc/self/oom_score_adj`},
		"a sysctl":                    {container.Config{Sysctls: map[string]string{"net.ipv4.ip_forward": "1"}}, `test $(cat /proc/sys/net/ipv4/ip_forward) = 1`},
		"privileged":                  {container.Config{Privileged: true}, `grep -q '^Seccomp:.*0' /proc/self/status && mkdir /t2 && mount -t tmpfs none /t2`},
		"a clean environment":         {container.Config{Env: []string{"A=b"}}, `test "$A" = b && test -z "$HOME$USER"`},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "a working directory outside" {
				if _, _, err := start(t, rootfs, spec(t, x.config, "/bin/sh", "-c", x.script)); err == nil {
					t.Error("it was gone to")
				}
				return
			}
			out, status, err := start(t, rootfs, spec(t, x.config, "/bin/sh", "-c", x.script))
			if err != nil || status != 0 {
				t.Errorf("%v, %v; it said %q", status, err, out)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(shared, "new")); err != nil {
		t.Errorf("what was written to the mount: %v", err)
	}
}

// An image that has links where things are mounted leads nowhere.
func TestLinksOfTheImage(t *testing.T) {
	outside := t.TempDir()
	for name, x := range map[string]struct {
		link, to string
		config   container.Config
		fails    bool
	}{
		"proc":               {"proc", outside, container.Config{}, true},
		"a mount's target":   {"data", outside, container.Config{Mounts: []container.Mount{{Type: "tmpfs", Target: "/data/x"}}}, true},
		"resolv.conf":        {"etc", "/dev", container.Config{}, false},
		"out by dots":        {"data", "../../../../../.." + outside, container.Config{Mounts: []container.Mount{{Type: "tmpfs", Target: "/data"}}}, true},
		"a magic link later": {"data", "/proc/self/fd/0", container.Config{Mounts: []container.Mount{{Type: "tmpfs", Target: "/data"}}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			rootfs := root(t)
			if err := os.Symlink(x.to, filepath.Join(rootfs, x.link)); err != nil {
				t.Fatal(err)
			}
			_, status, err := start(t, rootfs, spec(t, x.config, "/bin/true"))
			if (err != nil) != x.fails {
				t.Errorf("%v, %v; want an error: %v", status, err, x.fails)
			}
			if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
				t.Errorf("the host's folder has %v, %v", entries, err)
			}
		})
	}
}

func TestStartErrors(t *testing.T) {
	rootfs := root(t)
	if err := os.WriteFile(filepath.Join(rootfs, "bin/data"), []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(rootfs, "bin/plain"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for program, code := range map[string]int{
		"/bin/nosuch": 127, "nosuch": 127, "/bin/true/x": 127, "/bin/data": 126, "/bin": 126, "/bin/plain": 126,
	} {
		_, _, err := start(t, rootfs, spec(t, container.Config{}, program))
		se, ok := errors.AsType[*container.StartError](startError(program, err))
		if !ok || se.Code != code || !strings.HasPrefix(se.Text, program+": ") {
			t.Errorf("%s: %+v, %v; want %d", program, se, err, code)
		}
	}
	s := spec(t, container.Config{}, "/bin/true")
	s.Mounts[0].Type = "nosuchfs"
	_, _, err := start(t, rootfs, s)
	var f *launch.Failure
	if !errors.As(err, &f) || f.Call != "mount nosuchfs on /proc" || f.Errno != unix.ENODEV {
		t.Errorf("%v", err)
	}
}
