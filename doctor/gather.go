package doctor

import (
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"docker2013/evidence"
)

// programTime is how long a program that we ask something may take.
const programTime = 5 * time.Second

// Gather finds the facts about this host, for a daemon with these options. It
// never fails: what can't be found out is said in the facts.
func Gather(ctx context.Context, o Options) Facts {
	root := cmp.Or(o.Root, "/var/lib/docker")
	f := Facts{
		Kernel:      kernelRelease(),
		UID:         os.Geteuid(),
		Data:        gatherData(root),
		FileSystems: fileSystems(),
		FuseDevice:  reason(opens("/dev/fuse")),
		Cgroups:     cgroups(),
		Disabled:    disabledControllers(),
		Namespaces:  namespaceNames(),
		LXC:         gatherLXC(ctx),
		BashStatic:  static("bash-static"),
		BusyBox:     static("busybox"),
		Ports: []Port{
			gatherPort("--tcp", cmp.Or(o.TCP, "127.0.0.1:4242")),
			gatherPort("--http", cmp.Or(o.HTTP, "127.0.0.1:8080")),
		},
		Docker:   dockerSocket(),
		AppArmor: line("/sys/module/apparmor/parameters/enabled") == "Y",
		SELinux:  map[string]string{"0": "permissive", "1": "enforcing"}[line("/sys/fs/selinux/enforce")],
		Seccomp:  words("/proc/sys/kernel/seccomp/actions_avail"),
		Now:      time.Now(),
		Built:    built(),
	}
	if p, err := evidence.ReadPrivileges(os.Getpid()); err == nil {
		f.Caps = p.Effective
	}
	if f.UID == 0 {
		f.Isolation = probeNamespaces(ctx)
		f.Overlay = probeOverlay(f.Data.Nearest)
		f.FileSystems = fileSystems() // the probe may have loaded the module
	}
	return f
}

// reason is an error's text without the operation and path around it.
func reason(err error) string {
	if err == nil {
		return ""
	}
	if pathError, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathError.Err
	}
	return err.Error()
}

// words is a small file's words, none if it can't be read.
func words(path string) []string {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return strings.Fields(string(data))
}

func line(path string) string { return strings.Join(words(path), " ") }

func opens(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

func built() time.Time {
	info, err := os.Stat("/proc/self/exe")
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// modernNames are entries of a data directory that only later Dockers make
// (2013 had images and containers, and containers is there to this day). The
// daemon refuses the same ones.
var modernNames = []string{
	"overlay2", "image", "containerd", "buildkit", "volumes", "network",
	"swarm", "engine-id", "repositories-aufs", "linkgraph.db",
}

func gatherData(root string) Data {
	d := Data{Root: root, Nearest: filepath.Clean(root)}
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.Err = reason(err)
		return d
	}
	for _, e := range entries {
		if slices.Contains(modernNames, e.Name()) {
			d.Modern = append(d.Modern, e.Name())
		}
	}
	for d.Nearest != "/" && d.Nearest != "." {
		if _, err := os.Stat(d.Nearest); err == nil {
			break
		}
		d.Nearest = filepath.Dir(d.Nearest)
	}
	var s unix.Statfs_t
	if err := unix.Statfs(d.Nearest, &s); err != nil {
		d.Err = err.Error()
		return d
	}
	d.Free = s.Bfree * uint64(s.Bsize)
	if s.Flags&unix.ST_RDONLY != 0 {
		d.Err = "on a read-only file system"
	}
	d.Type = fileSystemOf(d.Nearest)
	return d
}

// fileSystemOf is the type of the file system that a path is on.
func fileSystemOf(path string) string {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "?"
	}
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(path))
	if err != nil {
		return "?"
	}
	longest, kind := -1, "?"
	for _, m := range mounts {
		if len(m.Mountpoint) >= longest {
			longest, kind = len(m.Mountpoint), m.FSType
		}
	}
	return kind
}

// fileSystems are the types of file system that the kernel has loaded.
func fileSystems() []string {
	return slices.DeleteFunc(words("/proc/filesystems"), func(w string) bool { return w == "nodev" })
}

