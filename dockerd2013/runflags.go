package dockerd2013

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"docker2013/container"
)

// The flags of `run` that a hand expects of today's docker. Each value is looked
// at here as far as its own text goes; what this host or this path can't do, the
// runtime says before it creates anything.

// listFlag is a flag that may be repeated, whose values f takes one by one. What
// is wrong with one is said with it.
func listFlag(f *flagSet, name, usage string, take func(value string) error) {
	f.Func(name, usage, take)
}

// isolationFlags adds them.
func isolationFlags(f *flagSet, c *container.Config) {
	f.StringVar(&c.WorkingDir, "w", "", "Working directory inside")
	f.StringVar(&c.User, "u", "", "User, and group: names or numbers, USER[:GROUP]")
	f.BoolVar(&c.ReadOnly, "read-only", false, "Mount the root file system read-only")
	f.BoolVar(&c.Privileged, "privileged", false, "All capabilities and devices, nothing masked, no filter")
	f.StringVar(&c.PidMode, "pid", "", "PID namespace: host, or container:ID")
	f.StringVar(&c.IpcMode, "ipc", "", "IPC namespace: host, or container:ID")
	f.StringVar(&c.Runtime, "runtime", "", "Have another OCI runtime make it: runc, crun, or a path")
	f.StringVar(&c.UsernsMode, "userns", "", "User namespace: host, or auto: root inside is nobody outside")
	f.IntVar(&c.OomScoreAdj, "oom-score-adj", 0, "Adjust the OOM killer's preference, -1000 to 1000")
	f.IntVar(&c.StopTimeout, "stop-timeout", 0, "Seconds between stop's signal and SIGKILL")
	listFlag(f, "restart", "Start it again: no, on-failure[:N], always or unless-stopped", func(s string) (err error) {
		c.Restart, err = parseRestart(s)
		return err
	})
	listFlag(f, "stop-signal", "The signal of stop, by name or number", func(s string) (err error) {
		c.StopSignal, err = parseSignal(s)
		return err
	})
	appendTo := func(list *[]string) func(string) error {
		return func(s string) error {
			if s == "" {
				return errors.New("an empty value")
			}
			*list = append(*list, s)
			return nil
		}
	}
	listFlag(f, "group-add", "A further group", appendTo(&c.Groups))
	listFlag(f, "cap-add", "Add a capability", appendTo(&c.CapAdd))
	listFlag(f, "cap-drop", "Drop a capability", appendTo(&c.CapDrop))
	listFlag(f, "security-opt", "no-new-privileges, seccomp=unconfined or a profile, apparmor=…, label=…", func(s string) error {
		key, value, _ := strings.Cut(strings.Replace(s, ":", "=", 1), "=")
		if key != "no-new-privileges" {
			c.SecurityOpt = append(c.SecurityOpt, s)
			return nil
		}
		on, err := strconv.ParseBool(cmp.Or(value, "true"))
		if err != nil {
			return errors.New("say no-new-privileges, or no-new-privileges:false")
		}
		c.SecurityOpt = slices.DeleteFunc(c.SecurityOpt, func(old string) bool { return old == key })
		if on {
			c.SecurityOpt = append(c.SecurityOpt, key)
		}
		return nil
	})
	listFlag(f, "v", "Mount a file or folder of the host: HOST:CONTAINER[:ro]", func(s string) error {
		m, err := parseVolume(s)
		c.Mounts = append(c.Mounts, m)
		return err
	})
	listFlag(f, "mount", "Mount: type=bind|tmpfs,src=…,dst=…[,readonly]", func(s string) error {
		m, err := parseMount(s)
		c.Mounts = append(c.Mounts, m)
		return err
	})
	listFlag(f, "tmpfs", "Mount an empty folder in memory: PATH[:size=64m,mode=1777]", func(s string) error {
		target, options, _ := strings.Cut(s, ":")
		m := container.Mount{Type: "tmpfs", Target: target}
		if options != "" {
			m.Options = strings.Split(options, ",")
		}
		c.Mounts = append(c.Mounts, m)
		return checkMount(m)
	})
	listFlag(f, "device", "Give a device of the host: HOST[:CONTAINER[:rwm]]", func(s string) error {
		d, err := parseDevice(s)
		c.Devices = append(c.Devices, d)
		return err
	})
	listFlag(f, "ulimit", "Limit a resource: NAME=SOFT[:HARD]", func(s string) error {
		u, err := parseUlimit(s)
		c.Ulimits = append(c.Ulimits, u)
		return err
	})
	listFlag(f, "sysctl", "Set a kernel parameter of the container's namespaces: KEY=VALUE", func(s string) error {
		return keyValue(&c.Sysctls, s)
	})
	listFlag(f, "l", "Set a label: KEY=VALUE", func(s string) error {
		if !strings.Contains(s, "=") {
			s += "="
		}
		return keyValue(&c.Labels, s)
	})
	for _, t := range []struct {
		name, usage string
		list        *[]container.Throttle
		bytes       bool
	}{
		{"device-read-bps", "Bytes a second read from a device: DEVICE:RATE", &c.Limits.DeviceReadBps, true},
		{"device-write-bps", "Bytes a second written to a device", &c.Limits.DeviceWriteBps, true},
		{"device-read-iops", "Reads a second from a device", &c.Limits.DeviceReadIOps, false},
		{"device-write-iops", "Writes a second to a device", &c.Limits.DeviceWriteIOps, false},
	} {
		listFlag(f, t.name, t.usage, func(s string) error {
			x, err := parseThrottle(s, t.bytes)
			*t.list = append(*t.list, x)
			return err
		})
	}
}

