package native

import (
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"docker2013/native/launch"
)

// process is the part that a container's first process and those of `exec` have
// in common: limits, streams, identity, and at last the program itself.
func (w *writer) process(s *specs.Spec, x setup) {
	p := s.Process
	if !x.terminal {
		for fd, file := range x.stdio {
			w.call("set up the standard streams", unix.SYS_DUP3, launch.File(file), launch.Number(fd), launch.Number(0)).Ok = []unix.Errno{unix.EINVAL}
		}
	}
	if x.controlling {
		w.call("take the terminal as one's own", unix.SYS_IOCTL, launch.Number(0), launch.Number(unix.TIOCSCTTY), launch.Number(0))
	}
	if !x.user.is { // else done already, see userNamespace
		w.labels(p)
	}
	w.limits(p, !x.user.is) // nothing can be opened any more, if there may be few files
	w.closeAll()
	w.workdir(p.Cwd)
	w.identity(p, x)
	w.execute(p)
}

func (w *writer) limits(p *specs.Process, oom bool) {
	if oom && p.OOMScoreAdj != nil {
		w.writeFile("set the OOM score", "/proc/self/oom_score_adj", fmt.Sprint(*p.OOMScoreAdj))
	}
	for _, r := range p.Rlimits {
		b := make([]byte, 16)
		binary.NativeEndian.PutUint64(b, r.Soft)
		binary.NativeEndian.PutUint64(b[8:], r.Hard)
		w.call("set the limit "+r.Type, unix.SYS_PRLIMIT64, launch.Number(0), launch.Number(rlimits[r.Type]), launch.Bytes(b), launch.Number(0))
	}
}

// labels are for the program that is executed next (apparmor(7); selinux's
// setexeccon(3) writes the same file). /proc is the one that we have mounted.
func (w *writer) labels(p *specs.Process) {
	if p.ApparmorProfile != "" {
		w.writeFile("set the AppArmor profile", "/proc/self/attr/apparmor/exec", "exec "+p.ApparmorProfile)
	}
	if p.SelinuxLabel != "" {
		w.writeFile("set the SELinux label", "/proc/self/attr/exec", p.SelinuxLabel)
	}
}

// rlimits are setrlimit(2)'s numbers.
var rlimits = map[string]int{
	"RLIMIT_CPU": unix.RLIMIT_CPU, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_DATA": unix.RLIMIT_DATA,
	"RLIMIT_STACK": unix.RLIMIT_STACK, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_RSS": unix.RLIMIT_RSS,
	"RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK,
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS, "RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING,
	"RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE, "RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO,
	"RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
}

// closeAll: nothing of the host's stays open, before the working directory is
// looked up: /proc/self/fd/7 was the way out of CVE-2024-21626. What is left is
// the pipe that tells of failures, which leads to no file; execve closes it.
func (w *writer) closeAll() {
	w.call("close all other files", unix.SYS_CLOSE_RANGE, launch.Number(3), launch.Number(launch.ErrorFD-1), launch.Number(0))
	w.call("close all other files", unix.SYS_CLOSE_RANGE, launch.Number(launch.ErrorFD+1), launch.Number(^uint32(0)), launch.Number(0))
}

func (w *writer) workdir(dir string) {
	if dir == "" {
		dir = "/"
	}
	dir = path.Clean("/" + dir)
	for i, c := range dir {
		if c == '/' && i > 0 {
			w.mkdir(dir[:i])
		}
	}
	if dir != "/" {
		w.mkdir(dir)
	}
	w.call("go to "+dir, unix.SYS_CHDIR, launch.String(dir))
}

