package xray

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Explain turns the calls that made a container into deeds, in their order. rootfs
// is where the container's root is on the host: what lies below is named as seen
// from inside. Deeds of one kind become one: the devices, the capabilities, the
// cgroup in all its hierarchies.
func Explain(calls []Call, rootfs string) []Deed {
	e := explainer{rootfs: rootfs, files: map[file]string{}, contexts: map[file]*mounting{}}
	for i := range calls {
		if c := &calls[i]; c.OK() {
			e.call(c)
		}
	}
	return e.deeds
}

// file is a descriptor of a process.
type file struct{ pid, fd int }

// mounting is a mount on its way: fsopen or open_tree have begun it, move_mount
// attaches it.
type mounting struct {
	kind    string // the file system's type; "": a bind mount
	source  string // of a bind mount
	own     bool   // its source is the container's, not the host's
	options []string
	calls   []string
	count   int
}

type explainer struct {
	rootfs   string
	pivoted  bool // from here on paths are the container's own
	files    map[file]string
	contexts map[file]*mounting
	deeds    []Deed
}

func (e *explainer) add(d Deed) {
	if d.Count == 0 {
		d.Count = 1
	}
	for i := range e.deeds {
		if old := &e.deeds[i]; old.Idea == d.Idea && old.Words == d.Words && old.Detail == d.Detail && slices.Equal(old.Items, d.Items) && slices.Equal(old.Calls, d.Calls) {
			old.Count += d.Count
			return
		}
	}
	e.deeds = append(e.deeds, d)
}

// join adds item to the latest deed of these words, or makes it.
func (e *explainer) join(idea Idea, call, words, item, source string) {
	e.joinAll(idea, []string{call}, 1, words, item, source)
}

func (e *explainer) joinAll(idea Idea, calls []string, count int, words, item, source string) {
	for i := len(e.deeds) - 1; i >= 0; i-- {
		d := &e.deeds[i]
		if d.Idea != idea || d.Words != words {
			continue
		}
		d.Count += count
		for _, call := range calls {
			if !slices.Contains(d.Calls, call) {
				d.Calls = append(d.Calls, call)
			}
		}
		if !slices.Contains(d.Items, item) {
			d.Items = append(d.Items, item)
		}
		return
	}
	e.add(Deed{Idea: idea, Calls: slices.Clone(calls), Count: count, Words: words, Items: []string{item}, Source: source})
}

func (e *explainer) call(c *Call) {
	switch c.Name {
	case "clone", "clone3", "unshare":
		e.newNamespaces(c)
	case "setns":
		e.one(c, Namespaces, "native.(*writer).namespaces", "", "join the namespace "+descriptorPath(c.arg(0)))
	case "openat", "openat2":
		e.files[file{c.Pid, number(c.Result)}] = descriptorPath(c.Result)
	case "mkdir", "mkdirat", "write":
		e.cgroup(c)
	case "mount":
		e.mount(c)
	case "fsopen", "fsconfig", "mount_setattr", "fsmount", "open_tree", "move_mount":
		e.mountInSteps(c)
	case "pivot_root":
		e.one(c, Mounts, "native.(*writer).changeRoot", "", "pivot_root: the container's file system becomes the root")
		e.pivoted = true
	case "chroot":
		e.one(c, Mounts, "", "", "chroot to "+c.text(0))
	case "umount2":
		if c.text(0) == "." || strings.Contains(c.arg(1), "MNT_DETACH") && path.Dir(c.text(0)) == "/" {
			e.one(c, Mounts, "native.(*writer).changeRoot", "", "let go of the old root")
		}
	case "mknod", "mknodat":
		i := len(c.Args) - 3
		if name := path.Base(c.text(i)); i >= 0 && strings.Contains(c.arg(i+1), "S_IFCHR") {
			e.join(Mounts, c.Name, "make the devices", name, "native.(*writer).devices")
		}
	case "capset":
		e.one(c, Capabilities, "native.(*writer).identity", kept(c.arg(1)), "set the effective, permitted and inheritable sets")
	case "prctl":
		e.prctl(c)
	case "seccomp":
		if strings.Contains(c.arg(0), "SECCOMP_SET_MODE_FILTER") {
			size, _, _ := strings.Cut(strings.TrimPrefix(c.arg(2), "{len="), ",")
			e.one(c, Seccomp, "native.(*writer).filter", size+" instructions", "load a filter for system calls")
		}
	case "setsid":
		e.one(c, Terminal, "native.(*writer).session", "", "begin a session of its own")
	case "ioctl":
		e.ioctl(c)
	case "sethostname":
		e.one(c, Names, "native.(*writer).names", c.text(0), "set the hostname")
	case "setresuid", "setuid":
		e.one(c, Names, "native.(*writer).identity", "", "be the user "+c.arg(0))
	case "setresgid", "setgid":
		e.one(c, Names, "native.(*writer).identity", "", "be of the group "+c.arg(0))
	case "setgroups":
		e.one(c, Names, "native.(*writer).identity", "", "have "+c.arg(0)+" further groups")
	case "execve", "execveat":
		e.one(c, Exec, "native.(*writer).execute", "", "execute "+c.text(0))
	}
}