func keyValue(m *map[string]string, s string) error {
	key, value, ok := strings.Cut(s, "=")
	if !ok || key == "" {
		return errors.New("say KEY=VALUE")
	}
	if *m == nil {
		*m = map[string]string{}
	}
	(*m)[key] = value
	return nil
}

func parseSize(s string) (int64, error) {
	n, err := units.RAMInBytes(s)
	if err != nil || n < 0 {
		return 0, errors.New("not a size: say bytes, or 512m, or 1g")
	}
	return n, nil
}

// parseVolume understands HOST:CONTAINER[:OPTIONS]. Volumes by name came later,
// and are not here.
func parseVolume(s string) (container.Mount, error) {
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return container.Mount{}, errors.New("say HOST:CONTAINER or HOST:CONTAINER:ro")
	}
	m := container.Mount{Type: "bind", Source: parts[0], Target: parts[1]}
	if len(parts) == 3 {
		for o := range strings.SplitSeq(parts[2], ",") {
			switch o {
			case "ro":
				m.ReadOnly = true
			case "rw", "rprivate", "private":
			default:
				return m, fmt.Errorf("option %q: say ro or rw", o)
			}
		}
	}
	return m, checkMount(m)
}

// parseMount understands type=bind,src=/a,dst=/b,readonly.
func parseMount(s string) (container.Mount, error) {
	m := container.Mount{Type: "bind"}
	for field := range strings.SplitSeq(s, ",") {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "type":
			m.Type = value
		case "src", "source":
			m.Source = value
		case "dst", "destination", "target":
			m.Target = value
		case "readonly", "ro":
			m.ReadOnly = value == "" || value == "true" || value == "1"
		case "tmpfs-size":
			m.Options = append(m.Options, "size="+value)
		case "tmpfs-mode":
			m.Options = append(m.Options, "mode="+value)
		default:
			return m, fmt.Errorf("field %q: say type, src, dst, readonly, tmpfs-size or tmpfs-mode", key)
		}
	}
	if m.Type == "tmpfs" && m.Source != "" {
		return m, errors.New("a tmpfs has no src")
	}
	return m, checkMount(m)
}

func checkMount(m container.Mount) error {
	switch {
	case m.Type != "bind" && m.Type != "tmpfs":
		return fmt.Errorf("type %q: say bind or tmpfs", m.Type)
	case m.Type == "bind" && !strings.HasPrefix(m.Source, "/"):
		return fmt.Errorf("%q: say an absolute path on the host", m.Source)
	case !strings.HasPrefix(m.Target, "/") || path.Clean(m.Target) == "/":
		return fmt.Errorf("%q: say an absolute path in the container, and not its root", m.Target)
	case strings.ContainsAny(m.Source+m.Target+strings.Join(m.Options, ""), "\n\r\x00"):
		return errors.New("a path with a line break in it")
	}
	return nil
}