// identity: user, groups, capabilities, filter, in the one order that works. The
// filter wants CAP_SYS_ADMIN or no_new_privs (seccomp(2)); the bounding set wants
// CAP_SETPCAP; changing the user takes the effective capabilities away
// (capabilities(7), "Effect of user ID changes").
func (w *writer) identity(p *specs.Process, x setup) {
	if p.NoNewPrivileges {
		w.call("gain no new privileges", unix.SYS_PRCTL, launch.Number(unix.PR_SET_NO_NEW_PRIVS), launch.Number(1), launch.Number(0), launch.Number(0), launch.Number(0))
	} else {
		w.filter(x.filter)
	}
	sets := capabilitySets(p.Capabilities)
	for c := range x.lastCap + 1 {
		if sets.bounding&(1<<c) == 0 {
			w.call("drop "+capability.Cap(c).String(), unix.SYS_PRCTL, launch.Number(unix.PR_CAPBSET_DROP), launch.Number(c))
		}
	}
	w.call("keep capabilities over the change of user", unix.SYS_PRCTL, launch.Number(unix.PR_SET_KEEPCAPS), launch.Number(1))
	groups := make([]byte, 0, 4*len(p.User.AdditionalGids))
	for _, g := range p.User.AdditionalGids {
		groups = binary.NativeEndian.AppendUint32(groups, g)
	}
	set := w.call("set the groups", unix.SYS_SETGROUPS, launch.Number(len(p.User.AdditionalGids)), launch.Bytes(groups))
	if x.user.is && len(groups) == 0 {
		set.Ok = []unix.Errno{unix.EPERM} // forbidden to an ordinary user, who has but his own (user_namespaces(7))
	}
	gid, uid := launch.Number(p.User.GID), launch.Number(p.User.UID)
	w.call("set the group", unix.SYS_SETRESGID, gid, gid, gid)
	w.call("set the user", unix.SYS_SETRESUID, uid, uid, uid)
	w.call("set the capabilities", unix.SYS_CAPSET, launch.Bytes(capHeader()), launch.Bytes(sets.data()))
	for c := range x.lastCap + 1 {
		if sets.ambient&(1<<c) != 0 {
			w.call("raise "+capability.Cap(c).String(), unix.SYS_PRCTL, launch.Number(unix.PR_CAP_AMBIENT), launch.Number(unix.PR_CAP_AMBIENT_RAISE), launch.Number(c), launch.Number(0), launch.Number(0))
		}
	}
	umask := uint32(0o022)
	if p.User.Umask != nil {
		umask = *p.User.Umask
	}
	w.call("set the umask", unix.SYS_UMASK, launch.Number(umask))
	if p.NoNewPrivileges {
		w.filter(x.filter)
	}
}

func (w *writer) filter(bpf []byte) {
	if len(bpf) > 0 {
		w.call("load the seccomp filter", unix.SYS_SECCOMP, launch.Number(unix.SECCOMP_SET_MODE_FILTER), launch.Number(0), launch.Filter(bpf))
	}
}

// sets are a process's five, a bit a capability.
type sets struct{ bounding, effective, permitted, inheritable, ambient uint64 }

func capabilitySets(c *specs.LinuxCapabilities) sets {
	if c == nil {
		return sets{}
	}
	bits := func(names []string) (b uint64) {
		for c := range capability.Cap(64) {
			if slices.Contains(names, "CAP_"+strings.ToUpper(c.String())) {
				b |= 1 << c
			}
		}
		return b
	}
	return sets{bits(c.Bounding), bits(c.Effective), bits(c.Permitted), bits(c.Inheritable), bits(c.Ambient)}
}

// capHeader is struct __user_cap_header_struct for oneself.
func capHeader() []byte {
	b := make([]byte, 8)
	binary.NativeEndian.PutUint32(b, unix.LINUX_CAPABILITY_VERSION_3)
	return b
}

// data is struct __user_cap_data_struct, twice: the low and the high 32 bits.
func (s sets) data() []byte {
	var b []byte
	for _, shift := range []int{0, 32} {
		for _, set := range []uint64{s.effective, s.permitted, s.inheritable} {
			b = binary.NativeEndian.AppendUint32(b, uint32(set>>shift))
		}
	}
	return b
}

// execute looks for the program along PATH, as execvp(3) does. The last of the
// calls is the one whose failure is told: it is for the name that was given.
func (w *writer) execute(p *specs.Process) {
	candidates := []string{p.Args[0]}
	if !strings.Contains(p.Args[0], "/") {
		candidates = nil
		for _, kv := range p.Env {
			if dirs, ok := strings.CutPrefix(kv, "PATH="); ok {
				candidates = nil
				for dir := range strings.SplitSeq(dirs, ":") {
					candidates = append(candidates, path.Join("/", dir, p.Args[0]))
				}
			}
		}
		if candidates == nil {
			candidates = []string{"/" + p.Args[0]}
		}
	}
	argv, env := launch.Strings(p.Args), launch.Strings(p.Env)
	for i, c := range candidates {
		call := w.call(executing+p.Args[0], unix.SYS_EXECVE, launch.String(c), argv, env)
		if i < len(candidates)-1 {
			call.Ok = []unix.Errno{unix.ENOENT, unix.ENOTDIR, unix.EACCES}
		}
	}
}

// executing begins the name of the call that executes the program.
const executing = "execute "
