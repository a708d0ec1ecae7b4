package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"docker2013/cli2013"
)

// runCommand is `run`. The daemon has kept what it meant in January 2013: start,
// print the id, return. In the foreground is the default since March
// (docker@841c7ac0f9), and so it is here: -a goes out unless there is a -d.
func (a *app) runCommand() *cobra.Command {
	cmd := newCommand(groupRun, "run [OPTIONS] [IMAGE [COMMAND [ARG...]]]", "Run a command in a new container", nil)
	cmd.Long = "Run a command in a new container, and return its exit status.\n\n" +
		"On a terminal, the command gets a terminal too (-i -t). Without IMAGE it is\n" +
		"base, without COMMAND it is /bin/bash: interactive, or, off a terminal, with\n" +
		"its commands on standard input. What follows IMAGE is the command's."
	cmd.Example = "  docker2013 run base /bin/bash\n" +
		"  docker2013 run -d -m 64m --pids-limit 20 base /bin/sleep 60\n" +
		"  tar c . | docker2013 run -i base /bin/tar t"
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.BoolP("attach", "a", false, "stay in the foreground (the default)")
	f.BoolP("detach", "d", false, "print its id and leave it running")
	f.String("cidfile", "", "write the container's id to a new `file`")
	a.containerFlags(cmd)
	mark(cmd, markOurs, "detach", "cidfile")
	cmd.ValidArgsFunction = a.completion(images, 1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		call, err := a.runCall(cmd, args)
		if err != nil {
			return err
		}
		if file := f.Lookup("cidfile").Value.String(); file != "" {
			return a.makeWithID(cmd.Context(), call, file)
		}
		return a.make(cmd.Context(), call)
	}
	return cmd
}

// createCommand is `create`.
func (a *app) createCommand() *cobra.Command {
	cmd := newCommand(groupRun, "create [OPTIONS] IMAGE COMMAND [ARG...]", "Make a container that doesn't run yet", arity(2, -1))
	cmd.Example = "  docker2013 start -a $(docker2013 create base /bin/date)"
	cmd.Flags().SetInterspersed(false)
	a.containerFlags(cmd)
	cmd.ValidArgsFunction = a.completion(images, 1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := a.complete(cmd.Flags()); err != nil {
			return err
		}
		return a.make(cmd.Context(), cli2013.Call{Args: daemonLine(cmd, args)})
	}
	return cmd
}

// containerFlags are those of run and create: what the container will be.
func (a *app) containerFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolP("interactive", "i", false, "pass standard input on")
	f.BoolP("tty", "t", false, "give the command a terminal")
	f.StringP("comment", "c", "", "a `text` for ps")
	f.StringP("memory", "m", "", "memory limit: a `size` such as 512m or 1g")
	f.Uint64("cpu-shares", 0, "CPU `weight`; everybody's is 1024")
	f.String("cpus", "", "CPU limit: a `number` such as 1.5")
	f.String("cpuset-cpus", "", "the CPUs to use: a `list` such as 0-2,4")
	f.Int64("pids-limit", 0, "most processes and threads: a `number`")
	f.Uint64("blkio-weight", 0, "block I/O `weight`, 10 to 1000")
	f.StringArrayP("env", "e", nil, "set `KEY=VALUE` inside; may be repeated")
	f.StringP("hostname", "h", "", "the host's `name` inside (default: the container's id)")
	f.Bool("rm", false, "remove the container when it ends")
	f.String("name", "", "a second `name`, beside the id")
	f.StringArray("env-file", nil, "variables from a `file`, KEY=VALUE a line")
	f.Bool("init", false, "a small init is PID 1: it passes signals on, and reaps")
	f.String("restart", "", "start it again by this `policy`: on-failure[:N], always, unless-stopped")
	f.String("stop-signal", "", "the `signal` of stop (default TERM)")
	f.Int("stop-timeout", 0, "`seconds` between stop's signal and SIGKILL (default 10)")
	f.StringP("workdir", "w", "", "working `directory` inside")
	f.StringP("user", "u", "", "`user` and group, names or numbers: USER[:GROUP]")
	f.StringArray("group-add", nil, "a further `group`")
	f.StringArrayP("volume", "v", nil, "mount a file or folder of the host: `HOST:CONTAINER`[:ro]")
	f.StringArray("mount", nil, "a mount, by `key=value`: type=bind|tmpfs,src=…,dst=…[,readonly]")
	f.StringArray("tmpfs", nil, "an empty folder in memory: `PATH`[:size=64m,mode=1777]")
	f.Bool("read-only", false, "make the root file system read-only")
	f.String("entrypoint", "", "run this `program`, with COMMAND as its arguments")
	f.StringArray("cap-add", nil, "add a `capability`, or ALL")
	f.StringArray("cap-drop", nil, "drop a `capability`, or ALL")
	f.Bool("privileged", false, "all capabilities and devices, nothing masked, no filter")
	f.StringArray("security-opt", nil, "an `option`: no-new-privileges, seccomp=FILE or unconfined, apparmor=…, label=…")
	f.StringArray("device", nil, "a device of the host: `HOST`[:CONTAINER[:rwm]]")
	f.StringArray("ulimit", nil, "limit a resource: `NAME=SOFT`[:HARD]")
	f.StringArray("sysctl", nil, "a kernel parameter of the container's own: `KEY=VALUE`")
	f.Int("oom-score-adj", 0, "the OOM killer's preference: a `number` from -1000 to 1000")
	f.String("pid", "", "PID namespace: `host`, or container:ID")
	f.String("ipc", "", "IPC namespace: `host`, or container:ID")
	f.String("runtime", "", "have another OCI `runtime` make it: runc, crun, or a path")
	f.String("userns", "", "user namespace: `host`, or auto: root inside is nobody outside")
	f.StringArrayP("label", "l", nil, "a label: `KEY=VALUE`")
	f.StringArray("label-file", nil, "labels from a `file`, KEY=VALUE a line")
	f.String("memory-swap", "", "limit of memory and swap together: a `size`; -1: no limit of swap")
	f.StringArray("device-read-bps", nil, "bytes a second read from a device: `DEVICE:RATE`")
	f.StringArray("device-write-bps", nil, "bytes a second written to a device: `DEVICE:RATE`")
	f.StringArray("device-read-iops", nil, "reads a second from a device: `DEVICE:RATE`")
	f.StringArray("device-write-iops", nil, "writes a second to a device: `DEVICE:RATE`")
	f.String("lxc-keys", "", "write config.lxc in the keys of `today` or 2013")
	f.String("path", "", "`classic`, as in 2013, or modern ($DOCKER2013_PATH)")
	f.Bool("help", false, "help for "+cmd.Name()) // -h is the hostname's, as in Docker
	mark(cmd, markOurs, "env-file", "label-file")
	mark(cmd, markLong, "hostname")
	mustComplete(cmd, "lxc-keys", "today", "2013")
	mustComplete(cmd, "path", "classic", "modern")
	mustComplete(cmd, "userns", "host", "auto")
	mustComplete(cmd, "restart", "on-failure", "always", "unless-stopped")
}