func parseDevice(s string) (container.Device, error) {
	parts := strings.Split(s, ":")
	d := container.Device{Host: parts[0], Container: parts[0], Permissions: "rwm"}
	switch len(parts) {
	case 1:
	case 2, 3:
		d.Container = parts[1]
		if len(parts) == 3 {
			d.Permissions = parts[2]
		}
	default:
		return d, errors.New("say HOST, HOST:CONTAINER or HOST:CONTAINER:rwm")
	}
	if !strings.HasPrefix(d.Host, "/dev/") || !strings.HasPrefix(d.Container, "/dev/") {
		return d, errors.New("say paths below /dev")
	}
	if d.Permissions == "" || strings.Trim(d.Permissions, "rwm") != "" {
		return d, fmt.Errorf("%q: say some of r, w and m", d.Permissions)
	}
	return d, nil
}

func parseUlimit(s string) (container.Ulimit, error) {
	name, values, ok := strings.Cut(s, "=")
	if !ok {
		return container.Ulimit{}, errors.New("say NAME=SOFT or NAME=SOFT:HARD")
	}
	if !slices.Contains(container.UlimitNames, name) {
		return container.Ulimit{}, fmt.Errorf("no such limit: say one of %s", strings.Join(container.UlimitNames, ", "))
	}
	softText, hardText, both := strings.Cut(values, ":")
	if !both {
		hardText = softText
	}
	number := func(s string) (int64, error) {
		if s == "unlimited" || s == "-1" {
			return -1, nil
		}
		return strconv.ParseInt(s, 10, 64)
	}
	soft, serr := number(softText)
	hard, herr := number(hardText)
	switch {
	case serr != nil || herr != nil || soft < -1 || hard < -1:
		return container.Ulimit{}, fmt.Errorf("%q: say numbers, or unlimited", values)
	case hard != -1 && (soft > hard || soft == -1):
		return container.Ulimit{}, errors.New("the soft limit is above the hard one")
	}
	return container.Ulimit{Name: name, Soft: soft, Hard: hard}, nil
}

func parseRestart(s string) (container.RestartPolicy, error) {
	name, most, counted := strings.Cut(s, ":")
	p := container.RestartPolicy{Name: name}
	switch name {
	case "no":
		p.Name = ""
	case "always", "unless-stopped", "on-failure":
	default:
		return p, errors.New("say no, on-failure, on-failure:N, always or unless-stopped")
	}
	if counted {
		n, err := strconv.Atoi(most)
		if err != nil || n < 1 || name != "on-failure" {
			return p, errors.New("a number of times goes with on-failure only: on-failure:3")
		}
		p.Max = n
	}
	return p, nil
}

func parseThrottle(s string, bytes bool) (container.Throttle, error) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || !strings.HasPrefix(s, "/dev/") {
		return container.Throttle{}, errors.New("say DEVICE:RATE, such as /dev/sda:1m")
	}
	t := container.Throttle{Path: s[:i]}
	var err error
	if bytes {
		var n int64
		n, err = parseSize(s[i+1:])
		t.Rate = uint64(n)
	} else {
		t.Rate, err = strconv.ParseUint(s[i+1:], 10, 64)
	}
	if err != nil || t.Rate == 0 {
		return t, fmt.Errorf("rate %q: say a number above 0", s[i+1:])
	}
	return t, nil
}

// checkIsolation finds what is wrong with the flags together.
func checkIsolation(c container.Config) error {
	targets := []string{}
	for _, m := range c.Mounts {
		target := path.Clean(m.Target)
		if slices.Contains(targets, target) {
			return fmt.Errorf("two mounts on %s: leave one out", target)
		}
		targets = append(targets, target)
	}
	switch {
	case c.AutoRemove && c.Restart.Name != "":
		return errors.New("--rm and --restart exclude each other")
	case c.StopTimeout < 0:
		return fmt.Errorf("--stop-timeout %d: say how many seconds", c.StopTimeout)
	case c.WorkingDir != "" && !strings.HasPrefix(c.WorkingDir, "/"):
		return fmt.Errorf("-w %s: say an absolute path", c.WorkingDir)
	case c.OomScoreAdj < -1000 || c.OomScoreAdj > 1000:
		return fmt.Errorf("--oom-score-adj %d: say -1000 to 1000", c.OomScoreAdj)
	case c.Limits.MemorySwap > 0 && c.Ram == 0:
		return errors.New("--memory-swap needs -m too: it is memory and swap together")
	case c.Limits.MemorySwap > 0 && c.Limits.MemorySwap < c.Ram:
		return errors.New("--memory-swap is less than -m: it is memory and swap together")
	}
	return nil
}
