package compare

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Setting is what the runtimes are given: one file system, and what of ours they are
// compared with.
type Setting struct {
	Client string                          // our program docker2013
	Daemon func(ctx context.Context) []int // its daemon's processes
	RootFS string                          // a root file system, mounted
	LXC    string                          // a config.lxc for it
	Bundle string                          // a folder with an OCI config.json for it
	Tar    func(w io.Writer) error         // the root file system as a tar
	Work   string                          // a folder of our own
	Only   []string                        // of Names: these; none: all
}

var finders = []struct {
	name string
	find func(context.Context, Setting) (Runtime, func() error)
}{
	{"classic", ours("classic")}, {"modern", ours("modern")}, {"lxc-start", lxcStart}, {"crun", oci("crun")}, {"runc", oci("runc")},
	{"podman", podman}, {"docker", docker}, {"ctr", ctr}, {"qemu", machine},
}

// Names are the runtimes that Find knows.
func Names() (names []string) {
	for _, f := range finders {
		names = append(names, f.name)
	}
	return names
}

// importedImage is what an imported image is called.
const importedImage = "docker2013-compare"

// cgroup is the parent of the cgroups that other runtimes make.
var cgroup = fmt.Sprintf("/docker2013-compare-%d", os.Getpid())

// hybrid: this host has both cgroup versions, which crun refuses.
func hybrid() bool {
	_, err := os.Stat("/sys/fs/cgroup/unified")
	return err == nil
}

// withoutV2 begins a command line that is to see cgroup v1 alone.
func withoutV2(line ...string) []string {
	return append([]string{"unshare", "-m", "sh", "-c", "umount /sys/fs/cgroup/unified; exec \"$@\"", "sh"}, line...)
}

const withoutV2Note = ", in a mount namespace without cgroup v2: making that is counted too"

// removeCgroups removes what is left of our cgroup, in all hierarchies. A runtime leaves
// the parent of its cgroup.
func removeCgroups() error {
	for range 50 {
		one, _ := filepath.Glob("/sys/fs/cgroup" + cgroup) // of a host with version 2 alone
		found, _ := filepath.Glob("/sys/fs/cgroup/*" + cgroup)
		if found = append(found, one...); len(found) == 0 {
			return nil
		}
		for _, top := range found {
			var dirs []string
			_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					dirs = append(dirs, path)
				}
				return nil // what vanishes meanwhile is fine
			})
			for _, dir := range slices.Backward(dirs) {
				_ = unix.Rmdir(dir) // busy for a moment, or gone
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("the cgroup %s is still in use", cgroup)
}

// Find lists the runtimes, those that can't take part too, and what undoes their
// preparation.
func Find(ctx context.Context, s Setting) (list []Runtime, undo func() error) {
	undos := []func() error{removeCgroups}
	for _, f := range finders {
		if len(s.Only) > 0 && !slices.Contains(s.Only, f.name) {
			continue
		}
		r, u := f.find(ctx, s)
		if r.Daemons == nil {
			r.Daemons = func(context.Context) []int { return nil }
		}
		list = append(list, r)
		if u != nil {
			undos = append(undos, u)
		}
	}
	return list, func() error {
		var errs []error
		for _, u := range slices.Backward(undos) {
			errs = append(errs, u())
		}
		return errors.Join(errs...)
	}
}

func ours(path string) func(context.Context, Setting) (Runtime, func() error) {
	return func(_ context.Context, s Setting) (Runtime, func() error) {
		return Runtime{Name: path, Daemons: s.Daemon, About: "docker2013 run --path " + path,
			Command: func(_ int, program ...string) *exec.Cmd {
				return exec.Command(s.Client, append([]string{"run", "--rm", "-i", "-t=false", "--path", path, "base"}, program...)...)
			}}, nil
	}
}

