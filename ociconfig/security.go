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
	"sync"

	"github.com/moby/profiles/seccomp"
	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"docker2013/container"
)

// defaultCapabilities are Docker's (moby, oci/caps/defaults.go).
var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// knownCapabilities are those that we could give: what this kernel knows, and
// what our own bounding set still has.
var knownCapabilities = sync.OnceValues(func() ([]string, error) {
	supported, err := capability.ListSupported()
	if err != nil {
		return nil, fmt.Errorf("list the kernel's capabilities: %w", err)
	}
	own, err := capability.NewPid2(0)
	if err == nil {
		err = own.Load()
	}
	if err != nil {
		return nil, fmt.Errorf("read our own capabilities: %w", err)
	}
	var names []string
	for _, c := range supported {
		if own.Get(capability.BOUNDING, c) {
			names = append(names, "CAP_"+strings.ToUpper(c.String()))
		}
	}
	return names, nil
})

// KnownCapabilities are those that a container could get, sorted by number.
func KnownCapabilities() []string {
	known, _ := knownCapabilities() // none
	return known
}

// DropUnknown leaves out of the sets what this kernel doesn't know or we don't have
// ourselves, and names it.
func DropUnknown(c *specs.LinuxCapabilities) (dropped []string) {
	known, err := knownCapabilities()
	if c == nil || err != nil {
		return nil
	}
	for _, set := range []*[]string{&c.Bounding, &c.Effective, &c.Permitted, &c.Inheritable, &c.Ambient} {
		*set = slices.DeleteFunc(slices.Clone(*set), func(name string) bool {
			if slices.Contains(known, name) {
				return false
			}
			if !slices.Contains(dropped, name) {
				dropped = append(dropped, name)
			}
			return true
		})
	}
	return dropped
}

// security is --security-opt, the seccomp filter and the AppArmor profile: Docker's
// default ones unless it says otherwise.
func security(s *specs.Spec, c container.Config) error {
	profile, asked := "", c.Privileged || s.Process == nil
	for _, o := range c.SecurityOpt {
		key, value, _ := strings.Cut(o, "=")
		if key == o {
			key, value, _ = strings.Cut(o, ":")
		}
		switch key {
		case "no-new-privileges":
			s.Process.NoNewPrivileges = true
		case "seccomp":
			profile = value
		case "apparmor":
			asked = true
			if value == "unconfined" {
				break
			}
			if !hasApparmor() {
				return fmt.Errorf("--security-opt %s: this host has no AppArmor; leave it out", o)
			}
			s.Process.ApparmorProfile = value
		case "label":
			if value == "disable" {
				break
			}
			if _, err := os.Stat("/sys/fs/selinux/enforce"); err != nil {
				return fmt.Errorf("--security-opt %s: this host has no SELinux; leave it out", o)
			}
			s.Process.SelinuxLabel = value
		default:
			return fmt.Errorf("--security-opt %s: say no-new-privileges, seccomp=unconfined or a profile, apparmor=… or label=…", o)
		}
	}
	if !asked {
		name, err := defaultApparmor()
		if err != nil {
			return err
		}
		s.Process.ApparmorProfile = name
	}
	if s.Process == nil || profile == "unconfined" || profile == "" && c.Privileged {
		return nil
	}
	if profile == "" {
		var err error
		s.Linux.Seccomp, err = defaultFilter(s)
		return err
	}
	text := profile
	if !strings.HasPrefix(strings.TrimSpace(profile), "{") {
		data, err := os.ReadFile(profile)
		if err != nil {
			return fmt.Errorf("--security-opt seccomp=%s: %w", profile, err)
		}
		text = string(data)
	}
	if !json.Valid([]byte(text)) {
		return errors.New("--security-opt seccomp: the profile is not JSON")
	}
	resolved, err := seccomp.LoadProfile(text, s)
	if err != nil {
		return fmt.Errorf("--security-opt seccomp: %w", err)
	}
	s.Linux.Seccomp = resolved
	return nil
}

// lastDefault is the default profile as it was resolved last: most containers have
// the same capabilities.
var lastDefault struct {
	sync.Mutex
	capabilities []string
	filter       *specs.LinuxSeccomp
}

