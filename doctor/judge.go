package doctor

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"docker2013/evidence"
)

// Judge makes a report of the facts. It looks at nothing else.
func Judge(f Facts) Report {
	r := Report{Checks: []Check{
		kernel(f),
		privileges(f),
		data(f),
		aufs(f),
		overlay(f),
		fuse(f),
		cgroupV1(f),
		cgroupV2(f),
		limits(f),
		namespaces(f),
		lxc(f),
		mountCalls(f),
		baseImage(f),
	}}
	for _, p := range f.Ports {
		r.Checks = append(r.Checks, port(p))
	}
	r.Checks = append(r.Checks,
		modernDocker(f),
		security(f),
		clock(f),
	)
	for _, p := range both {
		r.Paths = append(r.Paths, verdict(p, r.Checks))
	}
	return r
}

// verdict is about one path: it runs when nothing it needs is missing.
func verdict(path string, checks []Check) Verdict {
	v := Verdict{Path: path}
	for _, c := range checks {
		if c.Status == Missing && slices.Contains(c.Needed, path) {
			v.Missing = append(v.Missing, c.Name)
		}
	}
	v.OK = len(v.Missing) == 0
	return v
}

// not makes a check that isn't ok.
func (c Check) not(s Status, without, fix string) Check {
	c.Status, c.Without, c.Fix = s, without, fix
	return c
}

var (
	classic = []string{Classic}
	modern  = []string{Modern}
	both    = []string{Classic, Modern}
)

// kernel: overlayfs takes several lowerdirs since Linux 4.0.
func kernel(f Facts) Check {
	c := Check{Name: "kernel", Status: OK, Found: "Linux " + f.Kernel, Needed: both}
	if !atLeast(f.Kernel, 4, 0) {
		return c.not(Missing, "an image of more than one layer can't be mounted", "use Linux 4.0 or later")
	}
	return c
}

// needed are the capabilities that the daemon, lxc-start and tar can't do without.
var needed = []string{
	"chown", "dac_override", "fowner", "fsetid", "kill", "mknod", "net_admin",
	"setfcap", "setgid", "setpcap", "setuid", "sys_admin", "sys_chroot",
}

func privileges(f Facts) Check {
	c := Check{Name: "privileges", Status: OK, Needed: both}
	const without = "no namespace, mount or cgroup can be made"
	if f.UID != 0 {
		c.Found = fmt.Sprintf("user id %d, not root", f.UID)
		return c.not(Missing, without, "run doctor with sudo, since some checks need root; the daemon always does")
	}
	absent := evidence.AllCaps &^ f.Caps
	if absent == 0 {
		c.Found = "root with all capabilities"
	} else {
		c.Found = "root without " + strings.Join(absent.Names(), " ")
	}
	var lack []string
	for _, name := range needed {
		if !f.Caps.Has(name) {
			lack = append(lack, name)
		}
	}
	if lack != nil {
		return c.not(Missing, without,
			"give this environment "+strings.Join(lack, " ")+" (in a Docker container: --privileged)")
	}
	return c
}

// little is too small for the image base and a few containers, in bytes.
const little = 100 << 20

func data(f Facts) Check {
	d := f.Data
	c := Check{Name: "data", Status: OK, Needed: both}
	elsewhere := "choose another place: dockerd2013 --root DIR"
	if d.Err != "" && f.UID != 0 {
		c.Found = d.Root + ": " + d.Err
		return c.not(Degraded, "not known: it takes root to look", "run doctor with sudo")
	}
	if d.Err != "" {
		c.Found = d.Root + ": " + d.Err
		return c.not(Missing, "images and containers have no place", elsewhere)
	}
	c.Found = fmt.Sprintf("%s on %s, %d MB free", d.Root, d.Type, d.Free>>20)
	if d.Nearest != d.Root {
		c.Found = fmt.Sprintf("%s (to be made) on %s, %d MB free", d.Root, d.Type, d.Free>>20)
	}
	if d.Free < little {
		return c.not(Degraded, "images and containers soon have no place", "free some, or "+elsewhere)
	}
	return c
}

