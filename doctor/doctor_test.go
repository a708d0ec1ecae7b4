package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"docker2013/evidence"
)

// good is a host on which everything is as it was in 2013, and newer.
func good() Facts {
	return Facts{
		Kernel:      "6.1.0-18-amd64",
		Caps:        evidence.AllCaps,
		Data:        Data{Root: "/var/lib/docker", Nearest: "/var/lib/docker", Type: "ext4", Free: 9 << 30},
		FileSystems: []string{"ext4", "aufs", "overlay", "fuse"},
		Overlay:     Probe{Tried: true},
		Cgroups: []Hierarchy{{Version: 2, Mount: "/sys/fs/cgroup",
			Controllers: []string{"cpuset", "cpu", "io", "memory", "pids"}}},
		Namespaces: []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"},
		Isolation:  Probe{Tried: true},
		LXC:        Program{Path: "/usr/bin/lxc-start", Version: "5.0.2"},
		BashStatic: Program{Path: "/bin/bash-static", Static: true},
		BusyBox:    Program{Path: "/bin/busybox", Static: true},
		Ports:      []Port{{Flag: "--tcp", Addr: "127.0.0.1:4242"}, {Flag: "--http", Addr: "127.0.0.1:8080"}},
		Seccomp:    []string{"errno"},
		Now:        time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC),
		Built:      time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}
}

func TestGoodHost(t *testing.T) {
	r := Judge(good())
	if !r.OK() {
		t.Errorf("not ok: %+v", r.Paths)
	}
	for _, c := range r.Checks {
		if c.Status != OK || c.Found == "" || c.Without != "" || c.Fix != "" {
			t.Errorf("%+v", c)
		}
	}
}