// cgroups lists the mounted hierarchies: cgroups(7).
func cgroups() []Hierarchy {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return nil
	}
	var found []Hierarchy
	for _, m := range mounts {
		h := Hierarchy{Version: 1, Mount: m.Mountpoint}
		if m.FSType == "cgroup2" {
			h.Version = 2
			h.Controllers = words(filepath.Join(m.Mountpoint, "cgroup.controllers"))
		} else {
			// A v1 mount's options are its controllers, beside a few of its own.
			own := []string{"rw", "ro", "none", "xattr", "noprefix", "clone_children"}
			for option := range strings.SplitSeq(m.VFSOptions, ",") {
				if !slices.Contains(own, option) && !strings.HasPrefix(option, "release_agent=") {
					h.Controllers = append(h.Controllers, option)
				}
			}
		}
		found = append(found, h)
	}
	return found
}

// disabledControllers are those with a 0 in the last column of /proc/cgroups.
func disabledControllers() []string {
	data, err := os.ReadFile("/proc/cgroups")
	if err != nil {
		return nil
	}
	var names []string
	for line := range strings.Lines(string(data)) {
		if column := strings.Fields(line); len(column) == 4 && column[3] == "0" {
			names = append(names, column[0])
		}
	}
	return names
}

func namespaceNames() []string {
	entries, err := os.ReadDir("/proc/self/ns")
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), "_for_children") {
			names = append(names, e.Name())
		}
	}
	return names
}

func gatherLXC(ctx context.Context) Program {
	path, err := exec.LookPath("lxc-start")
	if err != nil {
		return Program{}
	}
	ctx, cancel := context.WithTimeout(ctx, programTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	return Program{Path: path, Version: strings.TrimSpace(string(out)), Err: reason(err)}
}

// static finds a program and whether it runs without any other file: whether
// it names no ELF interpreter.
func static(name string) Program {
	path, err := exec.LookPath(name)
	if err != nil {
		return Program{}
	}
	p := Program{Path: path}
	f, err := elf.Open(path)
	if err != nil {
		p.Err = err.Error()
		return p
	}
	defer f.Close() // only read from: nothing to lose
	p.Static = !slices.ContainsFunc(f.Progs, func(s *elf.Prog) bool { return s.Type == elf.PT_INTERP })
	return p
}

func dockerSocket() string {
	const path = "/run/docker.sock"
	if info, err := os.Stat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		return path
	}
	return ""
}

// probeNamespaces starts a program in new namespaces, as a container is.
func probeNamespaces(ctx context.Context) Probe {
	path, err := exec.LookPath("true")
	if err != nil {
		return Probe{}
	}
	ctx, cancel := context.WithTimeout(ctx, programTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS,
	}
	return Probe{Tried: true, Err: reason(cmd.Run())}
}

// probeOverlay lets the kernel put an overlay together from folders below dir:
// whether that works depends on the file system they are on. The new mount API
// makes it without mounting it anywhere, so there is nothing to take away but
// the folders: fsopen(2), Linux 5.2.
func probeOverlay(dir string) (p Probe) {
	temp, err := os.MkdirTemp(dir, ".docker2013-doctor-")
	if err != nil {
		return Probe{Tried: true, Err: reason(err)}
	}
	defer func() {
		if err := os.RemoveAll(temp); err != nil && p.Err == "" {
			p.Err = err.Error()
		}
	}()
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENOSYS) {
		return Probe{}
	}
	if err != nil {
		return Probe{Tried: true, Err: err.Error()}
	}
	defer unix.Close(fd)
	for _, name := range []string{"lower", "upper", "work"} {
		path := filepath.Join(temp, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			return Probe{Tried: true, Err: reason(err)}
		}
		if err := unix.FsconfigSetString(fd, name+"dir", path); err != nil {
			return Probe{Tried: true, Err: err.Error()}
		}
	}
	return Probe{Tried: true, Err: reason(unix.FsconfigCreate(fd))}
}
