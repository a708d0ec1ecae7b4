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

// Start makes the cgroup, writes the program and gives both to a shim.
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
	join, err := group.Join()
	if err != nil {
		return nil, err
	}
	defer join.Close()

	held, trees, err := HostTrees(s)
	if path := pidNamespacePath(s); err == nil && path != "" {
		var fd int
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		held = append(held, fd)
	}
	defer shim.CloseAll(held)
	if err != nil {
		return nil, err
	}
	var code []byte
	var files []int
	if other != nil {
		step.Set("runtime", other.Path)
	} else {
		var program *launch.Program
		if program, files, err = rt.program(r, s, join, held, trees); err != nil {
			return nil, err
		}
		code = program.Encode()
		if step.Listening() {
			step.Set("calls", names(program))
		}
	}
	listener, err := listen(r.Root)
	if err != nil {
		return nil, err
	}
	defer unix.Close(listener)
	conn, err := rt.shims.take()
	if err != nil {
		return nil, err
	}
	order := shim.StartOrder{Dir: r.Root, Stdin: r.Config.OpenStdin, Terminal: r.Config.Tty, Rows: size.Rows, Cols: size.Cols, IDs: IDs(s), Other: other}
	if err := conn.Send(shim.Start, order, code, append([]int{listener}, files...)...); err != nil {
		return nil, errors.Join(fmt.Errorf("start container %s: %w", r.Id, err), conn.Close())
	}
	step.End(nil)

	isolate := trace.Step(ctx, "runtime.isolate")
	p, err := rt.attach(r, group, conn)
	if err != nil {
		_, _ = os.Remove(filepath.Join(r.Root, shim.ListenFile)), os.Remove(filepath.Join(r.Root, shim.ExitFile))
		return nil, isolate.End(startError(r.Path, err))
	}
	isolate.Set("pid", p.pid)
	isolate.End(nil)
	return p, nil
}

// program is how we make the container ourselves, with its descriptors.
func (rt *Runtime) program(r *container.Record, s *specs.Spec, join cgroups.Join, held, trees []int) (*launch.Program, []int, error) {
	filter, err := rt.filters.Compile(s.Linux.Seccomp)
	if err != nil {
		return nil, nil, err
	}
	x, files := rt.setup(s, join, filter, held...)
	x.Rootfs, x.Files = r.Filesystem.RootFS, Files(s.Mounts)
	if pidNamespacePath(s) != "" {
		x.PidNS = x.Stdio[0] - 1 // the last that is held
	}
	for i, tree := range trees {
		if tree >= 0 {
			trees[i] = x.Stdio[0] - len(held) + tree
		}
	}
	x.Trees, x.User = trees, Joins(s)
	if x.User.Is && userNamespacePath(s) == "" {
		x.User.Ready, x.User.Nodes = x.afterStreams(), map[string]string{}
		for _, d := range r.Config.Devices {
			x.User.Nodes[d.Container] = d.Host
		}
	}
	program, err := Compile(s, x)
	return program, files, err
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

// setup collects the descriptors that go with a program. The shim appends the
// standard streams.
func (rt *Runtime) setup(s *specs.Spec, join cgroups.Join, filter []byte, more ...int) (x Setup, files []int) {
	x = NewSetup()
	x.Filter, x.Terminal, x.LastCap = filter, s.Process.Terminal, rt.lastCap
	for _, fd := range join.Tasks {
		x.Tasks = append(x.Tasks, len(files))
		files = append(files, fd)
	}
	if join.Into >= 0 {
		x.Into = len(files)
		files = append(files, join.Into)
	}
	files = append(files, more...)
	n := len(files)
	x.Stdio, x.Sync = [3]int{n, n + 1, n + 2}, [2]int{n, n + 1}
	return x, files
}

// afterStreams is the number of the first descriptor behind the standard streams.
func (x Setup) afterStreams() int {
	if x.Terminal {
		return x.Sync[1] + 1
	}
	return x.Stdio[2] + 1
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
	var f *launch.Failure
	switch {
	case !errors.As(err, &f) && noShim(err): // the program may have begun
		return &container.StartError{Code: container.ExitUnknown, Text: err.Error()}
	case !errors.As(err, &f):
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

// listen makes the socket on which a shim hears later daemons. Its name is looked
// up through the folder's descriptor: a unix socket's path has 107 bytes.
func listen(dir string) (fd int, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("make the shim's socket: %w", err)
		}
	}()
	folder, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(folder)
	path := fmt.Sprintf("/proc/self/fd/%d/%s", folder, shim.ListenFile)
	for _, name := range []string{shim.ListenFile, shim.ExitFile} { // of an earlier run
		if err := unix.Unlinkat(folder, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return -1, err
		}
	}
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 4)); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// dial connects to the shim of a container that an earlier daemon started.
func dial(dir string) (*shim.Conn, error) {
	folder, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(folder)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", folder, shim.ListenFile)}); err != nil {
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
	if err := os.Remove(filepath.Join(r.Root, shim.ListenFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
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
