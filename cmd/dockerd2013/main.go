// Command dockerd2013 is the daemon: Docker as it was in January 2013, on
// today's kernel. It needs root, LXC and a union file system; `docker2013
// doctor` says what is missing.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/docker/go-units"
	golxc "github.com/lxc/go-lxc"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"docker2013/aufs"
	"docker2013/container"
	"docker2013/dockerd2013"
	"docker2013/evidence"
	"docker2013/images"
	"docker2013/lxc"
	"docker2013/native"
	"docker2013/overlay"
	"docker2013/trace"
)

// attachCommand, as the first argument, makes this program the process that
// enters a container for `exec`.
const attachCommand = "attach-for-exec"

// defaultTCP is where Docker listened in January 2013, on all addresses then.
const defaultTCP = "127.0.0.1:4242"

// cgroup is the parent of all containers' cgroups.
const cgroup = "docker2013"

type options struct {
	root, tcp, http, union, logLevel, pidFile, cgroup, shim, aufs, socket string
	insecureRemote, cleanup, rootless                                     bool
	maxLayer, usernsRange                                                 string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == attachCommand {
		lxc.AttachMain()
	}
	if len(os.Args) > 1 && os.Args[1] == rootlessWait {
		fatal(rootlessInside(os.Args[2:]))
	}
	if len(os.Args) == 3 && os.Args[1] == dockerd2013.InsideCommand {
		dockerd2013.InsideMain(os.Args[2])
	}
	if err := command().Execute(); err != nil {
		fatal(err)
	}
}

func fatal(err error) {
	fmt.Fprintf(os.Stderr, "dockerd2013: %v\n", err)
	os.Exit(1)
}

func command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:           "dockerd2013",
		Short:         "The daemon: Docker as it was in January 2013, on today's kernel",
		Version:       dockerd2013.Version,
		Args:          onlyFlags,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !o.rootless {
				return run(cmd.Context(), o)
			}
			if !isInside() {
				return rootlessOutside()
			}
			if !cmd.Flags().Changed("root") {
				var err error
				if o.root, err = rootlessRoot(); err != nil {
					return err
				}
			}
			return run(cmd.Context(), o)
		},
	}
	cmd.SetUsageTemplate(strings.ReplaceAll(cmd.UsageTemplate(), ".FlagUsages", ".FlagUsagesWrapped 80"))
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w (see dockerd2013 --help)", err) })
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.root, "root", "/var/lib/docker", "data `directory`")
	f.StringVar(&o.tcp, "tcp", defaultTCP, "`address` for calls")
	f.StringVar(&o.socket, "socket", "auto", "unix socket for calls, root's only: a `path`; auto: "+dockerd2013.DefaultSocket+" with the default --tcp")
	f.StringVar(&o.http, "http", "127.0.0.1:8080", "`address` for calls by HTTP, and for the page")
	f.StringVar(&o.union, "union", "auto", "union `filesystem` of --path classic: auto, aufs, aufs-fuse or overlay")
	f.StringVar(&o.logLevel, "log-level", "info", "`level` of the log: debug, info, warn or error")
	f.StringVar(&o.pidFile, "pidfile", "", "write our PID to a `file`")
	f.StringVar(&o.cgroup, "cgroup-parent", cgroup, "`name` of the containers' parent cgroup; each daemon has its own")
	f.StringVar(&o.maxLayer, "max-layer-size", "", "refuse a layer that unpacks to more than this `size`: 512m, 20g")
	f.StringVar(&o.usernsRange, "userns-range", "1879048192:268435456", "user and group `ids` of the host, FIRST:COUNT, for containers with --userns auto, 65536 each")
	f.StringVar(&o.shim, "shim", beside("docker2013-shim"), "the `program` docker2013-shim, for --path modern")
	f.StringVar(&o.aufs, "aufs", beside("docker2013-aufs"), "the `program` docker2013-aufs, for --union aufs-fuse")
	f.BoolVar(&o.insecureRemote, "insecure-remote", false, "listen on addresses that others can reach: whoever does is root here")
	f.BoolVar(&o.rootless, "rootless", false, "for an ordinary user: the modern path without cgroups, below ~/.local/share/docker2013, on a socket there")
	f.BoolVar(&o.cleanup, "cleanup", false, "stop and clean up what a dead daemon left below --root, and exit")
	return cmd
}

