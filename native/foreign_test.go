package native

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// calls are the names of a program's calls, without those that are repeated.
func calls(t *testing.T, s *specs.Spec, change func(*Setup)) []string {
	t.Helper()
	x := NewSetup()
	x.Rootfs, x.LastCap, x.Stdio, x.Sync = "/bundle/rootfs", 40, [3]int{0, 1, 2}, [2]int{3, 4}
	x.Files = Files(s.Mounts)
	if change != nil {
		change(&x)
	}
	p, err := Compile(s, x)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, c := range p.Calls {
		if len(list) == 0 || list[len(list)-1] != c.Name {
			list = append(list, c.Name)
		}
	}
	return list
}

func foreign(change func(*specs.Spec)) *specs.Spec {
	s := &specs.Spec{
		Process: &specs.Process{Args: []string{"/bin/true"}, Cwd: "/"},
		Root:    &specs.Root{},
		Linux:   &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}}},
	}
	change(s)
	return s
}

// What is made in which order: each list must be found in the program, in its order.
func TestOrder(t *testing.T) {
	for name, x := range map[string]struct {
		spec  *specs.Spec
		setup func(*Setup)
		want  []string
		not   string
	}{
		"sources are taken from the host, and attached inside": {foreign(func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/a", Type: "bind", Source: "/etc"}, {Destination: "/b", Type: "tmpfs"}}
		}), nil, []string{"take /etc", "mount tmpfs on /b", "take /bundle/rootfs", "make all mounts private", "put the root in its place",
			"open /a", "mount bind on /a", "open /b", "mount tmpfs on /b", "go to the new root", "pivot_root", "unmount the old root", "execute /bin/true"}, "wait"},
		"hooks see the mounts and the host's root": {foreign(func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/b", Type: "tmpfs"}}
		}), func(x *Setup) { x.Hooks = true }, []string{"mount tmpfs on /b", "wait for hooks", "pivot_root"}, ""},
		"what waits has been found, and has closed all else": {foreign(func(*specs.Spec) {}), func(x *Setup) { x.Wait = 5 },
			[]string{"die with one's maker", "pivot_root", "close all other files", "go to /", "execute /bin/true", "outlive one's maker", "be created",
				"wait to be started", "tell who started it", "set the user", "execute /bin/true"}, ""},
		"no pivot":            {foreign(func(*specs.Spec) {}), func(x *Setup) { x.NoPivot = true }, []string{"go to the new root", "move the root", "chroot"}, "pivot_root"},
		"the keyring is kept": {foreign(func(*specs.Spec) {}), func(x *Setup) { x.NoKeyring = true }, nil, "start a keyring"},
		"a namespace by path, the mounts' last": {foreign(func(s *specs.Spec) {
			s.Linux.Namespaces = []specs.LinuxNamespace{{Type: "mount", Path: "/m"}, {Type: "network", Path: "/n"}, {Type: "cgroup"}}
		}), nil, []string{"open /m", "open /n", "make a cgroup namespace", "join /n", "join /m", "take /bundle/rootfs"}, "bring loopback up"},
		"a new network has loopback": {foreign(func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "network"})
		}), nil, []string{"bring loopback up"}, ""},
		"clocks before anybody is there": {foreign(func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "time"})
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {}, "boottime": {}}
		}), nil, []string{"make a time namespace", "set the clock boottime", "set the clock monotonic", "join the time namespace", "take /bundle/rootfs"}, ""},
		"the number of files is limited last": {foreign(func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE"}, {Type: "RLIMIT_CORE"}}
		}), func(x *Setup) { x.Wait = 5 }, []string{"set the limit RLIMIT_CORE", "wait to be started", "tell who started it", "set the limit RLIMIT_NOFILE", "execute /bin/true"}, ""},
		"a tmpfs is read-only when it is filled": {foreign(func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/dev", Type: "tmpfs", Options: []string{"ro"}}}
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/null", Type: "c"}}
		}), nil, []string{"mount tmpfs on /dev", "make /dev/null", "link /dev/fd", "pivot_root", "make read-only /dev"}, ""},
		"the host's /dev has its devices": {foreign(func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/dev/", Type: "bind", Source: "/dev"}}
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/null", Type: "c"}}
		}), nil, []string{"mount bind on /dev/"}, "make /dev/null"},
		"a terminal is the console too":  {foreign(func(*specs.Spec) {}), func(x *Setup) { x.Terminal = true }, []string{"pivot_root", "open a terminal", "offer the terminal", "take the terminal", "mount the terminal on /dev/console"}, "set up the standard streams"},
		"a shared root, after the pivot": {foreign(func(s *specs.Spec) { s.Linux.RootfsPropagation = "rshared" }), nil, []string{"pivot_root", "make the root shared"}, ""},
		"sysctls by the host's /proc":    {foreign(func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"net.a": "1"} }), nil, []string{"set net.a", "take /bundle/rootfs"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			list := calls(t, x.spec, x.setup)
			rest := list
			for _, want := range x.want {
				i := slices.Index(rest, want)
				if i < 0 {
					t.Fatalf("%q is not there, or not in its place:\n%s", want, strings.Join(list, "\n"))
				}
				rest = rest[i+1:]
			}
			if x.not != "" && slices.Contains(list, x.not) {
				t.Errorf("%q is there", x.not)
			}
		})
	}
}

