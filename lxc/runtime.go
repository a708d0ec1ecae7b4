package lxc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"docker2013/container"
	"docker2013/trace"
)

// Runtime is container.Runtime on LXC.
type Runtime struct {
	lxcpath  string // the folder of the containers
	parent   string // our cgroup in every hierarchy
	cgroup   string // its folder in one of them
	program  string // lxc-start
	self     []string
	attacher readOnly // self's program
	host     cgroupHost
	monitor  *monitor
	log      *slog.Logger
	running  map[string]int // lxc-starts that an earlier daemon left, by container
}

var _ container.Runtime = (*Runtime)(nil)

// Options are what New needs.
type Options struct {
	Path   string   // the folder of the containers: lxc-start's -P
	Cgroup string   // the parent of the containers' cgroups, "docker2013"
	Self   []string // the command that runs AttachMain in a process of its own
	Log    *slog.Logger
}

// New makes the runtime. There can be one for each path.
func New(o Options) (*Runtime, error) {
	program, err := exec.LookPath("lxc-start")
	if err != nil {
		return nil, errors.New("lxc-start is not installed: apt-get install lxc")
	}
	if err := makeCgroups(o.Cgroup); err != nil {
		return nil, err
	}
	host, err := probeCgroups(o.Cgroup)
	if err != nil {
		return nil, err
	}
	dirs, err := inHierarchies(o.Cgroup)
	if err != nil {
		return nil, err
	}
	m, err := openMonitor(o.Path, o.Log)
	if err != nil {
		return nil, err
	}
	running, err := findMonitors(o.Path)
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	attacher, err := openReadOnly(o.Self[0])
	if err != nil {
		o.Log.Warn("a program inside a container can hold our own file, and write to it when we have ended", "err", err)
	}
	return &Runtime{attacher: attacher, lxcpath: o.Path, parent: o.Cgroup, cgroup: dirs[0], program: program, self: o.Self,
		host: host, monitor: m, log: o.Log, running: running}, nil
}

// Name is "lxc".
func (rt *Runtime) Name() string { return "lxc" }

// Close removes the pipe and the cgroups, where no container is in them.
func (rt *Runtime) Close() error {
	err := errors.Join(rt.monitor.Close(), rt.attacher.close(), removeCgroups(rt.parent))
	// LXC keeps a lock's folder for each path; ours are empty by now.
	for _, dir := range []string{fifoDir(rt.lxcpath), filepath.Join("/run/lxc/lock", rt.lxcpath)} {
		removeEmptyUpTo(dir, "/run/lxc")
	}
	return err
}

// removeEmptyUpTo removes dir and its parents below stop as long as they are empty.
func removeEmptyUpTo(dir, stop string) {
	for dir != stop && strings.HasPrefix(dir, stop) && os.Remove(dir) == nil {
		dir = filepath.Dir(dir)
	}
}

func configPath(r *container.Record) string { return filepath.Join(r.Root, "config.lxc") }
func logPath(r *container.Record) string    { return filepath.Join(r.Root, "lxc.log") }

// Check renders config.lxc, for nobody.
func (rt *Runtime) Check(r *container.Record) error {
	_, err := render(r, rt.host, rt.parent)
	return err
}

// Configure renders config.lxc.
func (rt *Runtime) Configure(ctx context.Context, r *container.Record) (err error) {
	step := trace.Step(ctx, "runtime.config", "config", configPath(r), "cgroup", fmt.Sprintf("v%d", rt.host.Version))
	defer func() { step.End(err) }()
	text, err := render(r, rt.host, rt.parent)
	if err != nil {
		return err
	}
	// Not state: it is made anew at every start.
	return os.WriteFile(configPath(r), []byte(text), 0o600)
}

// CgroupVersion is "v1" or "v2": where this host's controllers are.
func (rt *Runtime) CgroupVersion() string { return fmt.Sprintf("v%d", rt.host.Version) }
