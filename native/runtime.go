package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"docker2013/cgroups"
	"docker2013/container"
	"docker2013/native/launch"
	"docker2013/native/shim"
	"docker2013/ociconfig"
	"docker2013/ociconfig/seccompbpf"
	"docker2013/trace"
)

// Runtime is container.Runtime on our own runtime.
type Runtime struct {
	host    *cgroups.Host
	parent  *cgroups.Parent
	shims   *pool
	filters seccompbpf.Compiler
	pids    func(id string) (int, error)
	lastCap capability.Cap
	execs   atomic.Uint64 // the last one's id; a shim has several containers, one after the other
	log     *slog.Logger
}

var _ container.Runtime = (*Runtime)(nil)

// Options are what New needs.
type Options struct {
	Root   string // the containers' folder
	Cgroup string // the parent of the containers' cgroups
	Shim   string // the program docker2013-shim
	// NoCgroups: they are not ours to make. Containers have no limits then,
	// can't be paused, and nobody counts what they use.
	NoCgroups bool
	// Pid finds the first process of a running container, for --pid and --ipc.
	Pid func(id string) (int, error)
	Log *slog.Logger
}

// New makes the runtime.
func New(o Options) (*Runtime, error) {
	host, err := cgroups.None(), error(nil)
	if !o.NoCgroups {
		host, err = cgroups.Detect()
	}
	if err != nil {
		return nil, err
	}
	lastCap, err := capability.LastCap()
	if err != nil {
		return nil, err
	}
	parent, err := host.Parent(o.Cgroup)
	if err != nil {
		return nil, err
	}
	shims, err := newPool(o.Shim, o.Root, o.Log)
	if err != nil {
		return nil, errors.Join(err, parent.Close())
	}
	return &Runtime{host: host, parent: parent, shims: shims, pids: o.Pid, lastCap: lastCap, log: o.Log}, nil
}

// Name is "native".
func (rt *Runtime) Name() string { return "native" }

// Close removes the cgroups and ends the shims that have no container.
func (rt *Runtime) Close() error {
	return errors.Join(rt.shims.close(), rt.parent.Close())
}

func bundleDir(r *container.Record) string { return filepath.Join(r.Root, "bundle") }

func (rt *Runtime) spec(r *container.Record) (*specs.Spec, error) {
	s, err := ociconfig.Spec(r, ociconfig.Host{Pid: rt.pids, CgroupV2: rt.host.Version == 2})
	if err != nil {
		return nil, err
	}
	s.Linux.CgroupsPath = "/" + rt.parent.Name() + "/" + r.Id
	return s, nil
}

// Check makes the specification and the cgroup's plan, for nobody.
func (rt *Runtime) Check(r *container.Record) error {
	s, err := rt.spec(r)
	if err == nil {
		_, err = rt.host.Plan(s.Linux.Resources)
	}
	if err == nil {
		_, err = otherRuntime(r)
	}
	return err
}

// Configure writes the bundle's config.json.
func (rt *Runtime) Configure(ctx context.Context, r *container.Record) (err error) {
	step := trace.Step(ctx, "runtime.config", "config", filepath.Join(bundleDir(r), "config.json"), "cgroup", fmt.Sprintf("v%d", rt.host.Version))
	defer func() { step.End(err) }()
	s, err := rt.spec(r)
	if err != nil {
		return err
	}
	return ociconfig.Write(bundleDir(r), s)
}

// Start makes the cgroup, and has a shim make the container.
func (rt *Runtime) Start(ctx context.Context, r *container.Record, size container.Window) (_ container.Process, err error) {
	trace.Step(ctx, "network.attach", "mode", "none").End(nil)
	step := trace.Step(ctx, "runtime.start", "argv", strings.Join(append([]string{r.Path}, r.Args...), " "))
	defer func() { step.End(err) }()

	s, err := rt.spec(r)
	if err != nil {
		return nil, err
	}
	plan, err := rt.host.Plan(s.Linux.Resources)
	if err != nil {
		return nil, err
	}
	other, err := otherRuntime(r)
	if err != nil {
		return nil, err
	}
	group, err := rt.parent.Create(r.Id, plan)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, group.End())
		}
	}()
	order := shim.StartOrder{Dir: r.Root, Stdin: r.Config.OpenStdin, Terminal: r.Config.Tty, Rows: size.Rows, Cols: size.Cols, IDs: IDs(s), Other: other}
	var conn *shim.Conn
	if other != nil {
		step.Set("runtime", other.Path)
		conn, err = rt.send(order, nil, nil)
	} else {
		conn, err = rt.sendProgram(step, r, s, group, order)
	}
	if err != nil {
		return nil, err
	}
	step.End(nil)

	isolate := trace.Step(ctx, "runtime.isolate")
	p, err := rt.attach(r, group, conn)
	if err != nil {
		_ = forgetRun(r.Root, shim.ListenFile, shim.ExitFile)
		return nil, isolate.End(startError(r.Path, err))
	}
	isolate.Set("pid", p.pid)
	isolate.End(nil)
	return p, nil
}

