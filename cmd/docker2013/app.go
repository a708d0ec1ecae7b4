package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"docker2013/cli2013"
	"docker2013/rcli"
)

// version is the client's.
const version = "0.1.0"

// app is one run of the command line.
type app struct {
	client                               cli2013.Client
	stdinIsTTY, stdoutIsTTY, stderrIsTTY bool
	getenv                               func(string) string

	// How calls are made: the client's Run and Output.
	call   func(context.Context, cli2013.Call) int
	output func(ctx context.Context, args ...string) (string, error)

	global globals
	status int // of the call that was made
}

// globals are the flags of every command.
type globals struct {
	host, wire, traceFormat string
	trace, rootless         bool
}

// defaultSocket is where the daemon on the default port listens too.
const defaultSocket = "/run/docker2013.sock"

// wire2013 is the --wire of January 2013.
const wire2013 = "2013"

func (g *globals) flags(fs *pflag.FlagSet, getenv func(string) string) {
	fs.StringVarP(&g.host, "host", "H", cmp.Or(getenv("DOCKER"), cli2013.DefaultAddr), "the daemon: `address`, unix:///PATH ($DOCKER)")
	fs.BoolVar(&g.rootless, "rootless", false, "a daemon of your own, without root; modern path")
	fs.BoolVar(&g.trace, "trace", false, "show every step, with its evidence, on stderr")
	fs.StringVar(&g.traceFormat, "trace-format", "text", "how: `text`, or json, one object a line")
	fs.StringVar(&g.wire, "wire", "framed", "`framed`, or 2013: what follows is sent raw, as it is")
}

// run runs one command line and returns the exit status.
func (a *app) run(ctx context.Context, args []string) int {
	g, line := a.beforeCommand(args)
	if g.wire == wire2013 {
		a.global = g
		if err := a.configure(); err != nil {
			return a.fail(err)
		}
		return a.client.Run2013(ctx, line)
	}
	root := a.root(line)
	root.SetArgs(spellings(args))
	root.SetOut(a.client.Stdout)
	root.SetErr(a.client.Stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		return a.fail(err)
	}
	return a.status
}

func (a *app) fail(err error) int {
	fmt.Fprintf(a.client.Stderr, "docker2013: %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
	return rcli.StatusOurs
}

// beforeCommand reads the flags before the command; line is the command and what
// follows, nothing where a flag is wrong: cobra tells of that. With `--wire 2013` the
// line is the call, as it was for the client of 2013, and not ours to parse.
func (a *app) beforeCommand(args []string) (g globals, line []string) {
	fs := pflag.NewFlagSet("docker2013", pflag.ContinueOnError)
	fs.SetInterspersed(false)
	fs.Usage = func() {}
	g.flags(fs, a.getenv)
	if err := fs.Parse(args); err != nil {
		return globals{}, nil
	}
	g.trace = g.trace || fs.Changed("trace-format")
	return g, fs.Args()
}

// spellings turns flags of 2013 that pflag would take for a row of one-letter
// flags into today's: ps -notrunc.
func spellings(args []string) []string {
	i := slices.Index(args, "-notrunc")
	if i < 0 || !slices.Contains(args[:i], "ps") || slices.ContainsFunc(args[:i], isOtherCommand) {
		return args
	}
	args = slices.Clone(args)
	args[i] = "--notrunc"
	return args
}

// isOtherCommand tells commands behind which "ps -notrunc" is the container's.
func isOtherCommand(arg string) bool { return arg == "run" || arg == "exec" }

// configure makes the client what the global flags say.
func (a *app) configure() error {
	g := a.global
	a.client.Addr = g.host
	if g.rootless {
		socket, err := rootlessDaemon(a.getenv)
		if err != nil {
			return err
		}
		a.client.Addr = rcli.UnixPrefix + socket
	} else if a.getenv("DOCKER2013_PATH") == "modern" && a.getenv("DOCKER") == "" && g.host == cli2013.DefaultAddr {
		// The modern path's own way: the kernel tells the daemon who calls.
		if fi, err := os.Stat(defaultSocket); err == nil && fi.Mode()&os.ModeSocket != 0 {
			a.client.Addr = rcli.UnixPrefix + defaultSocket
		}
	}
	a.client.Color = a.stderrIsTTY && a.getenv("NO_COLOR") == ""
	format := cli2013.TraceFormat(g.traceFormat)
	if format != cli2013.TraceText && format != cli2013.TraceJSON {
		return fmt.Errorf("--trace-format %s: say text or json", g.traceFormat)
	}
	if g.trace {
		a.client.Trace = format
	}
	return nil
}

// root is the command line, with all its commands or with the one that line asks for.
func (a *app) root(line []string) *cobra.Command {
	cobra.EnableCommandSorting = false
	root := &cobra.Command{
		Use:   "docker2013",
		Short: "Containers as Docker made them in January 2013",
		Long: "Containers as Docker made them in January 2013, on today's kernels.\n" +
			"The daemon, dockerd2013, does the work as root; a client asks it to.",
		Example: "  docker2013 pull base                         make the image base\n" +
			"  docker2013 run base /bin/bash                a shell in a new container\n" +
			"  docker2013 run --trace base /bin/true        every step of it, with evidence\n" +
			"  docker2013 --wire 2013 run -a base /bin/ls   as the client of 2013 did it",
		Version:                    version,
		Args:                       unknownCommand,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE:          a.prepare,
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		CompletionOptions:          cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	a.global.flags(root.PersistentFlags(), a.getenv)
	root.PersistentFlags().SortFlags = false
	root.Flags().SetInterspersed(false) // a command's flags are not for the root to judge
	root.Flags().Bool("version", false, "print the client's version")
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if cmd != root {
			help(cmd, args)
			return
		}
		fmt.Fprint(cmd.OutOrStdout(), rootHelp(root))
	})
	root.SetUsageFunc(usage)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())
	})
	mustComplete(root, "wire", "framed", wire2013)
	mustComplete(root, "trace-format", "text", "json")

	root.AddGroup(groups...)
	root.SetHelpCommand(helpCommand())
	for _, c := range a.asked(line) {
		root.AddCommand(c.make())
	}
	return root
}

