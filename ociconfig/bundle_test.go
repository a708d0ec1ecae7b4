package ociconfig_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"docker2013/ociconfig"
)

// bundle writes a minimal one, changed.
func bundle(t testing.TB, change func(*specs.Spec)) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := &specs.Spec{
		Version: "1.0.2",
		Root:    &specs.Root{Path: "rootfs"},
		Process: &specs.Process{Args: []string{"/bin/true"}, Cwd: "/"},
		Linux:   &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}}},
	}
	change(s)
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What others' bundles may say, and what is answered; "" is an error's text for none.
func TestLoad(t *testing.T) {
	zero := 0
	for name, x := range map[string]struct {
		change func(*specs.Spec)
		want   string
	}{
		"as it is":                 {func(*specs.Spec) {}, ""},
		"a release candidate":      {func(s *specs.Spec) { s.Version = "1.0.0-rc5" }, ""},
		"a later 1.x":              {func(s *specs.Spec) { s.Version = "1.99.0" }, ""},
		"2.0":                      {func(s *specs.Spec) { s.Version = "2.0.0" }, "ociVersion 2.0.0 is not supported"},
		"before 1.0":               {func(s *specs.Spec) { s.Version = "0.9.0" }, "is not supported"},
		"no version":               {func(s *specs.Spec) { s.Version = "" }, "is no version"},
		"half a version":           {func(s *specs.Spec) { s.Version = "1.0" }, "is no version"},
		"no root":                  {func(s *specs.Spec) { s.Root = nil }, "root.path is missing"},
		"a root that isn't there":  {func(s *specs.Spec) { s.Root.Path = "x" }, "there is no such directory"},
		"a root that is a file":    {func(s *specs.Spec) { s.Root.Path = "config.json" }, "there is no such directory"},
		"no process":               {func(s *specs.Spec) { s.Process = nil }, ""},
		"no args":                  {func(s *specs.Spec) { s.Process.Args = nil }, "process.args must not be empty"},
		"no cwd":                   {func(s *specs.Spec) { s.Process.Cwd = "" }, "must be an absolute path"},
		"no linux":                 {func(s *specs.Spec) { s.Linux = nil }, "add the namespace mount"},
		"a strange namespace":      {func(s *specs.Spec) { add(s, specs.LinuxNamespace{Type: "moon"}) }, `no namespace of type "moon"`},
		"a namespace twice":        {func(s *specs.Spec) { add(s, specs.LinuxNamespace{Type: "mount"}) }, "namespace mount is there twice"},
		"a relative namespace":     {func(s *specs.Spec) { add(s, specs.LinuxNamespace{Type: "ipc", Path: "x"}) }, "not an absolute path"},
		"a user namespace":         {func(s *specs.Spec) { add(s, specs.LinuxNamespace{Type: "user"}) }, "a new user namespace wants ids, and containerID 0"},
		"a hostname of the host's": {func(s *specs.Spec) { s.Hostname = "x" }, "add the namespace uts"},
		"a domainname":             {func(s *specs.Spec) { add(s, specs.LinuxNamespace{Type: "uts"}); s.Domainname = "x" }, ""},
		"clocks of the host's": {func(s *specs.Spec) {
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1}}
		}, "want the namespace time"},
		"the clock of the day": {func(s *specs.Spec) {
			add(s, specs.LinuxNamespace{Type: "time"})
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"realtime": {Secs: 1}}
		}, `no clock "realtime"`},
		"a limit twice": {func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}, {Type: "RLIMIT_CORE"}}
		}, "RLIMIT_CORE is there twice"},
		"a soft limit above":  {func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 1}} }, "above the hard one"},
		"no such limit":       {func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "CORE"}} }, "no limit \"CORE\""},
		"no such scheduler":   {func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: "SCHED_ISO"} }, "is not supported"},
		"no such I/O class":   {func(s *specs.Spec) { s.Process.IOPriority = &specs.LinuxIOPriority{Class: "X"} }, "is not supported"},
		"a CPU affinity":      {func(s *specs.Spec) { s.Process.ExecCPUAffinity = &specs.CPUAffinity{} }, "execCPUAffinity is not built yet"},
		"a mount on the root": {func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "/a/..", Type: "tmpfs"}} }, "a path below the root"},
		"a mount of no type":  {func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "/a", Source: "x"}} }, "mount on /a has no type"},
		"a mount of nothing":  {func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "/a", Type: "bind", Source: "x"}} }, "no such file"},
		"a mount of a bundle's": {func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/a", Source: "rootfs", Options: []string{"rbind"}}}
		}, ""},
		"an idmapped mount": {func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/a", Type: "tmpfs", Options: []string{"idmap"}}}
		}, "idmapped"},
		"a hook by a name":     {func(s *specs.Spec) { s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "sh"}}} }, `hooks.poststop: path "sh" must be absolute`},
		"a hook without time":  {func(s *specs.Spec) { s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/x", Timeout: &zero}}} }, "must be positive"},
		"a sysctl of the host": {func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"kernel.panic": "1"} }, "not in a separate kernel namespace"},
		"a sysctl's detour": {func(s *specs.Spec) {
			add(s, specs.LinuxNamespace{Type: "network"})
			s.Linux.Sysctl = map[string]string{"net/../kernel/panic": "1"}
		}, "is no name"},
		"the host's network's":  {func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"} }, "not in a separate kernel namespace"},
		"RDT":                   {func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{} }, "linux.intelRdt is not built yet"},
		"a mount label":         {func(s *specs.Spec) { s.Linux.MountLabel = "x" }, "linux.mountLabel is not built yet"},
		"id mappings":           {func(s *specs.Spec) { s.Linux.UIDMappings = []specs.LinuxIDMapping{{Size: 1}} }, "want the namespace user"},
		"a filter's listener":   {func(s *specs.Spec) { s.Linux.Seccomp = &specs.LinuxSeccomp{ListenerPath: "/x"} }, "listenerPath is not built yet"},
		"a filter's flag":       {func(s *specs.Spec) { s.Linux.Seccomp = &specs.LinuxSeccomp{Flags: []specs.LinuxSeccompFlag{"X"}} }, "flag X is not supported"},
		"an execution domain":   {func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: "BSD"} }, "say LINUX or LINUX32"},
		"a device of no kind":   {func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "x"}} }, "say c, b, u or p"},
		"a strange propagation": {func(s *specs.Spec) { s.Linux.RootfsPropagation = "sideways" }, "say private, slave, shared or unbindable"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ociconfig.Load(bundle(t, x.change))
			if (err == nil) != (x.want == "") || err != nil && !strings.Contains(err.Error(), x.want) {
				t.Errorf("%v, want %q", err, x.want)
			}
		})
	}
	if _, err := ociconfig.Load(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no config.json: %v", err)
	}
}