// sendProgram compiles the container's program, and sends it with its descriptors.
func (rt *Runtime) sendProgram(step *trace.Span, r *container.Record, s *specs.Spec, group *cgroups.Group, order shim.StartOrder) (*shim.Conn, error) {
	join, err := group.Join()
	if err != nil {
		return nil, err
	}
	defer join.Close()
	x, err := rt.setup(s, join)
	if err != nil {
		return nil, err
	}
	x.Rootfs, x.Files = r.Filesystem.RootFS, Files(s.Mounts)
	held, err := x.Hold(s)
	defer shim.CloseAll(held)
	if err != nil {
		return nil, err
	}
	// What the shim appends: the standard streams, with a terminal the two ends of Sync;
	// and with new ids the pipe that tells of them.
	n := len(x.FDs)
	x.Stdio, x.Sync = [3]int{n, n + 1, n + 2}, [2]int{n, n + 1}
	if order.IDs != nil {
		x.User.Ready, x.User.Nodes = n+len(x.Stdio), map[string]string{}
		if x.Terminal {
			x.User.Ready = n + len(x.Sync)
		}
		for _, d := range r.Config.Devices {
			x.User.Nodes[d.Container] = d.Host
		}
	}
	program, err := Compile(s, x)
	if err != nil {
		return nil, err
	}
	if step.Listening() {
		step.Set("calls", names(program))
	}
	return rt.send(order, program.Encode(), x.FDs)
}

// send gives an order to an idle shim.
func (rt *Runtime) send(order shim.StartOrder, program []byte, files []int) (*shim.Conn, error) {
	listener, err := listen(order.Dir)
	if err != nil {
		return nil, err
	}
	defer unix.Close(listener)
	for range spares + 1 {
		var conn *shim.Conn
		if conn, err = rt.shims.take(); err != nil {
			return nil, err
		}
		if err = conn.Send(shim.Start, order, program, append([]int{listener}, files...)...); err == nil {
			return conn, nil
		}
		err = errors.Join(fmt.Errorf("start container %s: %w", filepath.Base(order.Dir), err), conn.Close())
		if !errors.Is(err, unix.EPIPE) { // else somebody has killed it while it waited
			break
		}
	}
	return nil, err
}

// otherRuntime is the one that makes the container in our place, nil: we do.
func otherRuntime(r *container.Record) (*shim.Other, error) {
	name := r.Config.Runtime
	if name == "" {
		return nil, nil
	}
	path, err := exec.LookPath(name)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil, fmt.Errorf("--runtime %s: there is no such program on this host", name)
	}
	return &shim.Other{Path: path, Bundle: bundleDir(r), ID: r.Id}, nil
}

// setup is what all processes of a container need.
func (rt *Runtime) setup(s *specs.Spec, join cgroups.Join) (x Setup, err error) {
	x = NewSetup()
	x.Terminal, x.LastCap, x.User = s.Process.Terminal, rt.lastCap, Joins(s)
	x.Join(join)
	x.Filter, err = rt.filters.Compile(s.Linux.Seccomp)
	return x, err
}

// names are the calls of a program as a learner reads them, each once.
func names(p *launch.Program) string {
	var list []string
	for i := range p.Calls {
		if !slices.Contains(list, p.Calls[i].Name) {
			list = append(list, p.Calls[i].Name)
		}
	}
	return strings.Join(list, "; ")
}

