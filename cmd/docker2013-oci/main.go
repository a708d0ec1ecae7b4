// Command docker2013-oci is an OCI runtime: the modern path's container maker, for
// podman, containerd and Docker. `docker2013 oci` is the same program. It stands
// alone because it links libseccomp; docker2013 itself needs no C.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"docker2013/native"
	"docker2013/native/oci"
)

// version is the runtime's.
const version = "0.1.0"

func main() {
	a := &app{}
	root := a.root()
	err := root.Execute()
	if err != nil {
		a.fail(err)
	}
	os.Exit(a.status)
}

// app is one run of the command line.
type app struct {
	dir, logFile, logFormat string
	debug, systemd          bool
	rootless                string

	log    *slog.Logger // nil: to stderr only
	status int
}

// fail tells an error where engines look for it.
func (a *app) fail(err error) {
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	if errors.Is(err, fs.ErrPermission) && inUserNamespace() {
		text += " (you are root of a user namespace only: a rootless engine takes runc or crun)"
	}
	fmt.Fprintf(os.Stderr, "docker2013-oci: %s\n", text)
	if a.log != nil {
		a.log.Error(text)
	}
	if a.status == 0 {
		a.status = 1
	}
}

// inUserNamespace tells that not all ids there are are ours.
func inUserNamespace() bool {
	ids, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && !slices.Equal(strings.Fields(string(ids)), []string{"0", "0", "4294967295"})
}

func (a *app) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if a.log != nil {
		a.log.Warn(text)
	} else {
		fmt.Fprintf(os.Stderr, "docker2013-oci: warning: %s\n", text)
	}
}

func (a *app) root() *cobra.Command {
	cobra.EnableCommandSorting = false
	root := &cobra.Command{
		Use:   "docker2013-oci",
		Short: "An OCI runtime on docker2013's modern path",
		Long: "An OCI runtime on docker2013's modern path, with runc's command line.\n\n" +
			"  podman --runtime $(which docker2013-oci) run …\n" +
			"  dockerd --add-runtime docker2013=$(which docker2013-oci)",
		Version:           version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: a.prepare,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetVersionTemplate(fmt.Sprintf("docker2013-oci version %s\nspec: %s\n", version, specs.Version))
	f := root.PersistentFlags()
	f.SortFlags = false
	f.StringVar(&a.dir, "root", "/run/docker2013-oci", "`folder` of the containers' state")
	f.StringVar(&a.logFile, "log", "", "write errors and warnings to a `file` too")
	f.StringVar(&a.logFormat, "log-format", "text", "`text`, or json, one object a line")
	f.BoolVar(&a.debug, "debug", false, "runc's; there is no more to tell")
	f.BoolVar(&a.systemd, "systemd-cgroup", false, "not built: cgroups are made without systemd")
	f.StringVar(&a.rootless, "rootless", "auto", "not built: `false` or auto, as root")
	root.AddCommand(a.createCommand(), a.startCommand(), a.stateCommand(), a.killCommand(), a.deleteCommand(), a.runCommand(), a.execCommand(),
		a.listCommand(), a.psCommand(), a.pauseCommand(), a.resumeCommand(), a.updateCommand(), a.specCommand(), a.featuresCommand())
	return root
}

// prepare runs before every command.
func (a *app) prepare(*cobra.Command, []string) error {
	if a.logFile != "" {
		f, err := os.OpenFile(a.logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			return fmt.Errorf("--log: %w", err)
		}
		options := &slog.HandlerOptions{ReplaceAttr: func(_ []string, attr slog.Attr) slog.Attr {
			if attr.Key == slog.LevelKey { // as engines read it
				attr.Value = slog.StringValue(strings.ToLower(attr.Value.String()))
			}
			return attr
		}}
		switch a.logFormat {
		case "json":
			a.log = slog.New(slog.NewJSONHandler(f, options))
		case "text", "":
			a.log = slog.New(slog.NewTextHandler(f, options))
		default:
			return fmt.Errorf("--log-format %s: say text or json", a.logFormat)
		}
	}
	if a.systemd {
		return errors.New("--systemd-cgroup is not built: have the engine use cgroupfs (podman --cgroup-manager=cgroupfs, dockerd --exec-opt native.cgroupdriver=cgroupfs)")
	}
	dir, err := filepath.Abs(a.dir)
	a.dir = dir
	return err
}

func (a *app) runtime() (*oci.Runtime, error) {
	if os.Geteuid() != 0 || a.rootless == "true" {
		return nil, errors.New("this runtime makes containers for root alone: as an ordinary user use docker2013 --rootless run, or runc or crun")
	}
	return oci.New(a.dir, a.warn)
}

// do makes a command of what is done with a container.
func (a *app) do(use, short string, f func(rt *oci.Runtime, id string, args []string) error, arity cobra.PositionalArgs) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: arity, DisableFlagsInUseLine: true, RunE: func(_ *cobra.Command, args []string) error {
		rt, err := a.runtime()
		if err != nil {
			return err
		}
		return f(rt, args[0], args[1:])
	}}
}