// complete takes what the flags leave to files and to the environment.
func (a *app) complete(f *pflag.FlagSet) error {
	return errors.Join(a.setPath(f), absoluteVolumes(f), absoluteRuntime(f), readEnvFiles(f), readLabelFiles(f), a.setLabel(f), a.setTerm(f))
}

// makeWithID makes the container first, so that its id is known and in file before
// it runs.
func (a *app) makeWithID(ctx context.Context, call cli2013.Call, file string) error {
	out, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("run: --cidfile %s: it is there already: remove it, or say another", file)
	}
	if err != nil {
		return fmt.Errorf("run: --cidfile: %w", err)
	}
	args := []string{"create"}
	for _, arg := range call.Args[1:] { // but for the -a that says how to run it
		if arg != "-a" || len(args) > 1 {
			args = append(args, arg)
		}
	}
	var id strings.Builder
	err = a.make(ctx, cli2013.Call{Args: args, Stdout: &id})
	if err == nil && a.status == 0 {
		_, err = out.WriteString(strings.TrimSpace(id.String()))
	}
	if err = errors.Join(err, out.Close()); err != nil || a.status != 0 {
		return errors.Join(err, os.Remove(file))
	}
	start := []string{"start"}
	if call.Attached {
		start = append(start, "-a")
	}
	if call.Stdin != nil {
		start = append(start, "-i")
	}
	call.Args = append(start, strings.TrimSpace(id.String()))
	return a.make(ctx, call)
}

// runCall is the call of `run`: the flags, completed.
func (a *app) runCall(cmd *cobra.Command, args []string) (cli2013.Call, error) {
	f := cmd.Flags()
	if on(f, "detach") {
		switch {
		case on(f, "attach"):
			return cli2013.Call{}, errors.New("run: -a and -d exclude each other")
		case len(args) < 2: // the daemon would stay with its shell
			return cli2013.Call{}, errors.New("run: -d needs a COMMAND; a shell that nobody types into ends at once")
		}
		err := a.complete(f)
		return cli2013.Call{Args: daemonLine(cmd, args)}, err
	}
	set, terminal := []string{"attach"}, a.stdinIsTTY && a.stdoutIsTTY
	if len(args) < 2 && !terminal && !on(f, "tty") {
		// The daemon's default is a shell on a terminal, which only a ^D would end.
		args = append(slices.Clone(args), []string{"base", "/bin/bash"}[len(args):]...)
		set = append(set, "interactive")
	}
	for _, name := range []string{"interactive", "tty"} {
		// Without a command it is a shell, and the daemon has -i -t on.
		if !f.Changed(name) && (len(args) < 2 || terminal) {
			set = append(set, name)
		}
	}
	for _, name := range set {
		if err := f.Set(name, "true"); err != nil {
			return cli2013.Call{}, err
		}
	}
	if err := a.complete(f); err != nil {
		return cli2013.Call{}, err
	}
	call := cli2013.Call{Args: daemonLine(cmd, args), TTY: on(f, "tty"), Attached: true}
	if on(f, "interactive") {
		call.Stdin = a.client.Stdin
	}
	return call, nil
}

