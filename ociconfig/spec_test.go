package ociconfig_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"docker2013/container"
	"docker2013/ociconfig"
	"docker2013/ociconfig/seccompbpf"
)

// record is one of an image with a passwd and a group.
func record(t testing.TB, change func(*container.Record)) *container.Record {
	t.Helper()
	layer, rw := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\n",
		"etc/group":  "root:x:0:\nann:x:1001:\nstaff:x:50:ann\n",
	} {
		if err := os.MkdirAll(filepath.Join(layer, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(layer, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := &container.Record{Id: "0705e18c", Path: "/bin/true", Filesystem: container.Filesystem{RWPath: rw, Layers: []string{layer}}}
	if change != nil {
		change(r)
	}
	return r
}

var host = ociconfig.Host{Pid: func(id string) (int, error) {
	if id != "running" {
		return 0, errors.New("no such container: " + id)
	}
	return 4711, nil
}}

func TestDefaults(t *testing.T) {
	s, err := ociconfig.Spec(record(t, nil), host)
	if err != nil {
		t.Fatal(err)
	}
	if s.Process.Cwd != "/" || s.Hostname != "0705e18c" || s.Process.User.UID != 0 || s.Process.NoNewPrivileges {
		t.Errorf("process %+v, hostname %s", s.Process, s.Hostname)
	}
	if n := len(s.Process.Capabilities.Bounding); n != 14 || slices.Contains(s.Process.Capabilities.Bounding, "CAP_SYS_ADMIN") {
		t.Errorf("%d capabilities: %v", n, s.Process.Capabilities.Bounding)
	}
	if len(s.Linux.Namespaces) != 6 || s.Linux.Seccomp == nil || !slices.Contains(s.Linux.MaskedPaths, "/proc/kcore") {
		t.Errorf("namespaces %v, seccomp %v, masked %v", s.Linux.Namespaces, s.Linux.Seccomp != nil, s.Linux.MaskedPaths)
	}
	if d := s.Linux.Resources.Devices; len(d) == 0 || d[0].Allow || d[0].Type != "" {
		t.Errorf("devices %+v: the first rule must deny all", d)
	}
	if s.Linux.Resources.Memory != nil || s.Linux.Resources.CPU != nil || s.Linux.Resources.Pids != nil {
		t.Errorf("limits that nobody asked for: %+v", s.Linux.Resources)
	}
}

func TestOptions(t *testing.T) {
	for name, x := range map[string]struct {
		config container.Config
		check  func(*specs.Spec) bool
	}{
		"a user by name has its groups": {container.Config{User: "ann"}, func(s *specs.Spec) bool {
			u := s.Process.User
			return u.UID == 1000 && u.GID == 1001 && slices.Contains(u.AdditionalGids, 50) && s.Process.Capabilities.Effective == nil
		}},
		"user and group by number": {container.Config{User: "7:8"}, func(s *specs.Spec) bool {
			return s.Process.User.UID == 7 && s.Process.User.GID == 8
		}},
		"a further group": {container.Config{Groups: []string{"staff", "99"}}, func(s *specs.Spec) bool {
			return slices.Contains(s.Process.User.AdditionalGids, 50) && slices.Contains(s.Process.User.AdditionalGids, 99)
		}},
		"drop all, add one": {container.Config{CapDrop: []string{"all"}, CapAdd: []string{"cap_net_admin"}}, func(s *specs.Spec) bool {
			return slices.Equal(s.Process.Capabilities.Bounding, []string{"CAP_NET_ADMIN"})
		}},
		"drop one": {container.Config{CapDrop: []string{"CHOWN"}}, func(s *specs.Spec) bool {
			return len(s.Process.Capabilities.Bounding) == 13
		}},
		"privileged": {container.Config{Privileged: true}, func(s *specs.Spec) bool {
			return s.Linux.Seccomp == nil && s.Linux.MaskedPaths == nil && slices.Contains(s.Process.Capabilities.Effective, "CAP_SYS_ADMIN") &&
				s.Linux.Resources.Devices[0].Allow && len(s.Linux.Devices) > 6
		}},
		"no filter": {container.Config{SecurityOpt: []string{"seccomp=unconfined", "no-new-privileges"}}, func(s *specs.Spec) bool {
			return s.Linux.Seccomp == nil && s.Process.NoNewPrivileges
		}},
		"the host's processes": {container.Config{PidMode: "host", IpcMode: "container:running"}, func(s *specs.Spec) bool {
			return !slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace }) &&
				slices.Contains(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.IPCNamespace, Path: "/proc/4711/ns/ipc"})
		}},
		"limits": {container.Config{Ram: 64 << 20, Limits: container.Limits{CPUs: 1500, Pids: 10, MemorySwap: -1}}, func(s *specs.Spec) bool {
			r := s.Linux.Resources
			return *r.Memory.Limit == 64<<20 && *r.Memory.Swap == -1 && *r.CPU.Quota == 150_000 && *r.Pids.Limit == 10
		}},
		"a file": {container.Config{Mounts: []container.Mount{{Type: "bind", Source: "/etc/hosts", Target: "/a", ReadOnly: true}}}, func(s *specs.Spec) bool {
			m := s.Mounts[len(s.Mounts)-1]
			return m.Destination == "/a" && slices.Contains(m.Options, "ro")
		}},
		"a device": {container.Config{Devices: []container.Device{{Host: "/dev/null", Container: "/dev/other", Permissions: "r"}}}, func(s *specs.Spec) bool {
			d, r := s.Linux.Devices[len(s.Linux.Devices)-1], s.Linux.Resources.Devices
			return d.Path == "/dev/other" && d.Major == 1 && d.Minor == 3 && r[len(r)-1].Access == "r"
		}},
	} {
		s, err := ociconfig.Spec(record(t, func(r *container.Record) { r.Config = x.config }), host)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !x.check(s) {
			t.Errorf("%s: %+v %+v", name, s.Process, s.Linux)
		}
	}
}

