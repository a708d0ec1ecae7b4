package native

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"docker2013/container"
	"docker2013/native/shim"
	"docker2013/ociconfig"
	"docker2013/ociconfig/seccompbpf"
)

// root is a small root file system, mounted: pivot_root wants that.
func root(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP: containers need root")
	}
	dir := t.TempDir()
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("SKIP: no /bin/busybox: apt-get install busybox-static")
	}
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "true", "cat", "ls", "id", "mount", "grep", "stat", "test", "touch", "mkdir", "hostname", "ip", "echo", "chroot", "mknod", "date", "wc"} {
		if name == "sh" {
			if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), busybox, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func spec(t testing.TB, config container.Config, argv ...string) *specs.Spec {
	t.Helper()
	config.Env = append([]string{"PATH=/bin"}, config.Env...)
	s, err := ociconfig.Spec(&container.Record{Id: "0705e18c", Path: argv[0], Args: argv[1:], Config: config}, ociconfig.Host{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var filters seccompbpf.Compiler

// start runs a container without cgroups and returns what it wrote and how it ended.
func start(t testing.TB, rootfs string, s *specs.Spec) (string, unix.WaitStatus, error) {
	t.Helper()
	filter, err := filters.Compile(s.Linux.Seccomp)
	if err != nil {
		t.Fatal(err)
	}
	lastCap, err := capability.LastCap()
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	x := NewSetup()
	x.Rootfs, x.Filter, x.LastCap, x.Files, x.User = rootfs, filter, lastCap, Files(s.Mounts), Joins(s)
	trees, err := x.Hold(s)
	if err != nil {
		t.Fatal(err)
	}
	in, out := x.Add(int(null.Fd())), x.Add(int(w.Fd()))
	x.Stdio = [3]int{in, out, out}
	p, err := Compile(s, x)
	if err != nil {
		t.Fatal(err)
	}
	pid, pidfd, err := p.Run(x.FDs, nil)
	w.Close()
	shim.CloseAll(trees)
	if err != nil {
		return "", 0, err
	}
	defer unix.Close(pidfd)
	var text strings.Builder
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		text.Write(buf[:n])
		if err != nil {
			break
		}
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
		t.Fatal(err)
	}
	return text.String(), status, nil
}

// BenchmarkContainer is a whole container without its cgroup; the others leave
// something out, to see what it costs.
func BenchmarkContainer(b *testing.B) {
	rootfs := root(b)
	for name, change := range map[string]func(*specs.Spec){
		"whole":     func(*specs.Spec) {},
		"no filter": func(s *specs.Spec) { s.Linux.Seccomp = nil },
		"no masks":  func(s *specs.Spec) { s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil },
		"no mounts": func(s *specs.Spec) {
			s.Mounts, s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = s.Mounts[:0], nil, nil
		},
		"no network": func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces[:2:2], s.Linux.Namespaces[3:]...)
		},
	} {
		b.Run(name, func(b *testing.B) {
			s := spec(b, container.Config{}, "/bin/true")
			change(s)
			for b.Loop() {
				if _, status, err := start(b, rootfs, s); err != nil || status != 0 {
					b.Fatal(status, err)
				}
			}
		})
	}
}