// command is one that can be made: all fifty with their flags take as long as a call.
type command struct {
	name string
	make func() *cobra.Command
}

// commands are all, in the help's order.
func (a *app) commands() []command {
	list := []command{
		{"run", a.runCommand}, {"create", a.createCommand}, {"exec", a.execCommand}, {"start", a.startCommand},
		{"attach", a.attachCommand}, {"xray", a.xrayCommand}, {"compare", a.compareCommand}, {"put", a.putCommand},
		{"cp", a.copyCommand}, {"tar", a.tarCommand}, {"version", a.versionCommand}, {"doctor", a.doctorCommand},
		{"oci", ociCommand}, {"completion", completionCommand},
	}
	for _, c := range course {
		list = append(list, command{nameOf(c.use), func() *cobra.Command { return a.learnCommand(c.use, c.short) }})
	}
	for _, p := range plain {
		list = append(list, command{nameOf(p.use), func() *cobra.Command { return p.command(a) }})
	}
	return list
}

// nameOf is the command's name in a usage line.
func nameOf(use string) string {
	name, _, _ := strings.Cut(use, " ")
	return name
}

// asked is the command that line names, or all.
func (a *app) asked(line []string) []command {
	all := a.commands()
	if len(line) > 0 {
		if i := slices.IndexFunc(all, func(c command) bool { return c.name == line[0] }); i >= 0 {
			return all[i : i+1]
		}
	}
	return all
}

// prepare runs before every command.
func (a *app) prepare(cmd *cobra.Command, _ []string) error {
	a.global.trace = a.global.trace || cmd.Flags().Changed("trace-format")
	switch a.global.wire {
	case "framed":
		return a.configure()
	case wire2013:
		return errors.New("--wire 2013 stands before the command: what follows is sent as it is")
	default:
		return fmt.Errorf("--wire %s: say framed or 2013", a.global.wire)
	}
}

// make makes a call and keeps its exit status.
func (a *app) make(ctx context.Context, call cli2013.Call) error {
	a.status = a.call(ctx, call)
	return nil
}

// unknownCommand is what is wrong with arguments that no command took.
func unknownCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if like := root.SuggestionsFor(args[0]); len(like) > 0 {
		return fmt.Errorf("unknown command %q; did you mean %s? (see docker2013 --help)", args[0], strings.Join(like, " or "))
	}
	return fmt.Errorf("unknown command %q (see docker2013 --help)", args[0])
}

// arity checks that there are least to most arguments (most < 0: any number).
func arity(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return fmt.Errorf("%s: too few arguments; usage: %s", cmd.Name(), cmd.UseLine())
		case most >= 0 && len(args) > most:
			return fmt.Errorf("%s: too many arguments; usage: %s", cmd.Name(), cmd.UseLine())
		default:
			return nil
		}
	}
}
