package chapters

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// hostHas tells whether the host has what a step or an exercise needs.
var hostHas = map[string]func() bool{
	"root":     func() bool { return os.Geteuid() == 0 },
	"cgroup1":  func() bool { return mounted("cgroup") },
	"cgroup2":  cgroup2,
	"aufs":     func() bool { return fileSystem("aufs") },
	"overlay":  func() bool { return fileSystem("overlay") },
	"apparmor": func() bool { return strings.HasPrefix(content("/sys/module/apparmor/parameters/enabled"), "Y") },
	"selinux":  func() bool { return exists("/sys/fs/selinux/enforce") },
	"userns": func() bool {
		return exists("/proc/self/ns/user") && strings.TrimSpace(content("/proc/sys/user/max_user_namespaces")) != "0"
	},
	"fuse":     func() bool { return exists("/dev/fuse") },
	"runc":     program("runc"),
	"crun":     program("crun"),
	"podman":   program("podman"),
	"docker":   program("docker"),
	"qemu":     program(qemu()),
	"strace":   program("strace"),
	"nftables": program("nft"),
	"go":       program("go"),
}

// Missing is what of a list the host doesn't have.
func Missing(needs []string) []string {
	var missing []string
	for _, need := range needs {
		if has := hostHas[need]; has == nil || !has() {
			missing = append(missing, need)
		}
	}
	return missing
}

func program(name string) func() bool {
	return func() bool {
		_, err := exec.LookPath(name)
		return err == nil
	}
}

func qemu() string {
	names := map[string]string{"amd64": "x86_64", "arm64": "aarch64", "386": "i386", "riscv64": "riscv64"}
	return "qemu-system-" + names[runtime.GOARCH]
}

// cgroup2 asks for a hierarchy of version 2 with a memory controller: the empty one
// beside version 1 limits nothing.
func cgroup2() bool {
	for _, m := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if strings.Contains(content(filepath.Join(m, "cgroup.controllers")), "memory") {
			return true
		}
	}
	return false
}

// mounted tells whether a file system of this type is mounted.
func mounted(fstype string) bool {
	for line := range strings.Lines(content("/proc/self/mounts")) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == fstype {
			return true
		}
	}
	return false
}

// fileSystem tells whether the kernel knows a file system, or has a module for it.
func fileSystem(name string) bool {
	known := func() bool { return strings.Contains(content("/proc/filesystems"), "\t"+name+"\n") }
	return known() || exec.Command("modprobe", "-q", name).Run() == nil && known()
}

func content(path string) string {
	data, _ := os.ReadFile(path) // what can't be read isn't there
	return string(data)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