// one adds the deed of one call.
func (e *explainer) one(c *Call, idea Idea, source, detail, words string) {
	e.add(Deed{Idea: idea, Calls: []string{c.Name}, Words: words, Detail: detail, Source: source})
}

// at is a path relative to a descriptor, as seen from inside, and whether it is the
// container's.
func (e *explainer) at(dir, name string) (string, bool) {
	if name == "" || !path.IsAbs(name) {
		name = path.Join(descriptorPath(dir), name)
	}
	return e.inside(name)
}

// lxcRoots are where LXC assembles a container's root.
var lxcRoots = []string{"/usr/lib/x86_64-linux-gnu/lxc/rootfs", "/usr/lib/lxc/rootfs", "/usr/lib/aarch64-linux-gnu/lxc/rootfs"}

func (e *explainer) inside(name string) (seen string, own bool) {
	for _, root := range append([]string{e.rootfs}, lxcRoots...) {
		if name == root {
			return "/", true
		}
		if rest, ok := strings.CutPrefix(name, root+"/"); ok {
			return "/" + rest, true
		}
	}
	return name, e.pivoted
}

// named is a path that may go through a descriptor of the caller.
func (e *explainer) named(pid int, name string) string {
	rest, ok := strings.CutPrefix(name, "/proc/self/fd/")
	if !ok {
		return name
	}
	fd, below, _ := strings.Cut(rest, "/")
	if known := e.files[file{pid, number(fd)}]; known != "" {
		return path.Join(known, below)
	}
	return name
}

var namespaceNames = []struct{ flag, name string }{
	{"CLONE_NEWNS", "mount"}, {"CLONE_NEWUTS", "UTS"}, {"CLONE_NEWIPC", "IPC"}, {"CLONE_NEWPID", "PID"}, {"CLONE_NEWNET", "network"},
	{"CLONE_NEWUSER", "user"}, {"CLONE_NEWCGROUP", "cgroup"}, {"CLONE_NEWTIME", "time"},
}

func (e *explainer) newNamespaces(c *Call) {
	source := "native.(*writer).namespaces"
	if c.Name != "unshare" {
		source = "launch.clone"
	}
	for _, n := range namespaceNames {
		if strings.Contains(strings.Join(c.Args, ","), n.flag) {
			e.join(Namespaces, c.Name, "new namespaces:", n.name, source)
		}
	}
	if strings.Contains(strings.Join(c.Args, ","), "CLONE_INTO_CGROUP") {
		e.one(c, Cgroups, source, "", "born into its cgroup (v2)")
	}
}