// aufs is what 2013 had; where the kernel has none the classic path mounts ours, by
// FUSE, and where there is no FUSE either, overlayfs.
func aufs(f Facts) Check {
	c := Check{Name: "aufs", Status: OK, Needed: classic}
	switch {
	case slices.Contains(f.FileSystems, "aufs"):
		c.Found = "in the kernel"
	case fuse(f).Status == OK:
		c.Found = "not in the kernel; by FUSE, in user space: --union aufs-fuse"
	default:
		c.Found = "not in this kernel, and no FUSE"
		return c.not(Degraded, "the classic path mounts overlayfs and translates the whiteouts", "see fuse")
	}
	return c
}

func overlay(f Facts) Check {
	c := Check{Name: "overlay", Status: OK, Needed: both}
	status, without := Missing, "no container's file system can be mounted"
	if aufs(f).Status == OK {
		status, without = Degraded, "only the classic path works, with --union aufs or aufs-fuse"
	}
	known := slices.Contains(f.FileSystems, "overlay")
	switch {
	case f.Overlay.Tried && f.Overlay.Err == "":
		c.Found = "works on " + f.Data.Nearest
	case f.Overlay.Tried && known:
		c.Found = fmt.Sprintf("in the kernel, but not on %s: %s", f.Data.Nearest, f.Overlay.Err)
		return c.not(status, without,
			"put the data on ext4, xfs or btrfs: dockerd2013 --root DIR (in a container: on a volume, not on its own overlay)")
	case known:
		c.Found = "in the kernel; not tried"
	default:
		c.Found = "not in the kernel"
		if f.Overlay.Err != "" {
			c.Found += ": " + f.Overlay.Err
		}
		return c.not(status, without, "modprobe overlay")
	}
	return c
}

// fuse is for AUFS outside the kernel.
func fuse(f Facts) Check {
	c := Check{Name: "fuse", Status: OK, Found: "in the kernel, /dev/fuse opens", Needed: classic}
	const without = "AUFS can't be mounted in user space, and overlayfs takes its place"
	switch {
	case !slices.Contains(f.FileSystems, "fuse"):
		c.Found = "not in the kernel"
		return c.not(Degraded, without, "modprobe fuse")
	case f.FuseDevice != "" && f.UID != 0:
		c.Found = "in the kernel; /dev/fuse not tried"
	case f.FuseDevice != "":
		c.Found = "in the kernel, but /dev/fuse: " + f.FuseDevice
		return c.not(Degraded, without, "mknod /dev/fuse c 10 229 (in a Docker container: --device /dev/fuse)")
	}
	return c
}

func cgroupV1(f Facts) Check {
	return Check{Name: "cgroup v1", Status: OK, Found: hierarchies(f, 1)}
}

func cgroupV2(f Facts) Check {
	return Check{Name: "cgroup v2", Status: OK, Found: hierarchies(f, 2)}
}

// hierarchies lists the controllers of a version, and the folder of the mounts.
func hierarchies(f Facts, version int) string {
	var controllers, mounts []string
	for _, h := range f.Cgroups {
		if h.Version == version {
			controllers = append(controllers, h.Controllers...)
			mounts = append(mounts, h.Mount)
		}
	}
	list := strings.Join(controllers, " ")
	if list == "" {
		list = "no controllers"
	}
	switch len(mounts) {
	case 0:
		return "not mounted"
	case 1:
		return list + " at " + mounts[0]
	}
	parent := path.Dir(mounts[0])
	for _, m := range mounts[1:] {
		for parent != "/" && !strings.HasPrefix(m, parent+"/") {
			parent = path.Dir(parent)
		}
	}
	return list + " below " + parent
}

// uses is what each controller is for; the second name is v2's.
var uses = []struct {
	v1, v2 string // v2 "": it does this without a controller
	what   string
}{
	{"memory", "memory", "-m"},
	{"cpu", "cpu", "--cpus and --cpu-shares"},
	{"cpuset", "cpuset", "--cpuset-cpus"},
	{"pids", "pids", "--pids-limit"},
	{"blkio", "io", "--blkio-weight"},
	{"cpuacct", "", "the CPU time in stats"},
	{"freezer", "", "pause"},
	{"devices", "", "the list of allowed devices"},
}

