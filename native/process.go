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
func (w *writer) process(s *specs.Spec, x Setup) {
	p := s.Process
	if p == nil { // it waits, and can't be started
		p = &specs.Process{}
	}
	w.streams(x)
	if !x.User.Is { // else done already, see userNamespace
		w.labels(p)
	}
	w.closeAll(x)
	w.workdir(p.Cwd)
	w.schedule(p)
	w.limits(p, false)
	if x.Wait >= 0 {
		w.find(p)
		w.wait()
	}
	w.limits(p, true)
	w.identity(s, p, x)
	w.execute(p)
}

func (w *writer) streams(x Setup) {
	if !x.Terminal {
		for fd, file := range x.Stdio {
			w.call("set up the standard streams", unix.SYS_DUP3, launch.File(file), fd, 0).Ok = []unix.Errno{unix.EINVAL}
		}
	}
	if x.Controlling {
		w.call("take the terminal as one's own", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	}
	if x.Wait >= 0 {
		w.call("keep the socket", unix.SYS_DUP3, launch.File(x.Wait), startFD, unix.O_CLOEXEC)
	}
}

// startFD is where a process that waits to be started has its socket.
const startFD = launch.ErrorFD + 1

// wait: that the pipe for failures is closed says that all is made. Who connects
// says that the program is to be executed, and is told of failures from then on.
//
//	child                              create                      start
//	  ── closes the pipe ───────────────▶   exits
//	  accept
//	  ◀───────────────────────────────────────────────── connect ──
//	  ── which call failed, and how; or closed by execve ─────────▶
func (w *writer) wait() {
	w.call("outlive one's maker", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, 0)
	w.call("be created", unix.SYS_CLOSE, launch.ErrorFD)
	conn := w.result("wait to be started", unix.SYS_ACCEPT4, startFD, 0, 0, unix.SOCK_CLOEXEC)
	w.call("tell who started it", unix.SYS_DUP3, conn, launch.ErrorFD, unix.O_CLOEXEC)
	w.close("tell who started it", conn)
}

// limits: that of open files would be in our own way, so it comes last.
func (w *writer) limits(p *specs.Process, files bool) {
	for _, r := range p.Rlimits {
		if (r.Type == "RLIMIT_NOFILE") != files {
			continue
		}
		b := make([]byte, 16)
		binary.NativeEndian.PutUint64(b, r.Soft)
		binary.NativeEndian.PutUint64(b[8:], r.Hard)
		w.call("set the limit "+r.Type, unix.SYS_PRLIMIT64, 0, rlimits[r.Type], b, 0)
	}
}

// oomScore: while the host's /proc is there.
func (w *writer) oomScore(p *specs.Process, u UserNamespace) {
	if p != nil && !(u.Is && u.Ready >= 0) && p.OOMScoreAdj != nil {
		w.writeFile("set the OOM score", "/proc/self/oom_score_adj", fmt.Sprint(*p.OOMScoreAdj))
	}
}

// schedule is how it gets the CPU and the disk (sched_setattr(2), ioprio_set(2)).
func (w *writer) schedule(p *specs.Process) {
	if s := p.Scheduler; s != nil {
		b := binary.NativeEndian.AppendUint32(nil, 48) // struct sched_attr
		b = binary.NativeEndian.AppendUint32(b, schedulers[s.Policy])
		flags := uint64(0)
		for _, f := range s.Flags {
			flags |= schedulerFlags[f]
		}
		b = binary.NativeEndian.AppendUint64(b, flags)
		b = binary.NativeEndian.AppendUint32(b, uint32(s.Nice))
		b = binary.NativeEndian.AppendUint32(b, uint32(s.Priority))
		for _, n := range []uint64{s.Runtime, s.Deadline, s.Period} {
			b = binary.NativeEndian.AppendUint64(b, n)
		}
		w.call("set the scheduler", unix.SYS_SCHED_SETATTR, 0, b, 0)
	}
	if io := p.IOPriority; io != nil {
		const process, classShift = 1, 13
		w.call("set the I/O priority", unix.SYS_IOPRIO_SET, process, 0, ioClasses[io.Class]<<classShift|io.Priority)
	}
}

var (
	schedulers = map[specs.LinuxSchedulerPolicy]uint32{
		specs.SchedOther: unix.SCHED_NORMAL, specs.SchedFIFO: unix.SCHED_FIFO, specs.SchedRR: unix.SCHED_RR,
		specs.SchedBatch: unix.SCHED_BATCH, specs.SchedIdle: unix.SCHED_IDLE, specs.SchedDeadline: unix.SCHED_DEADLINE,
	}
	schedulerFlags = map[specs.LinuxSchedulerFlag]uint64{
		specs.SchedFlagResetOnFork: 1, specs.SchedFlagReclaim: 2, specs.SchedFlagDLOverrun: 4, specs.SchedFlagKeepPolicy: 8,
		specs.SchedFlagKeepParams: 16, specs.SchedFlagUtilClampMin: 32, specs.SchedFlagUtilClampMax: 64,
	}
	ioClasses = map[specs.IOPriorityClass]int{specs.IOPRIO_CLASS_RT: 1, specs.IOPRIO_CLASS_BE: 2, specs.IOPRIO_CLASS_IDLE: 3}
)

// labels are for the program that is executed next (apparmor(7); selinux's
// setexeccon(3) writes the same file). /proc is the one that we have mounted.
func (w *writer) labels(p *specs.Process) {
	if p == nil {
		return
	}
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
// the pipe that tells of failures and the socket that is waited on, which lead to
// no file; execve closes them.
func (w *writer) closeAll(x Setup) {
	above := launch.ErrorFD + 1
	if x.Wait >= 0 {
		above = startFD + 1
	}
	w.call("close all other files", unix.SYS_CLOSE_RANGE, 3+x.Preserve, launch.ErrorFD-1, 0)
	w.call("close all other files", unix.SYS_CLOSE_RANGE, above, ^uint32(0), 0)
}

// workdir goes to the working directory, and makes it where it isn't there.
func (w *writer) workdir(dir string) {
	dir = path.Clean("/" + dir)
	fd := w.target(here, dir, false, false)
	w.call("go to "+dir, unix.SYS_FCHDIR, fd)
	w.close("go to "+dir, fd)
}

// identity: user, groups, capabilities, filter, in the one order that works. The
// filter wants CAP_SYS_ADMIN or no_new_privs (seccomp(2)); the bounding set wants
// CAP_SETPCAP; changing the user takes the effective capabilities away
// (capabilities(7), "Effect of user ID changes").
func (w *writer) identity(s *specs.Spec, p *specs.Process, x Setup) {
	w.personality(s)
	if p.NoNewPrivileges {
		w.call("gain no new privileges", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	} else {
		w.filter(s, x.Filter)
	}
	sets := capabilitySets(p.Capabilities)
	for c := range x.LastCap + 1 {
		if sets.bounding&(1<<c) == 0 {
			w.call("drop "+c.String(), unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, int(c))
		}
	}
	w.call("keep capabilities over the change of user", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1)
	groups := make([]byte, 0, 4*len(p.User.AdditionalGids))
	for _, g := range p.User.AdditionalGids {
		groups = binary.NativeEndian.AppendUint32(groups, g)
	}
	set := w.call("set the groups", unix.SYS_SETGROUPS, len(p.User.AdditionalGids), groups)
	if x.User.Is && len(groups) == 0 {
		set.Ok = []unix.Errno{unix.EPERM} // forbidden to an ordinary user, who has but his own (user_namespaces(7))
	}
	gid, uid := p.User.GID, p.User.UID
	w.call("set the group", unix.SYS_SETRESGID, gid, gid, gid)
	w.call("set the user", unix.SYS_SETRESUID, uid, uid, uid)
	w.call("set the capabilities", unix.SYS_CAPSET, capHeader(), sets.data())
	for c := range x.LastCap + 1 {
		if sets.ambient&(1<<c) != 0 {
			w.call("raise "+c.String(), unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, int(c), 0, 0)
		}
	}
	umask := uint32(0o022)
	if p.User.Umask != nil {
		umask = *p.User.Umask
	}
	w.call("set the umask", unix.SYS_UMASK, umask)
	if p.NoNewPrivileges {
		w.filter(s, x.Filter)
	}
}

// filterFlags are seccomp(2)'s. TSYNC is for programs with threads.
var filterFlags = map[specs.LinuxSeccompFlag]int{
	specs.LinuxSeccompFlagLog: unix.SECCOMP_FILTER_FLAG_LOG, specs.LinuxSeccompFlagSpecAllow: unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
}

func (w *writer) filter(s *specs.Spec, bpf []byte) {
	if len(bpf) == 0 {
		return
	}
	flags := 0
	for _, f := range s.Linux.Seccomp.Flags {
		flags |= filterFlags[f]
	}
	w.call("load the seccomp filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, launch.Filter(bpf))
}

// personality is an execution domain (personality(2)).
func (w *writer) personality(s *specs.Spec) {
	if p := s.Linux.Personality; p != nil {
		w.call("set the personality", unix.SYS_PERSONALITY, map[specs.LinuxPersonalityDomain]int{specs.PerLinux32: 8}[p.Domain])
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

// candidates are the files that a program may be: along PATH, as execvp(3) does.
func candidates(p *specs.Process) []string {
	if len(p.Args) == 0 || strings.Contains(p.Args[0], "/") {
		return p.Args[:min(1, len(p.Args))]
	}
	list := []string{"/" + p.Args[0]}
	for _, kv := range p.Env {
		if dirs, ok := strings.CutPrefix(kv, "PATH="); ok {
			list = nil
			for dir := range strings.SplitSeq(dirs, ":") {
				list = append(list, path.Join("/", dir, p.Args[0]))
			}
		}
	}
	return list
}

// notThis are the failures behind which the next candidate is tried.
var notThis = []unix.Errno{unix.ENOENT, unix.ENOTDIR, unix.EACCES}

// find fails where execute would, and as it would, before a start is waited for:
// each candidate must be there, executable, and no directory.
func (w *writer) find(p *specs.Process) {
	list := candidates(p)
	for i, c := range list {
		var ok []unix.Errno
		if i < len(list)-1 {
			ok = notThis
		}
		there := w.call(executing+p.Args[0], unix.SYS_FACCESSAT, here, c, unix.X_OK, 0)
		there.Ok, there.Skip = ok, 2
		isDir := w.call(executing+p.Args[0], unix.SYS_OPENAT, here, c, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		isDir.Ok, isDir.Skip = []unix.Errno{unix.ENOTDIR}, 1+3*(len(list)-1-i) // found
		// EACCES, and nothing else, as it can only be a directory.
		w.call(executing+p.Args[0], unix.SYS_EXECVE, c+"/.", []string(nil), []string(nil)).Ok = ok
	}
}

// execute executes the program. The last of the calls is the one whose failure is
// told: it is for the name that was given.
func (w *writer) execute(p *specs.Process) {
	list := candidates(p)
	for i, c := range list {
		call := w.call(executing+p.Args[0], unix.SYS_EXECVE, c, p.Args, p.Env)
		if i < len(list)-1 {
			call.Ok = notThis
		}
	}
}

// executing begins the name of the call that executes the program.
const executing = "execute "
