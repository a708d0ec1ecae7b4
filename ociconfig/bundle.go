package ociconfig

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"docker2013/container"
)

// Load reads anybody's bundle: its config.json with what the specification has a
// runtime add to it, and with absolute paths. What we can't do is an error, and so
// is what contradicts itself. Properties that we don't know are ignored, as the
// specification says ("Extensibility").
func Load(bundle string) (*specs.Spec, error) {
	file := filepath.Join(bundle, "config.json")
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: there is no config.json in the bundle: %w", bundle, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	var s specs.Spec
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if s.Linux == nil {
		s.Linux = &specs.Linux{}
	}
	err = errors.Join(checkVersion(s.Version), checkRoot(&s, bundle), checkNamespaces(&s), checkProcess(&s), checkMounts(&s, bundle),
		checkHooks(s.Hooks), checkForeignSysctls(s.Linux), checkMappings(s.Linux), checkUnbuilt(&s))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	addDevices(&s)
	return &s, nil
}

// checkVersion takes every 1.x: the specification adds, and never takes away.
func checkVersion(version string) error {
	major, rest, _ := strings.Cut(version, ".")
	_, err := strconv.Atoi(major)
	parts := strings.SplitN(rest, ".", 2)
	switch {
	case err != nil || len(parts) != 2 || parts[1] == "":
		return fmt.Errorf("ociVersion %q is no version; say %s", version, specs.Version)
	case major != "1":
		return fmt.Errorf("ociVersion %s is not supported: this runtime knows 1.x", version)
	}
	return nil
}

func checkRoot(s *specs.Spec, bundle string) error {
	if s.Root == nil || s.Root.Path == "" {
		return errors.New("root.path is missing")
	}
	if !filepath.IsAbs(s.Root.Path) {
		s.Root.Path = filepath.Join(bundle, s.Root.Path)
	}
	if fi, err := os.Stat(s.Root.Path); err != nil || !fi.IsDir() {
		return fmt.Errorf("root.path %s: there is no such directory", s.Root.Path)
	}
	if p := s.Linux.RootfsPropagation; p != "" && !slices.Contains([]string{"private", "slave", "shared", "unbindable"}, strings.TrimPrefix(p, "r")) {
		return fmt.Errorf("rootfsPropagation %q: say private, slave, shared or unbindable", p)
	}
	return nil
}

// hasNew tells whether the container gets a namespace of its own, or another one
// than ours at least.
func hasNew(l *specs.Linux, kind specs.LinuxNamespaceType) bool {
	return slices.ContainsFunc(l.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == kind })
}

func checkNamespaces(s *specs.Spec) error {
	var errs []error
	seen := map[specs.LinuxNamespaceType]bool{}
	for _, ns := range s.Linux.Namespaces {
		if seen[ns.Type] {
			errs = append(errs, fmt.Errorf("namespace %s is there twice", ns.Type))
		}
		seen[ns.Type] = true
		switch ns.Type {
		case specs.PIDNamespace, specs.NetworkNamespace, specs.MountNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.CgroupNamespace, specs.TimeNamespace, specs.UserNamespace:
		default:
			errs = append(errs, fmt.Errorf("there is no namespace of type %q", ns.Type))
		}
		if ns.Path != "" && !filepath.IsAbs(ns.Path) {
			errs = append(errs, fmt.Errorf("namespace %s: %s is not an absolute path", ns.Type, ns.Path))
		}
	}
	if !seen[specs.MountNamespace] {
		errs = append(errs, errors.New("a container without a mount namespace would mount on the host: add the namespace mount"))
	}
	if (s.Hostname != "" || s.Domainname != "") && !seen[specs.UTSNamespace] {
		errs = append(errs, errors.New("hostname and domainname would be the host's: add the namespace uts"))
	}
	if len(s.Linux.TimeOffsets) > 0 && !seen[specs.TimeNamespace] {
		errs = append(errs, errors.New("timeOffsets want the namespace time"))
	}
	for clock := range s.Linux.TimeOffsets {
		if clock != "monotonic" && clock != "boottime" {
			errs = append(errs, fmt.Errorf("timeOffsets: there is no clock %q that can be set: say monotonic or boottime", clock))
		}
	}
	return errors.Join(errs...)
}

func checkProcess(s *specs.Spec) error {
	if s.Process == nil {
		return nil // it can be created, and not started
	}
	return CheckProcess(s.Process)
}