// setPath takes --path from the environment where it isn't given.
func (a *app) setPath(f *pflag.FlagSet) error {
	path := a.getenv("DOCKER2013_PATH")
	if a.global.rootless {
		path = "modern"
	}
	if path != "" && !f.Changed("path") {
		return f.Set("path", path)
	}
	return nil
}

// absoluteVolumes makes the host's paths of -v absolute: the daemon is elsewhere.
func absoluteVolumes(f *pflag.FlagSet) error {
	volumes := f.Lookup("volume").Value.(pflag.SliceValue)
	list := volumes.GetSlice()
	for i, v := range list {
		if host, rest, ok := strings.Cut(v, ":"); ok && strings.HasPrefix(host, ".") {
			abs, err := filepath.Abs(host)
			if err != nil {
				return fmt.Errorf("run: -v %s: %w", v, err)
			}
			list[i] = abs + ":" + rest
		}
	}
	return volumes.Replace(list)
}

// absoluteRuntime makes a path of --runtime absolute; a name the daemon looks for.
func absoluteRuntime(f *pflag.FlagSet) error {
	name := f.Lookup("runtime").Value.String()
	if !strings.Contains(name, "/") || filepath.IsAbs(name) {
		return nil
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		return fmt.Errorf("run: --runtime %s: %w", name, err)
	}
	return f.Set("runtime", abs)
}

// readEnvFiles puts the variables of --env-file before those of -e. A line KEY, and
// -e KEY too, is our own variable of that name.
func readEnvFiles(f *pflag.FlagSet) error {
	files, err := f.GetStringArray("env-file")
	if err != nil {
		return err
	}
	list, err := readLines("--env-file", files)
	if err != nil {
		return err
	}
	env := f.Lookup("env").Value.(pflag.SliceValue)
	list = append(list, env.GetSlice()...)
	known := list[:0]
	for _, kv := range list {
		if !strings.Contains(kv, "=") {
			value, ok := os.LookupEnv(kv)
			if !ok {
				continue
			}
			kv += "=" + value
		}
		known = append(known, kv)
	}
	if len(known) == 0 && !f.Changed("env") {
		return nil
	}
	f.Lookup("env").Changed = true
	return env.Replace(known)
}

// setLabel adds the label that a course or a script puts on all it makes.
func (a *app) setLabel(f *pflag.FlagSet) error {
	if label := a.getenv("DOCKER2013_LABEL"); label != "" {
		return f.Set("label", label)
	}
	return nil
}

// readLabelFiles puts the labels of --label-file before those of -l.
func readLabelFiles(f *pflag.FlagSet) error {
	files, err := f.GetStringArray("label-file")
	if err != nil || len(files) == 0 {
		return err
	}
	list, err := readLines("--label-file", files)
	if err != nil {
		return err
	}
	f.Lookup("label").Changed = true
	labels := f.Lookup("label").Value.(pflag.SliceValue)
	return labels.Replace(append(list, labels.GetSlice()...))
}

// readLines reads files of one setting a line, with remarks.
func readLines(flag string, files []string) (list []string, err error) {
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("run: %s: %w", flag, err)
		}
		for line := range strings.Lines(string(data)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				list = append(list, line)
			}
		}
	}
	return list, nil
}

// setTerm tells a command with a terminal which kind ours is.
func (a *app) setTerm(f *pflag.FlagSet) error {
	term := a.getenv("TERM")
	env, err := f.GetStringArray("env")
	given := slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "TERM=") })
	if err != nil || term == "" || given || !on(f, "tty") {
		return err
	}
	return f.Set("env", "TERM="+term)
}

// on reports whether a switch is on.
func on(f *pflag.FlagSet, name string) bool {
	flag := f.Lookup(name)
	return flag != nil && flag.Value.String() == "true"
}

// execCommand is `exec`, which Docker had from 2014 on.
func (a *app) execCommand() *cobra.Command {
	cmd := newCommand(groupRun, "exec [OPTIONS] CONTAINER COMMAND [ARG...]",
		"Run a further command in a running container", arity(2, -1))
	cmd.Example = "  docker2013 exec -i -t cefccf5b /bin/bash"
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.BoolP("interactive", "i", false, "pass standard input on")
	f.BoolP("tty", "t", false, "give the command a terminal")
	f.StringArrayP("env", "e", nil, "set `KEY=VALUE` inside; may be repeated")
	f.StringP("user", "u", "", "`user` and group, names or numbers: USER[:GROUP] (default: the container's)")
	f.StringP("workdir", "w", "", "working `directory` inside (default: the container's)")
	cmd.ValidArgsFunction = a.completion(running, 1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := a.setTerm(f); err != nil {
			return err
		}
		call := cli2013.Call{Args: daemonLine(cmd, args), TTY: on(f, "tty"), Attached: true}
		if on(f, "interactive") {
			call.Stdin = a.client.Stdin
		}
		return a.make(cmd.Context(), call)
	}
	return cmd
}