// cgroup understands what happens below /sys/fs/cgroup.
func (e *explainer) cgroup(c *Call) {
	where := descriptorPath(c.arg(0))
	name := ""
	switch {
	case c.Name == "mkdirat":
		where = path.Join(where, c.text(1))
	case c.Name == "mkdir":
		where = c.text(0)
	default:
		where, name = path.Dir(where), path.Base(where)
	}
	rest, ok := strings.CutPrefix(where, cgroupRoot)
	if !ok {
		return
	}
	hierarchy, group, _ := strings.Cut(rest, "/")
	switch base := path.Base(group); {
	case strings.HasSuffix(base, ".monitor"):
		e.join(Cgroups, c.Name, "a cgroup for lxc-start itself, in", hierarchy, "")
	case name == "":
		e.join(Cgroups, c.Name, "make its cgroup in", hierarchy, "cgroups.(*Parent).Create")
	case name == "tasks" || name == "cgroup.procs":
		e.join(Cgroups, c.Name, "join it in", hierarchy, "native.(*writer).joinCgroups")
	case strings.HasPrefix(name, "devices."):
		e.join(Cgroups, c.Name, "say which devices it may use:", name, "cgroups.(*Group).Apply")
	default:
		e.one(c, Cgroups, "cgroups.(*Group).Apply", strings.TrimSpace(c.text(1)), "set "+name)
	}
}

// mountInSteps understands the calls that mount(2) has become: fsopen(2) to
// move_mount(2).
func (e *explainer) mountInSteps(c *Call) {
	switch m := e.contexts[file{c.Pid, number(c.arg(0))}]; {
	case c.Name == "fsopen":
		e.contexts[file{c.Pid, number(c.Result)}] = &mounting{kind: c.text(0), calls: []string{c.Name}, count: 1}
	case c.Name == "open_tree":
		m := &mounting{calls: []string{c.Name}, count: 1}
		m.source, m.own = e.at(c.arg(0), c.text(1))
		e.contexts[file{c.Pid, number(c.Result)}] = m
	case m == nil: // begun before we looked
	case c.Name == "fsmount":
		m.with(c.Name).options = append(m.options, attributes(c.arg(2))...)
		e.contexts[file{c.Pid, number(c.Result)}] = m
	case c.Name == "move_mount":
		target, _ := e.at(c.arg(2), c.text(3))
		e.attach(m.with(c.Name), target)
	case c.Name == "mount_setattr":
		m.with(c.Name).options = append(m.options, attributes(c.arg(3))...)
	case strings.Contains(c.arg(1), "SET_STRING"): // fsconfig
		m.with(c.Name).options = append(m.options, c.text(2)+"="+c.text(3))
	case strings.Contains(c.arg(1), "SET_FLAG"):
		m.with(c.Name).options = append(m.options, c.text(2))
	default:
		m.with(c.Name)
	}
}

func (m *mounting) with(call string) *mounting {
	m.count++
	if !slices.Contains(m.calls, call) {
		m.calls = append(m.calls, call)
	}
	return m
}

// attributes are MOUNT_ATTR_* and MS_* in the words of mount(8).
func attributes(flags string) []string {
	var list []string
	for _, a := range []struct{ name, word string }{
		{"RDONLY", "ro"}, {"NOSUID", "nosuid"}, {"NODEV", "nodev"}, {"NOEXEC", "noexec"}, {"NOATIME", "noatime"}, {"STRICTATIME", "strictatime"},
	} {
		set, _, _ := strings.Cut(flags, "attr_clr")
		if strings.Contains(set, "_"+a.name) {
			list = append(list, a.word)
		}
	}
	return list
}