// limits looks in the hierarchies that containers are put into: v2 where
// /sys/fs/cgroup is one, else those of v1, as liblxc does.
func limits(f Facts) Check {
	c := Check{Name: "limits", Status: OK, Found: "every controller is there", Needed: both}
	if len(f.Cgroups) == 0 {
		c.Found = "no cgroup hierarchy is mounted"
		return c.not(Missing, "lxc-start refuses to start", "mount -t cgroup2 cgroup2 /sys/fs/cgroup")
	}
	unified := slices.ContainsFunc(f.Cgroups, func(h Hierarchy) bool { return h.Version == 2 && h.Mount == "/sys/fs/cgroup" })
	there := map[string]bool{"": true}
	for _, h := range f.Cgroups {
		for _, name := range h.Controllers {
			there[name] = there[name] || (h.Version == 2) == unified
		}
	}
	var absent, lost []string
	for _, u := range uses {
		name := u.v1
		if unified {
			name = u.v2
		}
		if !there[name] {
			absent = append(absent, name)
			lost = append(lost, u.what)
		}
	}
	if absent == nil {
		return c
	}
	c.Found = "no controller " + strings.Join(absent, ", ")
	fix := fmt.Sprintf("for c in %s; do mkdir -p /sys/fs/cgroup/$c && mount -t cgroup -o $c cgroup /sys/fs/cgroup/$c; done", strings.Join(absent, " "))
	switch {
	case slices.Contains(f.Disabled, absent[0]):
		fix = "boot the kernel with cgroup_enable=" + absent[0]
	case unified:
		fix = "have it delegated to this environment (it isn't in cgroup.controllers)"
	}
	return c.not(Degraded, "these don't work: "+strings.Join(lost, ", "), fix)
}

// fiveNamespaces are those of 2013; a container can't do without.
var fiveNamespaces = []string{"ipc", "mnt", "net", "pid", "uts"}

func namespaces(f Facts) Check {
	c := Check{Name: "namespaces", Status: OK, Found: strings.Join(f.Namespaces, " "), Needed: both}
	const without = "containers can't be isolated"
	for _, name := range fiveNamespaces {
		if !slices.Contains(f.Namespaces, name) {
			c.Found += "; no " + name
			return c.not(Missing, without, "use a kernel built with all of CONFIG_NAMESPACES")
		}
	}
	switch {
	case !f.Isolation.Tried:
		c.Found += "; not tried"
	case f.Isolation.Err != "":
		c.Found += "; new ones can't be made: " + f.Isolation.Err
		return c.not(Missing, without, "allow clone(2) with new namespaces here (in a Docker container: --privileged)")
	default:
		c.Found += ": can be made"
	}
	return c
}

// lxc: the keys that the template writes came with LXC 2.1, cgroup v2 alone is
// understood since 4.0, and the tests run with 5.0.
func lxc(f Facts) Check {
	c := Check{Name: "lxc", Status: OK, Needed: classic}
	const install = "apt-get install --no-install-recommends lxc"
	const without = "the classic path has no runtime"
	v1 := slices.ContainsFunc(f.Cgroups, func(h Hierarchy) bool { return h.Version == 1 })
	switch p := f.LXC; {
	case p.Path == "":
		c.Found = "no lxc-start on the PATH"
		return c.not(Missing, without, install)
	case p.Err != "":
		c.Found = p.Path + ": " + p.Err
		return c.not(Missing, without, install)
	case !atLeast(p.Version, 2, 1):
		c.Found = p.Path + " " + p.Version
		return c.not(Missing, "it doesn't know the configuration keys of LXC 2.1", install+" (5.0 is what the tests run with)")
	case !atLeast(p.Version, 4, 0) && len(f.Cgroups) > 0 && !v1:
		c.Found = p.Path + " " + p.Version + ", and only cgroup v2 is mounted"
		return c.not(Missing, "it needs cgroup v1", install+" (4.0 or later), or mount cgroup v1")
	default:
		c.Found = p.Path + " " + p.Version
	}
	return c
}

// mountCalls: the modern path mounts with open_tree, fsopen and move_mount (Linux
// 5.2) and sets attributes with mount_setattr (5.12).
func mountCalls(f Facts) Check {
	c := Check{Name: "mount calls", Status: OK, Found: "fsopen, open_tree, move_mount, mount_setattr", Needed: modern}
	if !atLeast(f.Kernel, 5, 12) {
		c.Found = "not all of fsopen, open_tree, move_mount, mount_setattr"
		return c.not(Missing, "a container of the modern path can't be mounted", "use Linux 5.12 or later, or the classic path")
	}
	return c
}