// version is the first line that a program says of itself.
func version(program string, args ...string) string {
	out, _ := exec.Command(program, args...).CombinedOutput()
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

func lxcStart(_ context.Context, s Setting) (Runtime, func() error) {
	r := Runtime{Name: "lxc-start", About: "LXC " + version("lxc-start", "--version") + ", the classic path's config.lxc, no daemon"}
	if _, err := exec.LookPath("lxc-start"); err != nil {
		r.Missing = "not installed: apt-get install lxc"
	}
	r.Command = func(n int, program ...string) *exec.Cmd {
		name := fmt.Sprintf("docker2013-compare-%d-%d", os.Getpid(), n)
		return exec.Command("lxc-start", append([]string{"-n", name, "-f", s.LXC, "-P", filepath.Dir(filepath.Dir(s.LXC)), "-F", "-q", "--"}, program...)...)
	}
	return r, nil
}

// oci is a runtime that takes a bundle: ours, as the modern path has written it, with
// another program in it.
func oci(name string) func(context.Context, Setting) (Runtime, func() error) {
	return func(_ context.Context, s Setting) (Runtime, func() error) {
		r := Runtime{Name: name, About: version(name, "--version") + ", the modern path's config.json"}
		if _, err := exec.LookPath(name); err != nil {
			r.Missing = "not installed: apt-get install " + name
			return r, nil
		}
		line := []string{name, "--root", filepath.Join(s.Work, name)}
		if name == "crun" && hybrid() {
			line = withoutV2(line...)
			r.About += withoutV2Note
		}
		r.Command = func(n int, program ...string) *exec.Cmd {
			id := fmt.Sprintf("docker2013-compare-%d-%d", os.Getpid(), n)
			bundle := filepath.Join(s.Work, fmt.Sprintf("%s-%d", name, n))
			if err := WriteBundle(bundle, s.Bundle, s.RootFS, cgroup+"/"+id, program); err != nil {
				return exec.Command("/bin/sh", "-c", "echo \"$1\" >&2; exit 1", "sh", err.Error())
			}
			args := append(slices.Clone(line), "run", "--bundle", bundle, id)
			return exec.Command(args[0], args[1:]...)
		}
		return r, nil
	}
}

// WriteBundle writes the folder dir as a bundle like from, one of the modern path's, for
// any runtime: with another root, cgroup and program.
func WriteBundle(dir, from, rootfs, cgroup string, program []string) error {
	data, err := os.ReadFile(filepath.Join(from, "config.json"))
	if err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal(data, &spec); err != nil {
		return err
	}
	object := func(key string) map[string]any { m, _ := spec[key].(map[string]any); return m }
	spec["ociVersion"] = "1.0.2" // the newest that Debian 12's crun knows
	object("root")["path"] = rootfs
	object("process")["args"] = program
	object("process")["terminal"] = false
	object("linux")["cgroupsPath"] = cgroup
	mounts, _ := spec["mounts"].([]any)
	for _, m := range mounts {
		options, _ := m.(map[string]any)["options"].([]any)
		m.(map[string]any)["options"] = slices.DeleteFunc(options, func(o any) bool { return strings.HasPrefix(fmt.Sprint(o), "x-") })
	}
	if data, err = json.Marshal(spec); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600)
}