// startError makes of a failed call what a person wants to know: 127 and 126 as a
// shell says them, else what couldn't be set up.
func startError(program string, err error) error {
	f, failed := errors.AsType[*launch.Failure](err)
	switch {
	case !failed && noShim(err): // the program may have begun
		return &container.StartError{Code: container.ExitUnknown, Text: err.Error()}
	case !failed:
		return otherError(program, err)
	case strings.HasPrefix(f.Call, executing) && (f.Errno == unix.ENOENT || f.Errno == unix.ENOTDIR):
		return &container.StartError{Code: 127, Text: fmt.Sprintf("%s: no such program in the container (or its interpreter is missing)", program)}
	case strings.HasPrefix(f.Call, executing):
		return &container.StartError{Code: 126, Text: fmt.Sprintf("%s: can't be executed: %v", program, f.Errno)}
	default:
		return &container.StartError{Code: 125, Text: fmt.Sprintf("%s: %v", f.Call, f.Errno)}
	}
}

// otherError reads another runtime's words, as engines do: they are all it says.
func otherError(program string, err error) error {
	text := strings.ToLower(err.Error())
	switch {
	case strings.Contains(text, "executable file not found") || strings.Contains(text, program) && strings.Contains(text, "no such file"):
		return &container.StartError{Code: 127, Text: fmt.Sprintf("%s: no such program in the container (%v)", program, err)}
	case strings.Contains(text, program) && strings.Contains(text, "permission denied"):
		return &container.StartError{Code: 126, Text: fmt.Sprintf("%s: can't be executed (%v)", program, err)}
	default:
		return err
	}
}

// listen makes the socket on which a shim hears later daemons.
func listen(dir string) (fd int, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("make the shim's socket: %w", err)
		}
	}()
	if err := forgetRun(dir, shim.ListenFile, shim.ExitFile); err != nil {
		return -1, err
	}
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	err = shim.Named(dir, shim.ListenFile, func(name string) error { return unix.Bind(fd, &unix.SockaddrUnix{Name: name}) })
	if err = errors.Join(err, unix.Listen(fd, 4)); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// forgetRun removes files that a run has left in the container's folder.
func forgetRun(dir string, names ...string) (err error) {
	for _, name := range names {
		if rerr := os.Remove(filepath.Join(dir, name)); !errors.Is(rerr, os.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}

// dial connects to the shim of a container that an earlier daemon started.
func dial(dir string) (*shim.Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	err = shim.Named(dir, shim.ListenFile, func(name string) error { return unix.Connect(fd, &unix.SockaddrUnix{Name: name}) })
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return shim.NewConn(fd)
}

// noShim reports that there is none, or one that has nothing to tell any more. Other
// failures are ours, and a container that runs must not pay for them.
func noShim(err error) bool {
	for _, e := range []error{unix.ENOENT, unix.ECONNREFUSED, unix.ECONNRESET, unix.EPIPE, io.EOF} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Adopt takes up a container whose shim still lives. Where it doesn't, what the
// run left in the kernel is removed, and the error tells how it ended, if the
// shim has written that down.
func (rt *Runtime) Adopt(ctx context.Context, r *container.Record) (container.Process, error) {
	group := rt.parent.Open(r.Id)
	conn, err := dial(r.Root)
	if err == nil {
		var p *process
		if p, err = rt.attach(r, group, conn); err == nil {
			return p, nil
		}
	}
	if !noShim(err) {
		return nil, fmt.Errorf("adopt container %s: %w", r.Id, err)
	}
	if err := group.End(); err != nil {
		return nil, err
	}
	if err := forgetRun(r.Root, shim.ListenFile); err != nil {
		return nil, err
	}
	gone := fmt.Errorf("container %s: %w", r.Id, container.ErrNotRunning)
	note, err := shim.ReadExit(r.Root)
	if errors.Is(err, os.ErrNotExist) {
		return nil, gone
	}
	if err != nil {
		return nil, errors.Join(gone, err)
	}
	forget := func() error { return os.Remove(filepath.Join(r.Root, shim.ExitFile)) }
	return nil, &container.EndedError{Exit: exitOf(note), At: note.At, Err: gone, Forget: forget}
}

func exitOf(note shim.ExitNote) container.Exit {
	exit := container.Exit{Code: note.Status.ExitStatus()}
	if note.Status.Signaled() {
		exit.Code = 128 + int(note.Status.Signal())
	}
	if note.Lost != "" {
		exit.Err = fmt.Errorf("output was lost: %s", note.Lost)
	}
	return exit
}