// seal goes on as a copy of this program in memory that nobody can write to: the
// new process is a copy of this one until it executes its own program, and one
// that executes /proc/self/exe would still be (CVE-2019-5736).
func seal() error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil || strings.HasPrefix(self, "/memfd:") {
		return err
	}
	f, err := native.Sealed("/proc/self/exe", "docker2013-oci")
	if err != nil {
		return fmt.Errorf("copy this program into memory: %w", err)
	}
	return unix.Exec(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.Args, os.Environ())
}

// startFlags are those of create, run and exec.
func startFlags(cmd *cobra.Command, o *oci.Starting) {
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.PidFile, "pid-file", "", "write the process's number to a `file`")
	f.StringVar(&o.ConsoleSocket, "console-socket", "", "send the terminal's master side to a unix `socket`")
	f.IntVar(&o.Preserve, "preserve-fds", 0, "descriptors from 3 on that the process gets: a `number`")
}

func bundleFlags(cmd *cobra.Command, o *oci.Starting, bundle *string) {
	f := cmd.Flags()
	f.StringVarP(bundle, "bundle", "b", ".", "the `folder` with config.json")
	startFlags(cmd, o)
	f.BoolVar(&o.NoPivot, "no-pivot", false, "move the root instead: for a host in its initramfs; the host's root stays below")
	f.BoolVar(&o.NoKeyring, "no-new-keyring", false, "the process keeps our session keyring")
}

// listenFDs passes on what systemd's socket activation gave us (sd_listen_fds(3)).
func listenFDs(o *oci.Starting) {
	if n, err := strconv.Atoi(os.Getenv("LISTEN_FDS")); err == nil && n > 0 {
		o.Preserve += n
	}
}

func (a *app) createCommand() *cobra.Command {
	var o oci.Starting
	var bundle string
	cmd := a.do("create [OPTIONS] ID", "Make a container of a bundle, that waits to be started", func(rt *oci.Runtime, id string, _ []string) error {
		if err := seal(); err != nil {
			return err
		}
		listenFDs(&o)
		_, err := rt.Create(id, bundle, o)
		return err
	}, cobra.ExactArgs(1))
	bundleFlags(cmd, &o, &bundle)
	return cmd
}

func (a *app) runCommand() *cobra.Command {
	var o oci.Starting
	var bundle string
	var detach, keep bool
	cmd := a.do("run [OPTIONS] ID", "Create and start a container, and wait for its end", func(rt *oci.Runtime, id string, _ []string) error {
		if err := seal(); err != nil {
			return err
		}
		listenFDs(&o)
		t := &terminal{}
		if !detach && o.ConsoleSocket == "" {
			o.Console = t.take
		}
		c, err := rt.Create(id, bundle, o)
		if err != nil {
			return err
		}
		if err := rt.Start(id); err != nil {
			return errors.Join(err, rt.Delete(id, true))
		}
		if detach {
			return nil
		}
		a.status = t.wait(c.Pid)
		if keep {
			return nil
		}
		return rt.Delete(id, true)
	}, cobra.ExactArgs(1))
	bundleFlags(cmd, &o, &bundle)
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "don't wait")
	cmd.Flags().BoolVar(&keep, "keep", false, "don't delete it at its end")
	return cmd
}

func (a *app) startCommand() *cobra.Command {
	return a.do("start ID", "Have a created container execute its program", func(rt *oci.Runtime, id string, _ []string) error {
		return rt.Start(id)
	}, cobra.ExactArgs(1))
}

func (a *app) stateCommand() *cobra.Command {
	return a.do("state ID", "Print a container's state, as JSON", func(rt *oci.Runtime, id string, _ []string) error {
		c, err := rt.Load(id)
		if err != nil {
			return err
		}
		return printJSON(c.State())
	}, cobra.ExactArgs(1))
}

func (a *app) killCommand() *cobra.Command {
	var all bool
	cmd := a.do("kill [-a] ID [SIGNAL]", "Send a signal, TERM by default, to a container's first process", func(rt *oci.Runtime, id string, args []string) error {
		name := "TERM"
		if len(args) > 0 {
			name = args[0]
		}
		sig, err := oci.ParseSignal(name)
		if err != nil {
			return err
		}
		return rt.Kill(id, sig, all)
	}, cobra.RangeArgs(1, 2))
	cmd.Flags().BoolVarP(&all, "all", "a", false, "to all its processes")
	return cmd
}

func (a *app) deleteCommand() *cobra.Command {
	var force bool
	cmd := a.do("delete [-f] ID", "Remove a container that has ended", func(rt *oci.Runtime, id string, _ []string) error {
		return rt.Delete(id, force)
	}, cobra.ExactArgs(1))
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill it first; no error if it isn't there")
	return cmd
}

func (a *app) pauseCommand() *cobra.Command {
	return a.do("pause ID", "Stop all processes of a container where they are", func(rt *oci.Runtime, id string, _ []string) error {
		return rt.Pause(id)
	}, cobra.ExactArgs(1))
}

func (a *app) resumeCommand() *cobra.Command {
	return a.do("resume ID", "Let a paused container go on", func(rt *oci.Runtime, id string, _ []string) error {
		return rt.Resume(id)
	}, cobra.ExactArgs(1))
}
