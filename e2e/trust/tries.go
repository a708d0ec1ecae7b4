package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Answers beside an errno.
var (
	errEmpty   = errors.New("empty")
	errNone    = errors.New("none")
	errInside  = errors.New("inside")
	errZeros   = errors.New("zeros")
	errHidden  = errors.New("hidden")
	errOutside = errors.New("root outside")
)

// Answer is the word for what came of a try.
func Answer(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return Allowed
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// What the host has ready, so that it could be found. The test makes it.
const (
	SocketName = "@docker2013-trust" // an abstract socket that somebody listens on
	KeyName    = "docker2013-trust"  // a key in the daemon's session keyring
	ShmKey     = 0x2013_0129         // a segment of shared memory
	QueueName  = "docker2013-trust"  // a message queue
	Secret     = "DOCKER2013_TRUST"  // a variable in the daemon's environment
	DaemonPort = "DAEMON_PORT"       // a variable in the probe's, with the daemon's port
	HostPts    = "HOST_PTS"          // another, with the number of a terminal
	Cgroup     = "HOST_CGROUP"       // another, with the name of the containers' cgroup
	// FileCaps is a copy of the probe that has CAP_SYS_ADMIN as a file.
	FileCaps = "/probe-with-caps"
)

const badFD = ^uintptr(0)

func no(e syscall.Errno) error {
	if e != 0 {
		return e
	}
	return nil
}

func syscallOf(number, a, b, c uintptr) func() error {
	return func() error {
		_, _, e := syscall.Syscall6(number, a, b, c, 0, 0, 0)
		if e == unix.EFAULT || e == unix.EBADF || e == unix.EINVAL { // it looked at what it was given
			return nil
		}
		return no(e)
	}
}

// first is the answer of the first try that finds its file.
func first(tries ...func() error) func() error {
	return func() (err error) {
		for _, try := range tries {
			if err = try(); !errors.Is(err, unix.ENOENT) {
				return err
			}
		}
		return err
	}
}

func open(path string, flags int) func() error {
	return func() error {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	}
}

// rewrite writes to a file what is in it.
func rewrite(path string) func() error {
	return func() error {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		return errors.Join(err, f.Close())
	}
}

func read(path string) func() error {
	return func() error {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		n, err := unix.Read(fd, make([]byte, 64))
		if err == nil && n == 0 {
			err = errEmpty
		}
		return err
	}
}

func list(path string) func() error {
	return func() error {
		entries, err := os.ReadDir(path)
		if err == nil && len(entries) == 0 {
			err = errEmpty
		}
		return err
	}
}

func syslog() error {
	_, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, make([]byte, 64))
	return err
}

func kallsyms() error {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return err
	}
	defer f.Close()
	line := make([]byte, 16)
	if _, err := io.ReadFull(f, line); err != nil {
		return err
	}
	if strings.Trim(string(line), "0") == "" {
		return errZeros
	}
	return nil
}

func cgroupPath() error {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	if strings.Contains(string(data), os.Getenv(Cgroup)) {
		return nil
	}
	return errHidden
}

// mknodDisk makes the node of the first disk, in a folder that has no nodev.
func mknodDisk(use bool) func() error {
	return func() error {
		data, err := os.ReadFile("/proc/partitions")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data)) {
			var major, minor uint32
			if n, _ := fmt.Sscan(line, &major, &minor); n == 2 {
				if !use {
					return mknod(unix.S_IFBLK, major, minor)
				}
				return mknodRead(unix.S_IFBLK, major, minor)()
			}
		}
		return errNone
	}
}

const node = "/probe-node"

func mknod(kind, major, minor uint32) error {
	_ = os.Remove(node)
	return unix.Mknod(node, kind|0o600, int(unix.Mkdev(major, minor)))
}

func mknodRead(kind, major, minor uint32) func() error {
	return func() error {
		if err := mknod(kind, major, minor); err != nil {
			return err
		}
		defer os.Remove(node)
		return read(node)()
	}
}

func hostPts() error {
	return open("/dev/pts/"+os.Getenv(HostPts), unix.O_RDWR)()
}

// ownTerminal opens a terminal and makes it ours.
func ownTerminal() (int, error) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return -1, err
	}
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return -1, err
	}
	_, _ = unix.Setsid()
	return unix.Open(fmt.Sprintf("/dev/pts/%d", n), unix.O_RDWR, 0)
}