// Each row takes one thing away from the good host. One check answers, and
// says in so many words what is wrong and what to do.
func TestJudge(t *testing.T) {
	v1 := func(names ...string) []Hierarchy {
		var h []Hierarchy
		for _, name := range names {
			h = append(h, Hierarchy{Version: 1, Mount: "/sys/fs/cgroup/" + name, Controllers: []string{name}})
		}
		return h
	}
	all := v1("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")
	for _, c := range []struct {
		name   string
		spoil  func(*Facts)
		check  string
		status Status
		says   string // in what was found, or what degrades, or what to do
	}{
		{"kernel of 2013", func(f *Facts) { f.Kernel = "3.8.0" }, "kernel", Missing, "Linux 4.0"},
		{"kernel without a name", func(f *Facts) { f.Kernel = "" }, "kernel", Missing, "Linux 4.0"},
		{"a user", func(f *Facts) { f.UID = 1000 }, "privileges", Missing, "run doctor with sudo"},
		{"a user who may not look into the root", func(f *Facts) { f.UID = 1000; f.Data.Err = "permission denied" }, "data", Degraded, "sudo"},
		{"no mknod", func(f *Facts) { f.Caps &^= 1 << unix.CAP_MKNOD }, "privileges", Missing, "give this environment mknod (in"},
		{"no sys_resource", func(f *Facts) { f.Caps &^= 1 << unix.CAP_SYS_RESOURCE }, "privileges", OK, "root without sys_resource"},
		{"read-only root", func(f *Facts) { f.Data.Err = "on a read-only file system" }, "data", Missing, "--root DIR"},
		{"full disk", func(f *Facts) { f.Data.Free = little - 1 }, "data", Degraded, "99 MB free"},
		{"root to be made", func(f *Facts) { f.Data.Nearest = "/var" }, "data", OK, "/var/lib/docker (to be made) on ext4"},
		{"no aufs", func(f *Facts) { f.FileSystems = []string{"overlay", "fuse"} }, "aufs", OK, "--union aufs-fuse"},
		{"no aufs, no fuse", func(f *Facts) { f.FileSystems = []string{"overlay"} }, "aufs", Degraded, "translates the whiteouts"},
		{"aufs alone", func(f *Facts) { f.FileSystems = []string{"aufs"}; f.Overlay = Probe{} }, "overlay", Degraded, "--union aufs"},
		{"no union at all", func(f *Facts) { f.FileSystems = nil; f.Overlay = Probe{Tried: true, Err: "no such device"} }, "overlay", Missing, "not in the kernel: no such device"},
		{"overlay on overlay", func(f *Facts) {
			f.FileSystems = []string{"overlay"}
			f.Overlay.Err = "invalid argument"
		}, "overlay", Missing, "in the kernel, but not on /var/lib/docker: invalid argument"},
		{"overlay not tried", func(f *Facts) { f.Overlay = Probe{} }, "overlay", OK, "not tried"},
		{"no fuse", func(f *Facts) { f.FileSystems = []string{"aufs", "overlay"} }, "fuse", Degraded, "modprobe fuse"},
		{"no /dev/fuse", func(f *Facts) { f.FuseDevice = "no such file or directory" }, "fuse", Degraded, "mknod /dev/fuse"},
		{"/dev/fuse is root's", func(f *Facts) { f.UID, f.FuseDevice = 1000, "permission denied" }, "fuse", OK, "not tried"},
		{"cgroup v1 only", func(f *Facts) { f.Cgroups = all }, "limits", OK, "every controller"},
		{"where v1 is", func(f *Facts) { f.Cgroups = v1("cpu", "memory") }, "cgroup v1", OK, "cpu memory below /sys/fs/cgroup"},
		{"where v2 is", func(f *Facts) {}, "cgroup v2", OK, "cpuset cpu io memory pids at /sys/fs/cgroup"},
		{"no cgroups", func(f *Facts) { f.Cgroups = nil }, "limits", Missing, "mount -t cgroup2"},
		{"v1 without freezer", func(f *Facts) { f.Cgroups = v1("cpu", "cpuacct", "cpuset", "memory", "devices", "blkio", "pids") },
			"limits", Degraded, "these don't work: pause"},
		{"v1 without freezer beside v2", func(f *Facts) {
			f.Cgroups = append(v1("cpu", "cpuacct", "cpuset", "memory", "devices", "blkio"),
				Hierarchy{Version: 2, Mount: "/sys/fs/cgroup/unified", Controllers: []string{"pids"}})
		}, "limits", Degraded, "these don't work: --pids-limit, pause"},
		{"memory switched off", func(f *Facts) { f.Cgroups, f.Disabled = all[:3], []string{"memory"} }, "limits", Degraded, "cgroup_enable=memory"},
		{"v1 not mounted", func(f *Facts) { f.Cgroups = all[:3] }, "limits", Degraded, "for c in memory pids blkio freezer devices; do"},
		{"v2 not delegated", func(f *Facts) { f.Cgroups[0].Controllers = []string{"memory", "pids"} }, "limits", Degraded, "--cpus and --cpu-shares"},
		{"no net namespace", func(f *Facts) { f.Namespaces = []string{"ipc", "mnt", "pid", "uts"} }, "namespaces", Missing, "no net"},
		{"no new namespaces", func(f *Facts) { f.Isolation.Err = "operation not permitted" }, "namespaces", Missing, "--privileged"},
		{"namespaces not tried", func(f *Facts) { f.Isolation = Probe{} }, "namespaces", OK, "not tried"},
		{"no lxc", func(f *Facts) { f.LXC = Program{} }, "lxc", Missing, "apt-get install --no-install-recommends lxc"},
		{"broken lxc", func(f *Facts) { f.LXC.Err = "exit status 127" }, "lxc", Missing, "exit status 127"},
		{"lxc of 2013", func(f *Facts) { f.LXC.Version = "0.7.5" }, "lxc", Missing, "keys of LXC 2.1"},
		{"lxc 2.0", func(f *Facts) { f.LXC.Version = "2.0.11" }, "lxc", Missing, "keys of LXC 2.1"},
		{"lxc 3 on v2", func(f *Facts) { f.LXC.Version = "3.0.3" }, "lxc", Missing, "needs cgroup v1"},
		{"lxc 3 on v1", func(f *Facts) { f.LXC.Version = "3.0.3"; f.Cgroups = all }, "lxc", OK, "3.0.3"},
		{"lxc to come", func(f *Facts) { f.LXC.Version = "10.0.0" }, "lxc", OK, "10.0.0"},
		{"no bash-static", func(f *Facts) { f.BashStatic = Program{} }, "base image", Degraded, "apt-get install bash-static"},
		{"busybox with libraries", func(f *Facts) { f.BusyBox.Static = false }, "base image", Degraded, "/bin/busybox needs shared libraries"},
		{"port of nginx", func(f *Facts) { f.Ports[1].Err, f.Ports[1].Holder, f.Ports[1].PID = "in use", "nginx", 7 },
			"port --http", Missing, "taken by nginx, process 7"},
		{"port of our daemon", func(f *Facts) { f.Ports[0].Err, f.Ports[0].Holder, f.Ports[0].PID = "in use", "dockerd2013", 7 },
			"port --tcp", OK, "our daemon listens"},
		{"port of who knows", func(f *Facts) { f.Ports[0].Err = "in use" }, "port --tcp", Missing, "DOCKER=HOST:PORT"},
		{"data of a modern Docker", func(f *Facts) { f.Data.Modern = []string{"image", "overlay2"} },
			"modern Docker", Missing, "--root /var/lib/docker2013"},
		{"a modern Docker elsewhere", func(f *Facts) { f.Docker = "/run/docker.sock" }, "modern Docker", OK, "runs (/run/docker.sock)"},
		{"AppArmor", func(f *Facts) { f.AppArmor = true; f.SELinux = "enforcing" }, "security", OK, "AppArmor on, SELinux enforcing"},
		{"clock behind", func(f *Facts) { f.Now = f.Built.AddDate(-13, 0, 0) }, "clock", Degraded, "set the clock"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := good()
			c.spoil(&f)
			r := Judge(f)
			var found bool
			for _, got := range r.Checks {
				if got.Name != c.check {
					continue
				}
				found = true
				text := strings.Join([]string{got.Found, got.Without, got.Fix}, "\n")
				if got.Status != c.status || !strings.Contains(text, c.says) {
					t.Errorf("%s, want %s and %q:\n%s", got.Status, c.status, c.says, text)
				}
				if (got.Without == "") != (got.Status == OK) || (got.Fix == "") != (got.Status == OK) {
					t.Errorf("%s but without %q, fix %q", got.Status, got.Without, got.Fix)
				}
			}
			if !found {
				t.Errorf("no check %q", c.check)
			}
			if c.status == Missing && r.OK() {
				t.Error("missing, and yet the path runs")
			}
			if c.status != Missing && f.UID == 0 && !r.OK() {
				t.Errorf("the path can't run: %v", r.Paths)
			}
		})
	}
}