// CheckProcess finds what is wrong with a process, the container's or one of exec.
func CheckProcess(p *specs.Process) error {
	var errs []error
	if len(p.Args) == 0 {
		errs = append(errs, errors.New("process.args must not be empty"))
	}
	if !strings.HasPrefix(p.Cwd, "/") {
		errs = append(errs, fmt.Errorf("process.cwd %q must be an absolute path", p.Cwd))
	}
	seen := map[string]bool{}
	for _, r := range p.Rlimits {
		name, ok := strings.CutPrefix(r.Type, "RLIMIT_")
		switch {
		case !ok || !slices.Contains(container.UlimitNames, strings.ToLower(name)):
			errs = append(errs, fmt.Errorf("process.rlimits: there is no limit %q", r.Type))
		case seen[r.Type]:
			errs = append(errs, fmt.Errorf("process.rlimits: %s is there twice", r.Type))
		case r.Soft > r.Hard:
			errs = append(errs, fmt.Errorf("process.rlimits: the soft limit of %s is above the hard one", r.Type))
		}
		seen[r.Type] = true
	}
	if p.OOMScoreAdj != nil && (*p.OOMScoreAdj < -1000 || *p.OOMScoreAdj > 1000) {
		errs = append(errs, errors.New("process.oomScoreAdj must be from -1000 to 1000"))
	}
	if x := p.Scheduler; x != nil && !slices.Contains([]specs.LinuxSchedulerPolicy{specs.SchedOther, specs.SchedFIFO, specs.SchedRR,
		specs.SchedBatch, specs.SchedIdle, specs.SchedDeadline}, x.Policy) {
		errs = append(errs, fmt.Errorf("process.scheduler: policy %q is not supported", x.Policy))
	}
	if x := p.IOPriority; x != nil && !slices.Contains([]specs.IOPriorityClass{specs.IOPRIO_CLASS_RT, specs.IOPRIO_CLASS_BE, specs.IOPRIO_CLASS_IDLE}, x.Class) {
		errs = append(errs, fmt.Errorf("process.ioPriority: class %q is not supported", x.Class))
	}
	if p.ExecCPUAffinity != nil {
		errs = append(errs, errors.New("process.execCPUAffinity is not built yet: leave it out"))
	}
	if p.ApparmorProfile != "" && p.ApparmorProfile != "unconfined" && !hasApparmor() {
		errs = append(errs, errors.New("process.apparmorProfile: this host has no AppArmor: leave it out"))
	}
	if p.SelinuxLabel != "" {
		if _, err := os.Stat("/sys/fs/selinux/enforce"); err != nil {
			errs = append(errs, errors.New("process.selinuxLabel: this host has no SELinux: leave it out"))
		}
	}
	return errors.Join(errs...)
}

func checkMounts(s *specs.Spec, bundle string) error {
	var errs []error
	for i := range s.Mounts {
		m := &s.Mounts[i]
		if m.Destination == "" || path.Clean("/"+m.Destination) == "/" {
			errs = append(errs, fmt.Errorf("mount %d: destination %q: say a path below the root", i, m.Destination))
		}
		bind := m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
		switch {
		case bind && slices.Contains(m.Options, "remount"):
			m.Type = "bind"
		case bind:
			m.Type = "bind"
			if !filepath.IsAbs(m.Source) {
				m.Source = filepath.Join(bundle, m.Source)
			}
			if _, err := os.Stat(m.Source); err != nil {
				errs = append(errs, fmt.Errorf("mount on %s: %w", m.Destination, err))
			}
		case m.Type == "":
			errs = append(errs, fmt.Errorf("mount on %s has no type", m.Destination))
		}
		if slices.Contains(m.Options, "idmap") || slices.Contains(m.Options, "ridmap") || len(m.UIDMappings)+len(m.GIDMappings) > 0 {
			errs = append(errs, fmt.Errorf("mount on %s: idmapped mounts are not built yet", m.Destination))
		}
	}
	return errors.Join(errs...)
}

// Prestart are the oldest of hooks: engines still use them.
func Prestart(h *specs.Hooks) []specs.Hook {
	//lint:ignore SA1019 it is in the specification until 2.0
	return h.Prestart
}

// checkHooks finds what is wrong with hooks.
func checkHooks(h *specs.Hooks) error {
	if h == nil {
		return nil
	}
	lists := map[string][]specs.Hook{"prestart": Prestart(h), "createRuntime": h.CreateRuntime, "createContainer": h.CreateContainer,
		"startContainer": h.StartContainer, "poststart": h.Poststart, "poststop": h.Poststop}
	var errs []error
	for name, list := range lists {
		for _, x := range list {
			if !filepath.IsAbs(x.Path) {
				errs = append(errs, fmt.Errorf("hooks.%s: path %q must be absolute", name, x.Path))
			}
			if x.Timeout != nil && *x.Timeout <= 0 {
				errs = append(errs, fmt.Errorf("hooks.%s: the timeout of %s must be positive", name, x.Path))
			}
		}
	}
	return errors.Join(errs...)
}

