package e2e

import (
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// host says what the tests run on, for testreport's rows: kernel, cgroups, the
// security module that labels processes, LXC.
func host() string {
	var uts unix.Utsname
	_ = unix.Uname(&uts)
	cgroups := "v1"
	var st unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &st); err == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		cgroups = "v2"
	}
	lsm := "none"
	active, _ := os.ReadFile("/sys/kernel/security/lsm") // not there: none
	for name := range strings.SplitSeq(strings.TrimSpace(string(active)), ",") {
		switch name {
		case "apparmor", "selinux":
			lsm = map[string]string{"apparmor": "AppArmor", "selinux": "SELinux"}[name]
		}
	}
	lxc, err := exec.Command("lxc-start", "--version").Output()
	if err != nil {
		lxc = []byte("none")
	}
	return strings.Join([]string{"Linux " + unix.ByteSliceToString(uts.Release[:]), "cgroup " + cgroups, lsm, "LXC " + strings.TrimSpace(string(lxc))}, " | ")
}