// onlyFlags tells who meant the client.
func onlyFlags(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s: the daemon takes flags only (see dockerd2013 --help); commands are the client's: docker2013 %[1]s", args[0])
	}
	return nil
}

// run is the daemon's life.
func run(ctx context.Context, o options) (err error) {
	log, err := newLogger(o.logLevel)
	if err != nil {
		return err
	}
	if err := needRoot(); err != nil {
		return err
	}
	// What our starter left open, lxc-start would leave open to the container.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		log.Warn("files that the daemon was started with stay open in containers", "err", err)
	}
	// Containers' roots are for everybody, and lxc-start leaves its mask to the container.
	unix.Umask(0o022)
	// What it had us ignore, as nohup(1) does, a container would ignore too. We still do.
	if signal.Ignored(syscall.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	root, err := dockerd2013.OpenRoot(o.root)
	if err != nil {
		return err
	}
	defer closing(&err, root.Close)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	daemon, err := build(ctx, root.Dir, o, log)
	if err != nil {
		return err
	}
	defer closing(&err, daemon.Close)
	if o.cleanup {
		return nil // finding it was the start's part, ending it is Close's
	}
	web, calls, err := listen(ctx, o, root.Dir, log)
	if err != nil {
		return err
	}
	defer func() {
		for _, l := range append(calls, web) {
			_ = l.Close() // Run has closed it, unless it never ran
		}
	}()
	daemon.HTTP = web.Addr().String()
	if o.pidFile != "" {
		if err := os.WriteFile(o.pidFile, fmt.Appendln(nil, os.Getpid()), 0o644); err != nil {
			return fmt.Errorf("write PID file: %w", err)
		}
		defer os.Remove(o.pidFile)
	}
	log.Info("ready", calls[0].Addr().Network(), calls[0].Addr().String(), "http", daemon.HTTP, "root", root.Dir)
	daemon.Containers.StartWanted(ctx)
	err = daemon.Run(ctx, web, calls...)
	log.Info("stopping: ending all containers", "grace", dockerd2013.Grace.String())
	return err
}

// listen opens what the daemon is called by, and the page's port.
func listen(ctx context.Context, o options, root string, log *slog.Logger) (web net.Listener, calls []net.Listener, err error) {
	if o.rootless {
		return rootlessListen(root, log)
	}
	defer func() {
		if err != nil {
			for _, l := range calls {
				err = errors.Join(err, l.Close())
			}
		}
	}()
	tcp, err := dockerd2013.Listen(ctx, o.tcp, o.insecureRemote)
	if err != nil {
		return nil, nil, err
	}
	calls = append(calls, tcp)
	if o.socket == "auto" && o.tcp == defaultTCP {
		o.socket = dockerd2013.DefaultSocket
	}
	if o.socket != "" && o.socket != "auto" {
		socket, err := dockerd2013.ListenSocket(o.socket, log)
		if err != nil {
			return nil, calls, err
		}
		calls = append(calls, socket)
	}
	if o.insecureRemote {
		log.Warn("--insecure-remote: there is no password and no encryption; whoever reaches these ports is root on this host", "tcp", o.tcp, "http", o.http)
	}
	web, err = dockerd2013.Listen(ctx, o.http, o.insecureRemote)
	return web, calls, err
}

// build wires the rooms together.
func build(ctx context.Context, root string, o options, log *slog.Logger) (*dockerd2013.Daemon, error) {
	limit, err := layerLimit(o.maxLayer)
	if err != nil {
		return nil, err
	}
	ids, err := container.ParseIDs(o.usernsRange)
	if err != nil {
		return nil, fmt.Errorf("--userns-range %w", err)
	}
	if o.rootless {
		if ids, err = ownIDs(); err != nil {
			return nil, err
		}
	}
	store, err := images.Open(filepath.Join(root, "images"), images.Options{MaxLayerBytes: limit})
	if err != nil {
		return nil, err
	}
	if o.rootless {
		o.union = overlay.Name // the modern path's
	}
	union, err := chooseUnion(o, root, log)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	containersDir := filepath.Join(root, "containers")
	engines := map[string]container.Engine{}
	var known []dockerd2013.Fact
	if !o.rootless { // LXC wants cgroups
		rt, err := lxc.New(lxc.Options{Path: containersDir, Cgroup: o.cgroup, Self: []string{self, attachCommand}, Log: log})
		if err != nil {
			return nil, err
		}
		engines[container.Classic], known = container.Engine{Union: union, Runtime: rt}, facts(rt)
	}
	recorder := &trace.Recorder{}
	evidence.Register(recorder)
	var containers *container.Store
	if modern, err := modernPath(root, union, o, log, func(id string) (int, error) { return firstPid(containers, id) }); err != nil {
		log.Warn("no modern path: `run --path modern` will be refused", "why", err)
	} else {
		engines[container.Modern] = modern
	}
	containers, err = container.Open(ctx, containersDir, container.Options{
		Engines: engines, Log: log, IDs: ids,
		Layer: store.LayerPath,
	})
	if err != nil {
		for _, e := range engines {
			err = errors.Join(err, e.Runtime.Close())
		}
		return nil, err
	}
	return &dockerd2013.Daemon{
		Images: store, Containers: containers, Engines: engines, Recorder: recorder, Log: log,
		Root: root, Init: o.shim, Facts: known,
	}, nil
}