func TestVerdictOfAPathThatDoesNotNeedIt(t *testing.T) {
	checks := []Check{{Name: "lxc", Status: Missing, Needed: []string{"classic"}}}
	if v := verdict("classic", checks); v.OK || len(v.Missing) != 1 || v.Missing[0] != "lxc" {
		t.Errorf("%+v", v)
	}
	if v := verdict("modern", checks); !v.OK {
		t.Errorf("%+v", v)
	}
}

func TestAtLeast(t *testing.T) {
	for _, c := range []struct {
		version string
		want    bool
	}{
		{"2.1", true}, {"2.1.0", true}, {"2.10", true}, {"3", true}, {"3.0", true}, {"10.0.0", true},
		{"2.0.11", false}, {"2", false}, {"1.9", false}, {"", false}, {"x", false},
		{"99999999999999999999.0", false},
	} {
		if got := atLeast(c.version, 2, 1); got != c.want {
			t.Errorf("%q: %v", c.version, got)
		}
	}
}

func TestListeners(t *testing.T) {
	const table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 0100007F:1092 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1\n" +
		"   1: 0100007F:1092 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 222 1\n" +
		"   2: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1\n" +
		"short\n"
	if got := fmt.Sprint(listeners(table, 4242)); got != "[111]" {
		t.Error(got)
	}
	if got := fmt.Sprint(listeners(table, 1)); got != "[]" {
		t.Error(got)
	}
}

