// Package ociconfig describes a container in the words of the OCI runtime
// specification: what config.lxc is on the classic path.
//
// [Spec] turns a record into the one model that there is,
// github.com/opencontainers/runtime-spec/specs-go. Whatever is wrong with the
// options is found here, before anything is created, and named as it was typed.
package ociconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"docker2013/container"
)

// Version is the specification's that our configurations say: all that we write is in
// it, and Debian 12's crun takes none later.
const Version = "1.1.0"

// Host is what a specification needs of the host.
type Host struct {
	// Pid finds the first process of a running container, for --pid and --ipc
	// container:ID.
	Pid func(id string) (int, error)
	// CgroupV2 says that the controllers are in v2.
	CgroupV2 bool
}

// Spec describes a container. It reads passwd and group in the image's layers,
// and looks at the host's devices.
func Spec(r *container.Record, host Host) (*specs.Spec, error) {
	c := r.Config
	s := &specs.Spec{
		Version:  Version,
		Root:     &specs.Root{Path: "../rootfs", Readonly: c.ReadOnly},
		Hostname: c.Hostname,
		Linux: &specs.Linux{
			CgroupsPath: "",
			Resources:   resources(c),
			Sysctl:      c.Sysctls,
		},
		Annotations: c.Labels,
	}
	if c.Hostname == "" {
		s.Hostname = r.Id
	}
	process, perr := process(r)
	s.Process = process
	namespaces, nerr := namespaces(c, host)
	s.Linux.Namespaces = namespaces
	s.Linux.UIDMappings = mappings(r.Filesystem.IDs)
	s.Linux.GIDMappings = s.Linux.UIDMappings
	mounts, merr := mounts(c, host)
	s.Mounts = mounts
	knownGroups(s.Mounts, r.Filesystem.IDs)
	ierr := knownUser(s.Process, r.Filesystem.IDs)
	derr := devices(s, c)
	if !c.Privileged {
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = slices.Clone(maskedPaths), slices.Clone(readonlyPaths)
	}
	err := errors.Join(perr, nerr, merr, ierr, derr, checkSysctls(c), throttles(s.Linux.Resources, c.Limits))
	if err == nil {
		err = security(s, c) // it needs the capabilities
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Write writes the specification as a bundle's config.json.
func Write(dir string, s *specs.Spec) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("write bundle: %w", err)
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	// Not state: it is made anew at every start.
	return os.WriteFile(filepath.Join(dir, "config.json"), append(data, '\n'), 0o600)
}

// What the kernel shows of itself and of other containers, and what would change
// it: Docker's lists (moby, oci/defaults.go).
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// HiddenPaths are the paths that a container can't read, and those that it can't
// write to, by default.
func HiddenPaths() (masked, readonly []string) {
	return slices.Clone(maskedPaths), slices.Clone(readonlyPaths)
}

func process(r *container.Record) (*specs.Process, error) {
	c := r.Config
	user, err := processUser(r.Filesystem, c)
	p := &specs.Process{
		Terminal: c.Tty,
		User:     user,
		Args:     append([]string{r.Path}, r.Args...),
		Env:      c.Env,
		Cwd:      c.WorkingDir,
	}
	if p.Cwd == "" {
		p.Cwd = "/"
	}
	if !strings.HasPrefix(p.Cwd, "/") {
		err = errors.Join(err, fmt.Errorf("-w %s: say an absolute path", p.Cwd))
	}
	caps, cerr := capabilities(c, user.UID == 0)
	p.Capabilities = caps
	for _, u := range c.Ulimits {
		name := "RLIMIT_" + strings.ToUpper(u.Name)
		p.Rlimits = append(p.Rlimits, specs.POSIXRlimit{Type: name, Soft: uint64(u.Soft), Hard: uint64(u.Hard)})
	}
	if c.OomScoreAdj != 0 {
		p.OOMScoreAdj = &c.OomScoreAdj
	}
	return p, errors.Join(err, cerr)
}

func namespaces(c container.Config, host Host) ([]specs.LinuxNamespace, error) {
	list := []specs.LinuxNamespace{
		{Type: specs.MountNamespace}, {Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.CgroupNamespace},
	}
	var errs []error
	for _, ns := range []struct {
		kind       specs.LinuxNamespaceType
		flag, mode string
		file       string
	}{{specs.IPCNamespace, "--ipc", c.IpcMode, "ipc"}, {specs.PIDNamespace, "--pid", c.PidMode, "pid"}} {
		id, other := strings.CutPrefix(ns.mode, "container:")
		switch {
		case ns.mode == "" || ns.mode == "private":
			list = append(list, specs.LinuxNamespace{Type: ns.kind})
		case ns.mode == "host":
		case other:
			pid, err := host.Pid(id)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s %s: %w", ns.flag, ns.mode, err))
				continue
			}
			list = append(list, specs.LinuxNamespace{Type: ns.kind, Path: fmt.Sprintf("/proc/%d/ns/%s", pid, ns.file)})
		default:
			errs = append(errs, fmt.Errorf("%s %s: say host, or container:ID", ns.flag, ns.mode))
		}
	}
	user, err := userNamespace(c)
	return append(user, list...), errors.Join(append(errs, err)...)
}

// resolvConf is the host's, read-only, as on the classic path.
const resolvConf = "/etc/resolv.conf"