func add(s *specs.Spec, ns specs.LinuxNamespace) { s.Linux.Namespaces = append(s.Linux.Namespaces, ns) }

// A runtime adds devices, and makes paths absolute.
func TestLoadCompletes(t *testing.T) {
	dir := bundle(t, func(s *specs.Spec) {
		s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/null", Type: "c", Major: 1, Minor: 3}}
		s.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Access: "r"}}}
		s.Mounts = []specs.Mount{{Destination: "/a", Type: "none", Source: "rootfs", Options: []string{"bind"}}}
	})
	s, err := ociconfig.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.Root.Path != dir+"/rootfs" || s.Mounts[0].Source != dir+"/rootfs" || s.Mounts[0].Type != "bind" {
		t.Errorf("root %s, mount %+v", s.Root.Path, s.Mounts[0])
	}
	if n := len(s.Linux.Devices); n != 6 || !slices.ContainsFunc(s.Linux.Devices, func(d specs.LinuxDevice) bool { return d.Path == "/dev/tty" }) {
		t.Errorf("%d devices: %v", n, s.Linux.Devices)
	}
	rules := s.Linux.Resources.Devices
	if rules[0].Allow || rules[0].Access != "rwm" || !rules[1].Allow || rules[1].Access != "r" || len(rules) != 12 {
		t.Errorf("rules %+v", rules)
	}
}