// checkForeignSysctls takes those of namespaces that are not ours.
func checkForeignSysctls(l *specs.Linux) error {
	var errs []error
	for key := range l.Sysctl {
		name := strings.ReplaceAll(key, "/", ".")
		switch {
		case strings.Contains(name, ".."):
			errs = append(errs, fmt.Errorf("sysctl %q is no name", key))
		case strings.HasPrefix(name, "net.") && hasNew(l, specs.NetworkNamespace):
		case name == "kernel.domainname" && hasNew(l, specs.UTSNamespace):
		case (strings.HasPrefix(name, "fs.mqueue.") || slices.Contains(ipcSysctls, name)) && hasNew(l, specs.IPCNamespace):
		default:
			errs = append(errs, fmt.Errorf("sysctl %q is not in a separate kernel namespace", key)) // runc's words
		}
	}
	return errors.Join(errs...)
}

// checkMappings: a new user namespace has ids, root above all; the host's has its own.
// One that is joined has them already.
func checkMappings(l *specs.Linux) error {
	at := slices.IndexFunc(l.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.UserNamespace })
	if at < 0 {
		if len(l.UIDMappings)+len(l.GIDMappings) > 0 {
			return errors.New("linux.uidMappings and gidMappings want the namespace user")
		}
		return nil
	}
	if l.Namespaces[at].Path != "" {
		return nil
	}
	var errs []error
	for name, list := range map[string][]specs.LinuxIDMapping{"uidMappings": l.UIDMappings, "gidMappings": l.GIDMappings} {
		if !slices.ContainsFunc(list, func(m specs.LinuxIDMapping) bool { return m.ContainerID == 0 && m.Size > 0 }) {
			errs = append(errs, fmt.Errorf("linux.%s: a new user namespace wants ids, and containerID 0, its root, among them", name))
		}
	}
	return errors.Join(errs...)
}

// checkUnbuilt refuses what would be silently missing.
func checkUnbuilt(s *specs.Spec) error {
	l := s.Linux
	var errs []error
	for what, there := range map[string]bool{
		"linux.intelRdt":     l.IntelRdt != nil,
		"linux.memoryPolicy": l.MemoryPolicy != nil, "linux.netDevices": len(l.NetDevices) > 0,
		"linux.mountLabel": l.MountLabel != "", "vm": s.VM != nil,
		"linux.seccomp.listenerPath": l.Seccomp != nil && l.Seccomp.ListenerPath != "",
	} {
		if there {
			errs = append(errs, fmt.Errorf("%s is not built yet: leave it out", what))
		}
	}
	if l.Seccomp != nil {
		for _, f := range l.Seccomp.Flags {
			if !slices.Contains(SeccompFlags, f) {
				errs = append(errs, fmt.Errorf("linux.seccomp: flag %s is not supported", f))
			}
		}
	}
	if p := l.Personality; p != nil && (p.Domain != specs.PerLinux && p.Domain != specs.PerLinux32 || len(p.Flags) > 0) {
		errs = append(errs, errors.New("linux.personality: say LINUX or LINUX32, without flags"))
	}
	for _, d := range l.Devices {
		if !slices.Contains([]string{"c", "u", "b", "p"}, d.Type) || path.Clean("/"+d.Path) == "/" {
			errs = append(errs, fmt.Errorf("linux.devices: %q of type %q: say c, b, u or p", d.Path, d.Type))
		}
	}
	return errors.Join(errs...)
}

// SeccompFlags are those that a filter can be loaded with.
var SeccompFlags = []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_TSYNC", specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow}

// addDevices adds the default devices (config-linux.md, "Default Devices"), and the
// rules that make them useful: as runc, nothing is allowed but what is said, and
// they always are.
func addDevices(s *specs.Spec) {
	for _, d := range defaultDevices {
		if !slices.ContainsFunc(s.Linux.Devices, func(x specs.LinuxDevice) bool { return path.Clean("/"+x.Path) == d.Path }) {
			s.Linux.Devices = append(s.Linux.Devices, d)
		}
	}
	if s.Linux.Resources == nil {
		s.Linux.Resources = &specs.LinuxResources{}
	}
	given := s.Linux.Resources.Devices
	s.Linux.Resources.Devices = append([]specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}, given...)
	for i := range given { // none of them is optional
		d := &s.Linux.Resources.Devices[i+1]
		d.Access = cmp.Or(d.Access, "rwm")
	}
	allowAlways(s)
}