// mount understands mount(2).
func (e *explainer) mount(c *Call) {
	source, target, kind, flags := c.text(0), c.text(1), c.text(2), c.arg(3)
	m := &mounting{kind: kind, options: attributes(flags), calls: []string{c.Name}, count: 1}
	if data := c.text(4); data != "" && data != "NULL" {
		m.options = append(m.options, data)
	}
	target, _ = e.inside(e.named(c.Pid, target))
	switch {
	case propagation(flags) != "":
		how := propagation(flags)
		e.add(Deed{Idea: Mounts, Calls: m.calls, Words: fmt.Sprintf("make the mounts below %s %s", target, how), Source: "native.(*writer).ownMounts"})
	case strings.Contains(flags, "MS_REMOUNT"):
		e.add(Deed{Idea: Mounts, Calls: m.calls, Words: "change the mount on " + target, Detail: strings.Join(m.options, ",")})
	case strings.Contains(flags, "MS_BIND"):
		m.kind = ""
		m.source, m.own = e.inside(e.named(c.Pid, source))
		e.attach(m, target)
	default:
		e.attach(m, target)
	}
}

// propagation is a change of it, "": none (mount_namespaces(7)).
func propagation(flags string) string {
	for _, how := range []string{"private", "slave", "shared", "unbindable"} {
		if strings.Contains(flags, "MS_"+strings.ToUpper(how)) {
			return how
		}
	}
	return ""
}

// attach is the end of a mount.
func (e *explainer) attach(m *mounting, target string) {
	d := Deed{Idea: Mounts, Calls: m.calls, Count: m.count, Detail: strings.Join(m.options, ","), Source: "native.(*writer).mount"}
	readOnly := slices.Contains(m.options, "ro")
	switch {
	case m.kind == "" && m.own && m.source == "/dev/null" || m.kind == "tmpfs" && readOnly && strings.Contains(d.Detail, "size=0"):
		e.joinAll(Mounts, m.calls, m.count, "hide", target, "native.(*writer).hide")
		return
	case m.kind == "" && m.own && m.source == target && readOnly:
		e.joinAll(Mounts, m.calls, m.count, "make read-only", target, "native.(*writer).hide")
		return
	case m.kind == "" && target == "/":
		d.Words = "take the union mount as the root"
	case m.kind == "":
		d.Words = fmt.Sprintf("bind %s on %s", m.source, target)
	default:
		d.Words = fmt.Sprintf("mount %s on %s", m.kind, target)
	}
	e.add(d)
}

func (e *explainer) prctl(c *Call) {
	switch c.arg(0) {
	case "PR_CAPBSET_DROP":
		e.join(Capabilities, c.Name, "drop from the bounding set:", strings.ToLower(strings.TrimPrefix(c.arg(1), "CAP_")), "native.(*writer).identity")
	case "PR_CAP_AMBIENT":
		e.one(c, Capabilities, "native.(*writer).identity", "", "change the ambient set")
	case "PR_SET_NO_NEW_PRIVS":
		e.one(c, Seccomp, "native.(*writer).identity", "", "gain no new privileges by execve")
	case "PR_SET_DUMPABLE":
		e.one(c, Names, "native.(*writer).session", "", "let nobody look into it on its way")
	case "PR_SET_PDEATHSIG":
		e.one(c, Names, "", c.arg(1), "die with its parent")
	}
}

func (e *explainer) ioctl(c *Call) {
	for _, k := range []struct {
		request string
		idea    Idea
		words   string
		source  string
	}{
		{"TIOCSCTTY", Terminal, "take the terminal as its own", "native.(*writer).terminal"},
		{"TIOCSPTLCK", Terminal, "unlock a new terminal", "native.(*writer).terminal"},
		{"TIOCGPTPEER", Terminal, "open its other side", "native.(*writer).terminal"},
		{"SIOCSIFFLAGS", Names, "bring the loopback device up", "native.(*writer).loopback"},
	} {
		if strings.HasPrefix(c.arg(1), k.request) {
			e.one(c, k.idea, k.source, "", k.words)
		}
	}
}

// kept are the effective capabilities of a capset.
func kept(sets string) string {
	_, rest, _ := strings.Cut(sets, "effective=")
	rest, _, _ = strings.Cut(rest, ",")
	return strings.ToLower(strings.ReplaceAll(strings.ReplaceAll(rest, "1<<CAP_", ""), "|", " "))
}