func tiocsti() error {
	tty, err := ownTerminal()
	if err != nil {
		return err
	}
	c := byte('x')
	_, _, e := syscall.Syscall(unix.SYS_IOCTL, uintptr(tty), unix.TIOCSTI, uintptr(unsafe.Pointer(&c)))
	return no(e)
}

// tioclinux needs a virtual console: any that can be opened.
func tioclinux() error {
	for _, path := range []string{"/dev/tty0", "/dev/tty1", "/dev/console"} {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		c := [2]byte{6} // TIOCL_GETSHIFTSTATE: it changes nothing
		if _, _, e := syscall.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCLINUX, uintptr(unsafe.Pointer(&c))); e == 0 {
			return nil
		}
	}
	return errNone
}

// folder is an empty one to mount on.
func folder() string {
	_ = os.Mkdir("/probe-dir", 0o755)
	return "/probe-dir"
}

func mountAt(source, fstype string) func() error {
	return func() error {
		dir := folder()
		err := unix.Mount(source, dir, fstype, 0, "")
		if err == nil {
			err = unix.Unmount(dir, unix.MNT_DETACH)
		}
		return err
	}
}

func bind() error { return unix.Mount("/etc", folder(), "", unix.MS_BIND, "") }

func remount() error {
	return unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND, "")
}

func umount(path string) func() error {
	return func() error { return unix.Unmount(path, unix.MNT_DETACH) }
}

func pivot() error { return unix.PivotRoot(folder(), folder()) }

// chrootOut is the classic way: a root below the folder that is open.
func chrootOut() error {
	out, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	var before, after unix.Stat_t
	if err := errors.Join(unix.Fstat(out, &before), unix.Chroot(folder()), unix.Fchdir(out)); err != nil {
		return err
	}
	for range 20 {
		if err := unix.Chdir(".."); err != nil {
			return err
		}
	}
	if err := unix.Stat(".", &after); err != nil {
		return err
	}
	if before.Dev == after.Dev && before.Ino == after.Ino {
		return errInside
	}
	return nil
}

func fsopen() error {
	_, err := unix.Fsopen("tmpfs", 0)
	return err
}

func openTree() error {
	_, err := unix.OpenTree(unix.AT_FDCWD, "/etc", unix.OPEN_TREE_CLONE)
	return err
}

func mountSetattr() error {
	return unix.MountSetattr(unix.AT_FDCWD, "/proc/sys", 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
}

// openByHandle opens inode 2, the root of an ext file system, through a mount of
// the host's: resolv.conf.
func openByHandle() error {
	at, err := unix.Open("/etc/resolv.conf", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	handle := unix.NewFileHandle(1, []byte{2, 0, 0, 0, 0, 0, 0, 0})
	fd, err := unix.OpenByHandleAt(at, handle, unix.O_RDONLY)
	if errors.Is(err, unix.ESTALE) { // another kind of file system, and we were let in
		return nil
	}
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// cgroups are all folders of cgroups that we can see.
func cgroups() (dirs []string) {
	data, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); strings.HasPrefix(f[2], "cgroup") {
			dirs = append(dirs, f[1])
		}
	}
	return dirs
}

// cgroupFile opens a file of a cgroup to write.
func cgroupFile(names ...string) func() error {
	return func() error {
		answer := errNone
		for _, dir := range cgroups() {
			for _, name := range names {
				err := open(filepath.Join(dir, name), unix.O_WRONLY)()
				if err == nil {
					return nil
				}
				if !errors.Is(err, unix.ENOENT) {
					answer = err
				}
			}
		}
		return answer
	}
}

func cgroupMake() error {
	for _, dir := range append(cgroups(), "/sys/fs/cgroup") {
		err := os.Mkdir(filepath.Join(dir, "probe"), 0o755)
		if err == nil || dir == "/sys/fs/cgroup" {
			return err
		}
	}
	return errNone
}

func unshare(flags int) func() error {
	return func() error {
		// A thread that shares its memory can't: a child does it, before its exec.
		return start(&syscall.SysProcAttr{Unshareflags: uintptr(flags)})
	}
}

func start(attr *syscall.SysProcAttr) error {
	cmd := exec.Command("/proc/self/exe", "nothing")
	cmd.SysProcAttr = attr
	return cmd.Run()
}

func unshareMount() error {
	cmd := exec.Command("/proc/self/exe", "mount")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}}
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	if strings.HasSuffix(strings.TrimSpace(string(out)), "\t"+Allowed) {
		return nil
	}
	return unix.EPERM
}