// imported gives an engine the root file system as an image.
func imported(ctx context.Context, s Setting, engine string, global ...string) (undo func() error, err error) {
	cmd := exec.CommandContext(ctx, engine, append(slices.Clone(global), "import", "-", importedImage)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	terr := errors.Join(s.Tar(in), in.Close())
	if err := cmd.Wait(); err != nil {
		return nil, failed(errors.Join(err, terr), said.String())
	}
	return func() error {
		return exec.Command(engine, append(slices.Clone(global), "rmi", "-f", importedImage)...).Run()
	}, nil
}

func podman(ctx context.Context, s Setting) (Runtime, func() error) {
	r := Runtime{Name: "podman", Slow: true}
	if _, err := exec.LookPath("podman"); err != nil {
		r.Missing = "not installed: apt-get install podman"
		return r, nil
	}
	global := []string{"--root", filepath.Join(s.Work, "podman"), "--runroot", filepath.Join(s.Work, "podman-run"), "--cgroup-manager=cgroupfs", "--events-backend=none"}
	r.About = version("podman", "--version") + ", --network none"
	line := append([]string{"podman"}, global...)
	if hybrid() {
		line = withoutV2(line...)
		r.About += withoutV2Note
	}
	undo, err := imported(ctx, s, "podman", global...)
	if err != nil {
		r.Missing = err.Error()
	}
	r.Command = func(_ int, program ...string) *exec.Cmd {
		args := append(slices.Clone(line), "run", "--rm", "-i", "--network", "none", "--cgroup-parent", cgroup)
		// Its own wishes are above what root may raise on some hosts.
		for _, limit := range []string{"nofile", "nproc"} {
			args = append(args, "--ulimit", limit+"=1000:1000")
		}
		args = append(append(args, importedImage), program...)
		return exec.Command(args[0], args[1:]...)
	}
	return r, undo
}

func docker(ctx context.Context, s Setting) (Runtime, func() error) {
	r := Runtime{Name: "docker", Slow: true}
	if _, err := exec.LookPath("docker"); err != nil {
		r.Missing = "not installed: apt-get install docker.io"
		return r, nil
	}
	if out, err := exec.CommandContext(ctx, "docker", "info").CombinedOutput(); err != nil {
		r.Missing = "its daemon doesn't answer: " + failed(err, string(out)).Error()
		return r, nil
	}
	r.About = version("docker", "--version") + ", --network none"
	undo, err := imported(ctx, s, "docker")
	if err != nil {
		r.Missing = err.Error()
	}
	r.Daemons = func(context.Context) []int { return named("dockerd", "containerd") }
	r.Command = func(_ int, program ...string) *exec.Cmd {
		return exec.Command("docker", append([]string{"run", "--rm", "-i", "--network", "none", importedImage}, program...)...)
	}
	return r, undo
}

func ctr(ctx context.Context, s Setting) (Runtime, func() error) {
	r := Runtime{Name: "ctr", Slow: true}
	if _, err := exec.LookPath("ctr"); err != nil {
		r.Missing = "not installed: apt-get install containerd"
		return r, nil
	}
	if out, err := exec.CommandContext(ctx, "ctr", "version").CombinedOutput(); err != nil {
		r.Missing = "containerd doesn't answer: " + failed(err, string(out)).Error()
		return r, nil
	}
	r.About = version("ctr", "--version")
	r.Daemons = func(context.Context) []int { return named("containerd") }
	r.Command = func(n int, program ...string) *exec.Cmd {
		id := fmt.Sprintf("docker2013-compare-%d-%d", os.Getpid(), n)
		return exec.Command("ctr", append([]string{"run", "--rm", "--rootfs", s.RootFS, id}, program...)...)
	}
	return r, nil
}

// named are the processes of these programs.
func named(programs ...string) (list []int) {
	for _, pid := range pids() {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if slices.Contains(programs, strings.TrimSpace(string(comm))) {
			list = append(list, pid)
		}
	}
	return list
}

// machine is a virtual machine whose only program is the job: what the texts compare
// containers with. It wants a kernel of this host, or $DOCKER2013_KERNEL, and starts it in emulation where
// there is no KVM.
func machine(ctx context.Context, s Setting) (Runtime, func() error) {
	r := Runtime{Name: "qemu", Slow: true, Machine: true}
	const qemu = "qemu-system-x86_64"
	if _, err := exec.LookPath(qemu); err != nil {
		r.Missing = "not installed: apt-get install qemu-system-x86"
		return r, nil
	}
	kernels, _ := filepath.Glob("/boot/vmlinuz-*")
	if kernel := os.Getenv("DOCKER2013_KERNEL"); kernel != "" {
		kernels = []string{kernel}
	}
	if len(kernels) == 0 {
		r.Missing = "there is no kernel in /boot: apt-get install linux-image-cloud-amd64, or name one in $DOCKER2013_KERNEL"
		return r, nil
	}
	accel, note := "tcg", ", in emulation: there is no /dev/kvm"
	r.Command = func(n int, program ...string) *exec.Cmd {
		initrd := filepath.Join(s.Work, "initrd-"+strconv.Itoa(n))
		if err := writeInitrd(initrd, s.RootFS, program); err != nil {
			return exec.Command("/bin/sh", "-c", "echo \"$1\" >&2; exit 1", "sh", err.Error())
		}
		return exec.Command(qemu, "-M", "pc", "-accel", accel, "-cpu", "max", "-m", "128", "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio",
			"-kernel", kernels[0], "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1")
	}
	if fd, err := unix.Open("/dev/kvm", unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		_ = unix.Close(fd)
		accel, note = "kvm", ", by KVM"
		trial, cancel := context.WithTimeout(ctx, 10*time.Second) // inside a virtual machine KVM can be there and not work
		if _, _, err := time1(trial, r, 0); err != nil {
			accel, note = "tcg", ", in emulation: KVM is there and doesn't work"
		}
		cancel()
	}
	r.About = fmt.Sprintf("a virtual machine of %s, 128 MB%s", filepath.Base(kernels[0]), note)
	return r, nil
}

// writeInitrd writes an initramfs (cpio, "newc") whose init runs a program and turns
// the machine off.
func writeInitrd(file, rootfs string, program []string) error {
	shell, err := os.ReadFile(filepath.Join(rootfs, "bin", "busybox"))
	if err != nil {
		return err
	}
	quoted := make([]string, len(program))
	for i, p := range program {
		quoted[i] = "'" + strings.ReplaceAll(p, "'", `'\''`) + "'"
	}
	init := "#!/bin/busybox sh\n/bin/busybox mkdir -p /proc /sys\n/bin/busybox mount -t proc proc /proc\n/bin/busybox --install -s /bin\n" +
		strings.Join(quoted, " ") + "\npoweroff -f\n"
	var b bytes.Buffer
	entry := func(name string, mode int, data []byte) {
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", b.Len(), mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
		pad := func() { b.Write(make([]byte, (4-b.Len()%4)%4)) }
		b.WriteString(name + "\x00")
		pad()
		b.Write(data)
		pad()
	}
	entry("bin", unix.S_IFDIR|0o755, nil)
	entry("bin/busybox", unix.S_IFREG|0o755, shell)
	entry("init", unix.S_IFREG|0o755, []byte(init))
	entry("TRAILER!!!", 0, nil)
	return os.WriteFile(file, b.Bytes(), 0o600)
}