// defaultFilter is Docker's profile for a process of these capabilities. Nobody
// changes it.
func defaultFilter(s *specs.Spec) (*specs.LinuxSeccomp, error) {
	l := &lastDefault
	l.Lock()
	defer l.Unlock()
	if l.filter == nil || !slices.Equal(l.capabilities, s.Process.Capabilities.Bounding) {
		filter, err := seccomp.GetDefaultProfile(s)
		if err != nil {
			return nil, fmt.Errorf("the default seccomp profile: %w", err)
		}
		l.capabilities, l.filter = s.Process.Capabilities.Bounding, filter
	}
	return l.filter, nil
}

// defaultDevices are the nodes that every program expects.
var defaultDevices = []specs.LinuxDevice{
	{Path: "/dev/null", Type: "c", Major: 1, Minor: 3}, {Path: "/dev/zero", Type: "c", Major: 1, Minor: 5},
	{Path: "/dev/full", Type: "c", Major: 1, Minor: 7}, {Path: "/dev/random", Type: "c", Major: 1, Minor: 8},
	{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9}, {Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
}

// deviceRule allows something of some devices; -1: of all numbers.
func deviceRule(kind string, major, minor int64, access string) specs.LinuxDeviceCgroup {
	d := specs.LinuxDeviceCgroup{Allow: true, Type: kind, Access: access}
	if major >= 0 {
		d.Major = &major
	}
	if minor >= 0 {
		d.Minor = &minor
	}
	return d
}

// allowAlways adds the rules for what every container may do (moby,
// oci/defaults.go; runc, specconv.AllowedDevices).
func allowAlways(s *specs.Spec) {
	rules := append(s.Linux.Resources.Devices, deviceRule("c", -1, -1, "m"), deviceRule("b", -1, -1, "m"))
	for _, d := range defaultDevices {
		rules = append(rules, deviceRule("c", d.Major, d.Minor, "rwm"))
	}
	s.Linux.Resources.Devices = append(rules,
		deviceRule("c", 136, -1, "rwm"), // pseudo-terminals
		deviceRule("c", 5, 2, "rwm"))    // /dev/ptmx
}

// devices are the nodes in /dev, and what may be done with which: nothing but the
// default ones and those asked for.
func devices(s *specs.Spec, c container.Config) error {
	if c.Privileged {
		s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, deviceRule("a", -1, -1, "rwm"))
	} else {
		s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
		allowAlways(s)
	}
	s.Linux.Devices = slices.Clone(defaultDevices)
	if c.Privileged {
		s.Linux.Devices = append(s.Linux.Devices, hostDevices()...)
	}
	var errs []error
	for _, d := range c.Devices {
		node, err := deviceNode(d.Host)
		if err != nil {
			errs = append(errs, fmt.Errorf("--device %s: %w", d.Host, err))
			continue
		}
		node.Path = path.Clean("/" + d.Container)
		if !strings.HasPrefix(node.Path, "/dev/") {
			errs = append(errs, fmt.Errorf("--device %s:%s: say a path below /dev", d.Host, d.Container))
			continue
		}
		s.Linux.Devices = append(s.Linux.Devices, node)
		access := d.Permissions
		if access == "" {
			access = "rwm"
		}
		s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, deviceRule(node.Type, node.Major, node.Minor, access))
	}
	return errors.Join(errs...)
}

func deviceNode(file string) (specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return specs.LinuxDevice{}, errors.New("it is not there on the host")
	}
	d := specs.LinuxDevice{Path: file, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)), FileMode: new(os.FileMode(st.Mode & 0o777))}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		d.Type = "c"
	case unix.S_IFBLK:
		d.Type = "b"
	default:
		return d, errors.New("it is not a device")
	}
	return d, nil
}

// hostDevices are all of the host's /dev, for --privileged.
func hostDevices() []specs.LinuxDevice {
	var list []specs.LinuxDevice
	_ = filepath.WalkDir("/dev", func(file string, e os.DirEntry, err error) error {
		if err != nil {
			return nil // what is gone is not given
		}
		if e.IsDir() {
			if slices.Contains([]string{"/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd"}, file) {
				return filepath.SkipDir
			}
			return nil
		}
		has := slices.ContainsFunc(defaultDevices, func(d specs.LinuxDevice) bool { return d.Path == file })
		if d, err := deviceNode(file); err == nil && !has && file != "/dev/ptmx" && file != "/dev/console" && e.Type()&os.ModeSymlink == 0 {
			list = append(list, d)
		}
		return nil
	})
	return list
}