func cloneUser() error { return start(&syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}) }

// clone3 asks for nothing: the size of its struct is wrong.
func clone3() error {
	_, _, e := syscall.RawSyscall(unix.SYS_CLONE3, 0, 0, 0)
	if e == unix.EINVAL {
		return nil
	}
	return no(e)
}

func setns(path string) func() error {
	return func() error {
		fd, err := unix.Open(path, unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		return unix.Setns(fd, 0)
	}
}

func uidMap() error {
	data, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return err
	}
	if f := strings.Fields(string(data)); len(f) == 3 && f[1] == "0" {
		return errOutside
	}
	return nil
}

// seePids: PID 1 is this program's first process, and nobody has no parent here but it.
func seePids() error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		if comm, err := os.ReadFile(filepath.Join("/proc", e.Name(), "comm")); err == nil && string(comm) != "probe\n" && !strings.HasPrefix(string(comm), "exe") {
			return fmt.Errorf("sees %s", bytes.TrimSpace(comm))
		}
	}
	return errNone
}

func procRoot() error {
	var own, other unix.Stat_t
	if err := errors.Join(unix.Stat("/", &own), unix.Stat("/proc/1/root/", &other)); err != nil {
		return err
	}
	if own.Dev == other.Dev && own.Ino == other.Ino {
		return errInside
	}
	return nil
}

func ptrace(pid int) func() error {
	return func() error { return unix.PtraceAttach(pid) }
}

func ptraceChild() error {
	runtime.LockOSThread()
	cmd := exec.Command("/proc/self/exe", "nothing")
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	_ = cmd.Wait()
	_ = cmd.Process.Kill()
	return nil
}

func killOut() error { return unix.Kill(1<<21, 0) }

// leaked are descriptors that the program was started with. Go opens its own later.
func leaked() error {
	inherited := os.Getenv("INHERITED")
	if inherited != "0 1 2" {
		return fmt.Errorf("has %s", inherited)
	}
	return errNone
}

// Inherited lists the descriptors that are open without close-on-exec: those
// that came with the program.
func Inherited() string {
	entries, _ := os.ReadDir("/proc/self/fd")
	var fds []int
	for _, e := range entries {
		fd, _ := strconv.Atoi(e.Name())
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			fds = append(fds, fd)
		}
	}
	slices.Sort(fds)
	return strings.Trim(fmt.Sprint(fds), "[]")
}

func environment() error {
	data, err := os.ReadFile("/proc/1/environ")
	if err != nil {
		return err
	}
	if bytes.Contains(data, []byte(Secret)) {
		return nil
	}
	return errNone
}

func nice() error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -20) }

func realtime() error {
	priority := int32(1)
	_, _, e := syscall.Syscall(unix.SYS_SCHED_SETSCHEDULER, 0, 1 /* SCHED_FIFO */, uintptr(unsafe.Pointer(&priority)))
	return no(e)
}

func oomScore() error { return os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0) }

func rlimit() error {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return err
	}
	r.Max++
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &r)
}

func keyctlSession() error {
	_, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	return err
}

func addKey() error {
	_, err := unix.AddKey("user", "probe", []byte("x"), unix.KEY_SPEC_PROCESS_KEYRING)
	return err
}

func hostKey() error {
	_, err := unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", KeyName, 0)
	return err
}

func hostShm() error {
	_, err := unix.SysvShmGet(ShmKey, 0, 0)
	return err
}

func hostQueue() error {
	name, err := unix.BytePtrFromString(QueueName)
	if err != nil {
		return err
	}
	_, _, e := syscall.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(name)), unix.O_RDONLY, 0, 0, 0, 0)
	return no(e)
}

func dialDaemon() error {
	conn, err := net.Dial("tcp", "127.0.0.1:"+os.Getenv(DaemonPort))
	if err != nil {
		return err
	}
	return conn.Close()
}

func abstract() error {
	conn, err := net.Dial("unix", SocketName)
	if err != nil {
		return err
	}
	return conn.Close()
}