func TestReadOptions(t *testing.T) {
	const ro, nosuid, atimes = unix.MOUNT_ATTR_RDONLY, unix.MOUNT_ATTR_NOSUID, unix.MOUNT_ATTR__ATIME
	for options, want := range map[string]attributes{
		"":                       {},
		"ro,nosuid":              {set: ro | nosuid},
		"ro,rw":                  {clear: ro},
		"rro,rnosuid":            {rset: ro | nosuid},
		"rrw":                    {rclear: ro},
		"noatime":                {set: unix.MOUNT_ATTR_NOATIME, clear: atimes},
		"noatime,relatime":       {clear: atimes},
		"rstrictatime":           {rset: unix.MOUNT_ATTR_STRICTATIME, rclear: atimes},
		"nodiratime,diratime":    {clear: unix.MOUNT_ATTR_NODIRATIME},
		"bind":                   {bind: true},
		"rbind,rslave":           {bind: true, recursive: true, propagation: unix.MS_SLAVE, propagateAll: true},
		"rslave,shared":          {propagation: unix.MS_SHARED},
		"remount,bind,ro":        {remount: true, bind: true, set: ro},
		"size=1m,defaults,loud":  {rest: []string{"size=1m"}},
		"tmpcopyup,dirsync":      {copyUp: true, rest: []string{"dirsync"}},
		"rsize=1,rprivate,r,ro2": {propagation: unix.MS_PRIVATE, propagateAll: true, rest: []string{"rsize=1", "r", "ro2"}},
	} {
		var list []string
		if options != "" {
			list = strings.Split(options, ",")
		}
		got := readOptions(specs.Mount{Options: list})
		if !slices.Equal(got.rest, want.rest) {
			t.Errorf("%s: the rest is %q, want %q", options, got.rest, want.rest)
		}
		got.rest, want.rest = nil, nil
		if a, b := got, want; a.set != b.set || a.clear != b.clear || a.rset != b.rset || a.rclear != b.rclear || a.propagation != b.propagation ||
			a.propagateAll != b.propagateAll || a.bind != b.bind || a.recursive != b.recursive || a.remount != b.remount || a.copyUp != b.copyUp {
			t.Errorf("%s: %+v, want %+v", options, got, want)
		}
	}
}

// A hundred mounts need no more slots than there are.
func TestManyMounts(t *testing.T) {
	s := foreign(func(s *specs.Spec) {
		for range 200 {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/a/b/c", Type: "bind", Source: "/etc"})
		}
	})
	calls(t, s, nil)
	s.Mounts = append(s.Mounts, s.Mounts...)
	if _, err := Compile(s, NewSetup()); err == nil {
		t.Error("400 mounts: no error")
	}
}

// A link of the image and /proc's own lead nowhere, also where directories are made.
func TestNothingIsMadeOutside(t *testing.T) {
	outside := t.TempDir()
	for name, link := range map[string]string{"absolute": outside, "by dots": "../../../../../../../.." + outside, "by a descriptor": "/proc/self/fd/5", "by init": "/proc/1/root" + outside} {
		t.Run(name, func(t *testing.T) {
			rootfs := root(t)
			if err := unix.Symlink(link, rootfs+"/data"); err != nil {
				t.Fatal(err)
			}
			s := foreign(func(s *specs.Spec) {
				s.Mounts = []specs.Mount{{Destination: "/proc", Type: "proc"}, {Destination: "/data/new/deep", Type: "tmpfs"}}
				s.Process.Args = []string{"/bin/true"}
			})
			_, _, err := start(t, rootfs, s)
			if err == nil {
				t.Error("no error")
			}
			s.Mounts, s.Process.Cwd = s.Mounts[:1], "/data/new/deep"
			if _, _, err := start(t, rootfs, s); err == nil {
				t.Error("the working directory: no error")
			}
			var st unix.Stat_t
			if unix.Stat(outside+"/new", &st) == nil {
				t.Error("it was made outside")
			}
		})
	}
}