func baseImage(f Facts) Check {
	c := Check{Name: "base image", Status: OK}
	var found, install []string
	for _, p := range []struct {
		Program
		pkg string
	}{{f.BashStatic, "bash-static"}, {f.BusyBox, "busybox-static"}} {
		switch {
		case p.Path == "":
			found = append(found, "no "+p.pkg)
		case p.Err != "":
			found = append(found, p.Path+": "+p.Err)
		case !p.Static:
			found = append(found, p.Path+" needs shared libraries")
		default:
			found = append(found, p.Path)
			continue
		}
		install = append(install, p.pkg)
	}
	c.Found = strings.Join(found, ", ")
	if install != nil {
		return c.not(Degraded, "`docker2013 pull base` can't make the image; put and pull URL still work",
			"apt-get install "+strings.Join(install, " "))
	}
	return c
}

// daemon is the name of our daemon's process.
const daemon = "dockerd2013"

func port(p Port) Check {
	c := Check{Name: "port " + p.Flag, Status: OK, Needed: both}
	fix := fmt.Sprintf("end it, or choose another address: dockerd2013 %s HOST:PORT", p.Flag)
	if p.Flag == "--tcp" {
		fix += ", and for clients DOCKER=HOST:PORT"
	}
	switch {
	case p.Err == "":
		c.Found = p.Addr + " is free"
	case p.Holder == daemon:
		c.Found = fmt.Sprintf("%s: our daemon listens, process %d", p.Addr, p.PID)
	case p.Holder != "":
		c.Found = fmt.Sprintf("%s is taken by %s, process %d", p.Addr, p.Holder, p.PID)
		return c.not(Missing, "the daemon can't listen there", fix)
	default:
		c.Found = p.Addr + ": " + p.Err
		return c.not(Missing, "the daemon can't listen there", fix)
	}
	return c
}

func modernDocker(f Facts) Check {
	c := Check{Name: "modern Docker", Status: OK, Found: "not in the way", Needed: both}
	switch {
	case f.Data.Modern != nil:
		c.Found = fmt.Sprintf("its data is in %s: %s", f.Data.Root, strings.Join(f.Data.Modern, " "))
		c = c.not(Missing, "the daemon refuses that folder, to leave it as it is",
			"keep ours elsewhere: dockerd2013 --root /var/lib/docker2013")
	case f.Docker != "":
		c.Found = fmt.Sprintf("runs (%s), but has no data in %s", f.Docker, f.Data.Root)
	}
	return c
}

// security is for information: what further confines a container here.
func security(f Facts) Check {
	apparmor, selinux, seccomp := "off", "off", "no"
	if f.AppArmor {
		apparmor = "on"
	}
	if f.SELinux != "" {
		selinux = f.SELinux
	}
	if f.Seccomp != nil {
		seccomp = "yes"
	}
	return Check{Name: "security", Status: OK,
		Found: fmt.Sprintf("AppArmor %s, SELinux %s, seccomp filters: %s", apparmor, selinux, seccomp)}
}

// clock: no clock of ours is right that is behind the day we were built.
func clock(f Facts) Check {
	c := Check{Name: "clock", Status: OK, Found: f.Now.Format(time.RFC3339)}
	if f.Now.Before(f.Built) {
		c.Found += ", but this program was built " + f.Built.Format(time.RFC3339)
		return c.not(Degraded, "CREATED and STATUS in lists are wrong, and https fails", "set the clock: date -s, or timedatectl set-ntp true")
	}
	return c
}

// atLeast compares the first two numbers of a version: "5.0.2", "6.1.0-18-amd64".
// What isn't a version is less than every one.
func atLeast(version string, major, minor int) bool {
	numbers := strings.FieldsFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	got := [2]int{-1, 0}
	for i := range got {
		if i < len(numbers) {
			n, err := strconv.Atoi(numbers[i])
			if err != nil {
				return false
			}
			got[i] = n
		}
	}
	return got[0] > major || got[0] == major && got[1] >= minor
}