func socket(domain, kind, protocol int) func() error {
	return func() error {
		fd, err := unix.Socket(domain, kind, protocol)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	}
}

func interfaceDown() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	ifreq, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifreq.SetUint16(0)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifreq)
}

// setClock sets it to what it is, to some microseconds.
func setClock() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		return err
	}
	return unix.ClockSettime(unix.CLOCK_REALTIME, &now)
}

func hostname() error { return unix.Sethostname([]byte("probe")) }

func swapon() error {
	path, err := unix.BytePtrFromString("/probe-swap")
	if err != nil {
		return err
	}
	_, _, e := syscall.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(path)), 0, 0)
	return no(e)
}

func acct() error {
	_, _, e := syscall.Syscall(unix.SYS_ACCT, 0, 0, 0)
	return no(e)
}

// bpf loads "return 0" as a kind of program that only privileges load.
func bpf() error {
	program := []uint64{0xb7, 0x95} // r0 = 0; exit
	license := []byte("GPL\x00")
	attr := struct {
		kind, count             uint32
		instructions, license   uint64
		level, size             uint32
		log                     uint64
		version, flags          uint32
		name                    [16]byte
		ifindex, expectedAttach uint32
	}{kind: 3 /* BPF_PROG_TYPE_SCHED_CLS */, count: 2,
		instructions: uint64(uintptr(unsafe.Pointer(&program[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0])))}
	_, _, e := syscall.Syscall(unix.SYS_BPF, 5 /* BPF_PROG_LOAD */, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(program)
	runtime.KeepAlive(license)
	return no(e)
}

func perf() error {
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK}
	attr.Size = uint32(unsafe.Sizeof(attr))
	_, err := unix.PerfEventOpen(&attr, -1, 0, -1, 0)
	return err
}

func ioURing() error {
	params := make([]byte, 120) // struct io_uring_params
	_, _, e := syscall.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params[0])), 0)
	return no(e)
}

// fileCaps executes a program whose file gives CAP_SYS_ADMIN: the bounding set
// doesn't.
func fileCaps() error {
	err := exec.Command(FileCaps, "nothing").Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

// MakeQueue makes the message queue that nobody inside may find.
func MakeQueue() error {
	name, err := unix.BytePtrFromString(QueueName)
	if err != nil {
		return err
	}
	fd, _, e := syscall.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(name)), unix.O_CREAT|unix.O_RDWR, 0o666, 0, 0, 0)
	if e != 0 {
		return e
	}
	return unix.Close(int(fd))
}

// RemoveQueue removes it.
func RemoveQueue() {
	if name, err := unix.BytePtrFromString(QueueName); err == nil {
		_, _, _ = syscall.Syscall(unix.SYS_MQ_UNLINK, uintptr(unsafe.Pointer(name)), 0, 0)
	}
}

// HoldExe waits for a process in the container that executes a program from outside,
// and tries to get at its file (CVE-2019-5736): while it is executed nobody can
// write to it (ETXTBSY), but who holds it can wait. It returns the answer: "sealed",
// "read-only", or "none" if no such process was seen.
func HoldExe() string {
	end := time.Now().Add(6 * time.Second)
	held := -1
	for held < 0 {
		if time.Now().After(end) {
			return "none"
		}
		entries, _ := os.ReadDir("/proc")
		for _, e := range entries {
			if _, err := strconv.Atoi(e.Name()); err != nil {
				continue
			}
			exe := "/proc/" + e.Name() + "/exe"
			target, err := os.Readlink(exe)
			if err != nil || strings.HasPrefix(target, "/bin/") || target == "/probe" {
				continue
			}
			if fd, err := unix.Open(exe, unix.O_RDONLY, 0); err == nil {
				held = fd
			}
		}
	}
	if seals, err := unix.FcntlInt(uintptr(held), unix.F_GET_SEALS, 0); err == nil && seals&unix.F_SEAL_WRITE != 0 {
		return "sealed"
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(held, &fs); err == nil && fs.Flags&unix.ST_RDONLY != 0 {
		return "read-only"
	}
	for {
		fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", held), unix.O_WRONLY, 0)
		if err == nil {
			_ = unix.Close(fd)
		}
		if !errors.Is(err, unix.ETXTBSY) || time.Now().After(end) {
			return Answer(err)
		}
	}
}