// The facts of this host, with a port that this test itself holds.
func TestGather(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	root := filepath.Join(t.TempDir(), "to", "be made")
	f := Gather(context.Background(), Options{Root: root, TCP: l.Addr().String(), HTTP: "127.0.0.1:0"})

	comm := line("/proc/self/comm")
	if p := f.Ports[0]; p.Err != "in use" || p.Holder != comm || p.PID != os.Getpid() {
		t.Errorf("%+v, want held by %s, %d", p, comm, os.Getpid())
	}
	if p := f.Ports[1]; p.Err != "" {
		t.Errorf("%+v, want free", p)
	}
	if f.Kernel == "" || f.Data.Nearest != filepath.Dir(filepath.Dir(root)) || f.Data.Type == "?" || f.Data.Free == 0 || f.Data.Err != "" {
		t.Errorf("%+v", f)
	}
	if len(f.FileSystems) == 0 || len(f.Namespaces) < 5 {
		t.Errorf("%+v", f)
	}
	left, err := os.ReadDir(f.Data.Nearest)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: namespaces and overlay are tried on the real kernel")
	}
	if !f.Isolation.Tried || !f.Overlay.Tried {
		t.Errorf("not tried: %+v, %+v", f.Isolation, f.Overlay)
	}
	if f.Isolation.Err != "" {
		t.Errorf("namespaces: %s", f.Isolation.Err)
	}
}

func TestOverlayProbeOnAFileSystemThatCannot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: overlay is tried on the real kernel")
	}
	// procfs takes no folders at all.
	if p := probeOverlay("/proc"); !p.Tried || p.Err == "" {
		t.Errorf("%+v", p)
	}
}

func TestModernDataIsSeen(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"containers", "images", "overlay2", "network"} {
		if err := os.Mkdir(filepath.Join(root, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(gatherData(root).Modern); got != "[network overlay2]" {
		t.Error(got)
	}
}

func TestRun(t *testing.T) {
	options := func(format string, out *strings.Builder) Options {
		return Options{Root: t.TempDir(), TCP: "127.0.0.1:0", HTTP: "127.0.0.1:0", Format: format, Out: out}
	}
	var text, object strings.Builder
	ok, err := Run(context.Background(), options("", &text))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kernel ", "overlay ", "lxc ", "port --tcp "} {
		if !strings.Contains("\n"+text.String(), "\n"+name) {
			t.Errorf("no line %q in\n%s", name, text.String())
		}
	}
	if ok != strings.Contains(text.String(), "The classic path runs on this host.") {
		t.Errorf("ok is %v:\n%s", ok, text.String())
	}
	okJSON, err := Run(context.Background(), options("json", &object))
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	if err := json.Unmarshal([]byte(object.String()), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Checks) < 15 || r.OK() != ok || okJSON != ok {
		t.Errorf("text says %v, JSON %v: %s", ok, okJSON, object.String())
	}
	if _, err := Run(context.Background(), options("yaml", &text)); err == nil {
		t.Error("format yaml is no error")
	}
}

func TestTextInColor(t *testing.T) {
	var b strings.Builder
	r := Report{
		Checks: []Check{{Name: "lxc", Status: Missing, Found: "no lxc-start", Without: "no runtime", Fix: "install it", Needed: classic}},
		Paths:  []Verdict{{Path: Classic, Missing: []string{"lxc"}}},
	}
	if err := r.Text(&b, true); err != nil {
		t.Fatal(err)
	}
	want := "lxc             \x1b[31mmissing \x1b[0m  no lxc-start\n" +
		"                          without it: no runtime\n" +
		"                          what to do: install it\n" +
		"\nThe classic path \x1b[31mcan't run\x1b[0m on this host: lxc.\n"
	if b.String() != want {
		t.Errorf("got %q\nwant %q", b.String(), want)
	}
}