// mounts are what every program expects, in the order in which they lie on each
// other, then the user's own.
func mounts(c container.Config, host Host) ([]specs.Mount, error) {
	sys := []string{"nosuid", "noexec", "nodev", "ro"}
	if c.Privileged {
		sys = sys[:3]
	}
	list := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: sys},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
	}
	if host.CgroupV2 {
		list = slices.Insert(list, 4, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup2", Source: "cgroup", Options: sys})
	}
	if _, err := os.Stat(resolvConf); err == nil {
		list = append(list, specs.Mount{Destination: resolvConf, Type: "bind", Source: resolvConf, Options: []string{"bind", "ro"}})
	}
	var errs []error
	for _, m := range c.Mounts {
		x, err := userMount(m)
		errs = append(errs, err)
		list = append(list, x)
	}
	return list, errors.Join(errs...)
}

func userMount(m container.Mount) (specs.Mount, error) {
	x := specs.Mount{Destination: path.Clean(m.Target), Type: m.Type, Source: m.Source, Options: slices.Clone(m.Options)}
	if !strings.HasPrefix(m.Target, "/") || x.Destination == "/" {
		return x, fmt.Errorf("mount on %q: say an absolute path in the container, and not its root", m.Target)
	}
	if m.ReadOnly {
		x.Options = append(x.Options, "ro", "rro") // what is mounted below the source too
	}
	switch m.Type {
	case "tmpfs":
		x.Source = "tmpfs"
		x.Options = append([]string{"nosuid", "nodev", "noexec"}, x.Options...)
	case "bind":
		x.Options = append([]string{"rbind"}, x.Options...)
		if _, err := os.Stat(m.Source); err != nil {
			return x, fmt.Errorf("mount %s: it is not there on the host", m.Source)
		}
	default:
		return x, fmt.Errorf("mount of type %q: say bind or tmpfs", m.Type)
	}
	return x, nil
}

var ipcSysctls = []string{"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall",
	"kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"}

// checkSysctls takes those of the container's own namespaces only.
func checkSysctls(c container.Config) error {
	var errs []error
	for key := range c.Sysctls {
		own := strings.HasPrefix(key, "net.") || strings.HasPrefix(key, "fs.mqueue.") ||
			slices.Contains(ipcSysctls, key)
		if !own || strings.Contains(key, "/") || strings.Contains(key, "..") {
			errs = append(errs, fmt.Errorf("--sysctl %s: it is the whole host's; a container can set net.*, fs.mqueue.*, kernel.shm*, kernel.msg* and kernel.sem", key))
		}
	}
	return errors.Join(errs...)
}

func resources(c container.Config) *specs.LinuxResources {
	r := &specs.LinuxResources{}
	l := c.Limits
	if c.Ram != 0 || l.MemorySwap != 0 {
		r.Memory = &specs.LinuxMemory{}
		if c.Ram != 0 {
			r.Memory.Limit = new(c.Ram)
		}
		if l.MemorySwap != 0 {
			r.Memory.Swap = new(l.MemorySwap)
		}
	}
	if l.CPUShares != 0 || l.CPUs != 0 || l.CPUSet != "" {
		r.CPU = &specs.LinuxCPU{Cpus: l.CPUSet}
		if l.CPUShares != 0 {
			r.CPU.Shares = new(l.CPUShares)
		}
		if l.CPUs != 0 {
			r.CPU.Period, r.CPU.Quota = new(uint64(period)), new(l.CPUs*period/1000)
		}
	}
	if l.Pids != 0 {
		r.Pids = &specs.LinuxPids{Limit: new(l.Pids)}
	}
	if l.BlkioWeight != 0 {
		r.BlockIO = &specs.LinuxBlockIO{Weight: new(uint16(l.BlkioWeight))}
	}
	return r
}

// period is what a CPU quota is a part of: 100 ms, the kernel's own default, in µs.
const period = 100_000

func throttles(r *specs.LinuxResources, l container.Limits) error {
	var errs []error
	for _, t := range []struct {
		flag string
		list []container.Throttle
		to   func(*specs.LinuxBlockIO) *[]specs.LinuxThrottleDevice
	}{
		{"--device-read-bps", l.DeviceReadBps, func(b *specs.LinuxBlockIO) *[]specs.LinuxThrottleDevice { return &b.ThrottleReadBpsDevice }},
		{"--device-write-bps", l.DeviceWriteBps, func(b *specs.LinuxBlockIO) *[]specs.LinuxThrottleDevice { return &b.ThrottleWriteBpsDevice }},
		{"--device-read-iops", l.DeviceReadIOps, func(b *specs.LinuxBlockIO) *[]specs.LinuxThrottleDevice { return &b.ThrottleReadIOPSDevice }},
		{"--device-write-iops", l.DeviceWriteIOps, func(b *specs.LinuxBlockIO) *[]specs.LinuxThrottleDevice { return &b.ThrottleWriteIOPSDevice }},
	} {
		for _, d := range t.list {
			var st unix.Stat_t
			if err := unix.Stat(d.Path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
				errs = append(errs, fmt.Errorf("%s %s: not a block device of this host", t.flag, d.Path))
				continue
			}
			if r.BlockIO == nil {
				r.BlockIO = &specs.LinuxBlockIO{}
			}
			var x specs.LinuxThrottleDevice
			x.Major, x.Minor, x.Rate = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), d.Rate
			*t.to(r.BlockIO) = append(*t.to(r.BlockIO), x)
		}
	}
	return errors.Join(errs...)
}
