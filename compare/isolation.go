package compare

import (
	"context"
	"math/bits"
	"os"
	"slices"
	"strconv"
	"strings"
)

// kernelPaths are what a runtime may cover or make read-only.
var kernelPaths = []string{
	"/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/sched_debug", "/proc/timer_list", "/sys/firmware",
	"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/sys",
}

// namespaces are all eight (namespaces(7)).
var namespaces = []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"}

// isolate asks a shell in a container. It has nothing but busybox.
func isolate(ctx context.Context, r Runtime, n int) (*Isolation, error) {
	script := "for n in " + strings.Join(namespaces, " ") + "; do echo ns $n $(readlink /proc/self/ns/$n); done; " +
		"grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; " +
		"while read -r a b c d e f g; do echo mount $e $f; done < /proc/self/mountinfo"
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := r.Command(n, "/bin/sh", "-c", script)
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })()
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "CapEff:") {
		return nil, failed(err, string(out))
	}
	return parseIsolation(string(out), func(ns string) string {
		own, _ := os.Readlink("/proc/self/ns/" + ns)
		return own
	}), nil
}

func parseIsolation(out string, host func(ns string) string) *Isolation {
	i := &Isolation{}
	set := func(hex string) int {
		n, _ := strconv.ParseUint(hex, 16, 64)
		return bits.OnesCount64(n)
	}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		switch {
		case len(f) == 3 && f[0] == "ns" && f[2] != host(f[1]):
			i.Namespaces = append(i.Namespaces, f[1])
		case len(f) == 2 && f[0] == "CapEff:":
			i.Capabilities = set(f[1])
		case len(f) == 2 && f[0] == "CapBnd:":
			i.Bounding = set(f[1])
		case len(f) == 2 && f[0] == "NoNewPrivs:":
			i.NoNewPrivs = f[1] == "1"
		case len(f) == 2 && f[0] == "Seccomp:":
			i.Seccomp = f[1] == "2"
		case len(f) == 3 && f[0] == "mount" && slices.Contains(kernelPaths, f[1]):
			readOnly := strings.HasPrefix(f[2], "ro")
			// Those that stay what they are, but read-only, and those that are covered.
			still := slices.Contains([]string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/sys"}, f[1])
			switch {
			case still && readOnly && !slices.Contains(i.ReadOnly, f[1]):
				i.ReadOnly = append(i.ReadOnly, f[1])
			case !still && !slices.Contains(i.Masked, f[1]):
				i.Masked = append(i.Masked, f[1])
			}
		}
	}
	return i
}
