package lxc

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"

	"docker2013/container"
)

// optionLines are the lines of config.lxc for options that Docker got after
// January 2013, as far as LXC can do them. What it can't is an error that names
// the option, before anything is created.
func optionLines(c container.Config, prefix string) (lines []string, err error) {
	if err := refuse(c); err != nil {
		return nil, err
	}
	add := func(key, format string, args ...any) {
		lines = append(lines, key+" = "+fmt.Sprintf(format, args...))
	}
	if c.WorkingDir != "" {
		add("lxc.init.cwd", "%s", c.WorkingDir)
	}
	if c.User != "" {
		uid, gid, err := userIDs(c.User)
		if err != nil {
			return nil, err
		}
		add("lxc.init.uid", "%d", uid)
		add("lxc.init.gid", "%d", gid)
	}
	if c.ReadOnly {
		add("lxc.rootfs.options", "ro")
	}
	for _, m := range c.Mounts {
		line, err := mountLine(m)
		if err != nil {
			return nil, err
		}
		add("lxc.mount.entry", "%s", line)
	}
	for _, d := range c.Devices {
		var st unix.Stat_t
		if err := unix.Stat(d.Host, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR && st.Mode&unix.S_IFMT != unix.S_IFBLK {
			return nil, fmt.Errorf("--device %s: not a device of this host", d.Host)
		}
		kind := "c"
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			kind = "b"
		}
		add(prefix+".devices.allow", "%s %d:%d %s", kind, unix.Major(st.Rdev), unix.Minor(st.Rdev), d.Permissions)
		add("lxc.mount.entry", "%s %s none bind,create=file 0 0", escape(d.Host), escape(strings.TrimPrefix(d.Container, "/")))
	}
	for _, u := range c.Ulimits {
		add("lxc.prlimit."+u.Name, "%s:%s", limit(u.Soft), limit(u.Hard))
	}
	for _, key := range slices.Sorted(maps.Keys(c.Sysctls)) {
		add("lxc.sysctl."+key, "%s", c.Sysctls[key])
	}
	if c.OomScoreAdj != 0 {
		add("lxc.proc.oom_score_adj", "%d", c.OomScoreAdj)
	}
	if slices.Contains(c.SecurityOpt, "no-new-privileges") {
		add("lxc.no_new_privs", "1")
	}
	for _, line := range lines {
		if strings.ContainsAny(line, "\n\r\x00") {
			return nil, fmt.Errorf("%q holds a line break, which config.lxc can't", line)
		}
	}
	return lines, nil
}

// userIDs understands USER[:GROUP] in numbers; "" is root.
func userIDs(s string) (uid, gid int, err error) {
	if s == "" {
		return 0, 0, nil
	}
	user, group, both := strings.Cut(s, ":")
	u, uerr := strconv.ParseUint(user, 10, 31)
	g, gerr := strconv.ParseUint(group, 10, 31)
	if uerr != nil || both && gerr != nil {
		return 0, 0, notHere("-u "+s, "LXC takes numbers")
	}
	return int(u), int(g), nil
}

func notHere(option, why string) error {
	return fmt.Errorf("%s: not on the classic path, %s: use --path modern, or leave it out", option, why)
}

// refuse names what only the modern path can do.
func refuse(c container.Config) error {
	switch {
	case len(c.Groups) > 0:
		return notHere("--group-add", "its template has no such key")
	case c.Privileged:
		return notHere("--privileged", "in 2013 nobody was")
	case c.PidMode != "":
		return notHere("--pid", "every container of 2013 had its own")
	case c.IpcMode != "":
		return notHere("--ipc", "every container of 2013 had its own")
	case c.Runtime != "":
		return notHere("--runtime", "it is lxc-start's")
	case c.UsernsMode != "":
		return notHere("--userns", "there were none for Docker until 2015")
	case c.Limits.MemorySwap != 0:
		return notHere("--memory-swap", "its template has no such key")
	case len(c.Limits.DeviceReadBps)+len(c.Limits.DeviceWriteBps)+len(c.Limits.DeviceReadIOps)+len(c.Limits.DeviceWriteIOps) > 0:
		return notHere("--device-read-bps and the like", "its template has no such key")
	}
	for _, o := range c.SecurityOpt {
		if o != "no-new-privileges" {
			return notHere("--security-opt "+o, "it had no seccomp and no profiles")
		}
	}
	return nil
}

// dropFor are the capabilities to drop: those of 2013, less those added, more
// those dropped.
func dropFor(c container.Config) ([]string, error) {
	name := func(s string) string { return strings.TrimPrefix(strings.ToLower(s), "cap_") }
	drop := slices.Clone(dropped)
	for _, s := range c.CapAdd {
		switch n := name(s); {
		case n == "all":
			drop = nil
		case !isCapability(n):
			return nil, fmt.Errorf("--cap-add %s: no such capability; see capabilities(7)", s)
		default:
			drop = slices.DeleteFunc(drop, func(d string) bool { return d == n })
		}
	}
	for _, s := range c.CapDrop {
		switch n := name(s); {
		case n == "all":
			return nil, fmt.Errorf("--cap-drop %s: not on the classic path, LXC drops by name: use --path modern", s)
		case !isCapability(n):
			return nil, fmt.Errorf("--cap-drop %s: no such capability; see capabilities(7)", s)
		case !slices.Contains(drop, n):
			drop = append(drop, n)
		}
	}
	return drop, nil
}

// isCapability reports whether there is a capability of this name: "net_raw".
func isCapability(name string) bool {
	return slices.ContainsFunc(capability.ListKnown(), func(c capability.Cap) bool { return c.String() == name })
}

// mountLine is a line of fstab(5).
func mountLine(m container.Mount) (string, error) {
	target := escape(strings.TrimPrefix(m.Target, "/"))
	options := slices.Clone(m.Options)
	if m.ReadOnly {
		options = append(options, "ro")
	}
	if m.Type == "tmpfs" {
		options = append([]string{"nosuid", "nodev", "noexec", "create=dir"}, options...)
		return fmt.Sprintf("tmpfs %s tmpfs %s 0 0", target, escape(strings.Join(options, ","))), nil
	}
	fi, err := os.Stat(m.Source)
	if err != nil {
		return "", fmt.Errorf("mount %s: it is not there on the host", m.Source)
	}
	kind := "create=file"
	if fi.IsDir() {
		kind = "create=dir"
	}
	options = append([]string{"rbind", kind}, options...)
	return fmt.Sprintf("%s %s none %s 0 0", escape(m.Source), target, strings.Join(options, ",")), nil
}

// escape writes a field as fstab(5) has it.
func escape(field string) string {
	return strings.NewReplacer(" ", `\040`, "\t", `\011`, `\`, `\134`).Replace(field)
}

func limit(n int64) string {
	if n < 0 {
		return "unlimited"
	}
	return strconv.FormatInt(n, 10)
}