// modernPath is overlayfs and our own runtime.
func modernPath(root string, union container.Union, o options, log *slog.Logger, pid func(string) (int, error)) (container.Engine, error) {
	if union.Name() != overlay.Name {
		var err error
		if union, err = overlay.New(filepath.Join(root, "overlay")); err != nil {
			return container.Engine{}, err
		}
	}
	rt, err := native.New(native.Options{Root: filepath.Join(root, "containers"), Cgroup: o.cgroup, Shim: o.shim, NoCgroups: o.rootless, Pid: pid, Log: log})
	if err != nil {
		return container.Engine{}, err
	}
	return container.Engine{Union: union, Runtime: rt}, nil
}

// firstPid is the first process of a running container.
func firstPid(containers *container.Store, id string) (int, error) {
	c := containers.Get(id)
	if c == nil {
		return 0, fmt.Errorf("no such container: %s", id)
	}
	if pid := c.Record().State.Pid; pid != 0 {
		return pid, nil
	}
	return 0, container.ErrNotRunning
}

// beside is where the set-up puts our other programs: beside the daemon.
func beside(program string) string {
	self, err := os.Executable()
	if err != nil {
		return program
	}
	return filepath.Join(filepath.Dir(self), program)
}

// chooseUnion takes AUFS where the kernel has it, else AUFS in user space, else
// overlayfs.
func chooseUnion(o options, root string, log *slog.Logger) (container.Union, error) {
	switch o.union {
	case aufs.Name:
		return aufs.New()
	case aufs.FuseName:
		return aufs.NewFuse(o.aufs, log)
	case overlay.Name:
		return overlay.New(filepath.Join(root, "overlay"))
	case "auto":
		if u, err := aufs.New(); err == nil {
			return u, nil
		}
		u, err := aufs.NewFuse(o.aufs, log)
		if err == nil {
			return u, nil
		}
		log.Warn("overlayfs stands in for AUFS: a container's rw/ has its marks", "why", err)
		return overlay.New(filepath.Join(root, "overlay"))
	default:
		return nil, fmt.Errorf("--union %s: say auto, aufs, aufs-fuse or overlay", o.union)
	}
}

// facts are what `info` tells of the host.
func facts(rt *lxc.Runtime) []dockerd2013.Fact {
	var u unix.Utsname
	release := "unknown"
	if unix.Uname(&u) == nil {
		release = unix.ByteSliceToString(u.Release[:])
	}
	return []dockerd2013.Fact{
		{Name: "lxc", Value: golxc.Version()},
		{Name: "cgroups", Value: rt.CgroupVersion()},
		{Name: "kernel", Value: release},
		{Name: "go", Value: runtime.Version()},
		{Name: "pid", Value: strconv.Itoa(os.Getpid())},
	}
}

func newLogger(level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(strings.ToUpper(level))); err != nil {
		return nil, fmt.Errorf("--log-level %s: say debug, info, warn or error", level)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: l})), nil
}

func needRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("containers are made by root: run it with sudo")
	}
	return nil
}

// closing closes something at the end and keeps its error beside the first one.
func closing(err *error, close func() error) { *err = errors.Join(*err, close()) }

func layerLimit(size string) (int64, error) {
	if size == "" {
		return 0, nil
	}
	n, err := units.RAMInBytes(size)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("--max-layer-size %s: say a size such as 512m or 20g", size)
	}
	return n, nil
}