// What is wrong is found before anything is made, and named as it was typed.
func TestWrongOptions(t *testing.T) {
	for want, config := range map[string]container.Config{
		"--cap-add NET_RAWR: ":                     {CapAdd: []string{"NET_RAWR"}},
		"-u nobodyhere: no such user":              {User: "nobodyhere"},
		"-u root:nosuch: no such group":            {User: "root:nosuch"},
		"--sysctl kernel.hostname: ":               {Sysctls: map[string]string{"kernel.hostname": "x"}},
		"--sysctl net./../../kernel/panic: ":       {Sysctls: map[string]string{"net./../../kernel/panic": "1"}},
		"--device /etc/passwd: it is not a device": {Devices: []container.Device{{Host: "/etc/passwd", Container: "/dev/x"}}},
		"say a path below /dev":                    {Devices: []container.Device{{Host: "/dev/null", Container: "/dev/../etc/x"}}},
		"mount /no/such: it is not there":          {Mounts: []container.Mount{{Type: "bind", Source: "/no/such", Target: "/x"}}},
		"mount on \"x\": ":                         {Mounts: []container.Mount{{Type: "tmpfs", Target: "x"}}},
		"and not its root":                         {Mounts: []container.Mount{{Type: "tmpfs", Target: "/a/.."}}},
		"--pid container:gone: no such container":  {PidMode: "container:gone"},
		"--ipc nosuch: say host":                   {IpcMode: "nosuch"},
		"--userns private: say auto":               {UsernsMode: "private"},
		"--userns auto and --privileged: ":         {UsernsMode: "auto", Privileged: true},
		"--userns auto and --pid host: ":           {UsernsMode: "auto", PidMode: "host"},
		"--userns auto and --ipc container:x: ":    {UsernsMode: "auto", IpcMode: "container:x"},
		"-w relative: ":                            {WorkingDir: "relative"},
		"--security-opt nosuch: ":                  {SecurityOpt: []string{"nosuch"}},
		"the profile is not JSON":                  {SecurityOpt: []string{"seccomp={broken"}},
		"--device-read-bps /dev/null: not a block": {Limits: container.Limits{DeviceReadBps: []container.Throttle{{Path: "/dev/null", Rate: 1}}}},
	} {
		_, err := ociconfig.Spec(record(t, func(r *container.Record) { r.Config = config }), host)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v; want %q in it", config, err, want)
		}
	}
}

// A passwd that is a link to the host's is looked up inside the image.
func TestPasswdLinkLeadsNowhere(t *testing.T) {
	r := record(t, func(r *container.Record) { r.Config.User = "daemon" }) // the host's passwd has it
	passwd := filepath.Join(r.Filesystem.Layers[0], "etc/passwd")
	if err := errors.Join(os.Remove(passwd), os.Symlink("../../../../../../../../../../etc/passwd", passwd)); err != nil {
		t.Fatal(err)
	}
	if s, err := ociconfig.Spec(r, host); err == nil {
		t.Errorf("the user was found: %+v", s.Process.User)
	}
}

func TestFilterIsCompiled(t *testing.T) {
	s, err := ociconfig.Spec(record(t, nil), host)
	if err != nil {
		t.Fatal(err)
	}
	var c seccompbpf.Compiler
	program, err := c.Compile(s.Linux.Seccomp)
	if err != nil || len(program) < 800 || len(program)%8 != 0 {
		t.Errorf("%d bytes, %v", len(program), err)
	}
	if none, err := c.Compile(nil); err != nil || none != nil {
		t.Errorf("no profile: %v, %v", none, err)
	}
}

func BenchmarkSpec(b *testing.B) {
	r := record(b, nil)
	for b.Loop() {
		if _, err := ociconfig.Spec(r, host); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompileAgain(b *testing.B) {
	s, err := ociconfig.Spec(record(b, nil), host)
	if err != nil {
		b.Fatal(err)
	}
	var c seccompbpf.Compiler
	for b.Loop() {
		if _, err := c.Compile(s.Linux.Seccomp); err != nil {
			b.Fatal(err)
		}
	}
}
