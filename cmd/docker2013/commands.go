package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"docker2013/cli2013"
)

// The groups of the help.
const (
	groupRun    = "run"
	groupLook   = "look"
	groupImages = "images"
	groupFiles  = "files"
	groupDaemon = "daemon"
	groupLearn  = "learn"
	groupHere   = "here"
)

var groups = []*cobra.Group{
	{ID: groupRun, Title: "Run containers:"},
	{ID: groupLook, Title: "Look at them:"},
	{ID: groupImages, Title: "Images:"},
	{ID: groupFiles, Title: "A container's files:"},
	{ID: groupDaemon, Title: "The daemon:"},
	{ID: groupLearn, Title: "Learn:"},
	{ID: groupHere, Title: "This program:"},
}

// plainCommand is a command that goes to the daemon as it is typed.
type plainCommand struct {
	group, use, short string
	least, most       int // arguments; most -1: any number
	complete          completer
	flags             func(*pflag.FlagSet)
	example           string
	stdin             bool // it reads standard input
	progress          bool // it may take long
}

var plain = []plainCommand{
	{groupRun, "stop [-t SECONDS] CONTAINER...", "Ask containers to end; kill them if they don't", 1, -1, running, func(f *pflag.FlagSet) {
		f.IntP("time", "t", -1, "`seconds` before SIGKILL (default: the container's, or 10)")
	}, "", false, false},
	{groupRun, "restart [-t SECONDS] CONTAINER...", "Stop containers and start them again", 1, -1, containers, func(f *pflag.FlagSet) {
		f.IntP("time", "t", -1, "`seconds` before SIGKILL (default: the container's, or 10)")
	}, "", false, false},
	{groupRun, "update [OPTIONS] CONTAINER...", "Change limits, of running containers too", 1, -1, containers, func(f *pflag.FlagSet) {
		f.StringP("memory", "m", "", "memory limit: a `size` such as 512m or 1g")
		f.String("memory-swap", "", "limit of memory and swap together: a `size`; -1: no limit of swap")
		f.Uint64("cpu-shares", 0, "CPU `weight`; everybody's is 1024")
		f.String("cpus", "", "CPU limit: a `number` such as 1.5")
		f.String("cpuset-cpus", "", "the CPUs to use: a `list` such as 0-2,4")
		f.Int64("pids-limit", 0, "most processes and threads: a `number`")
		f.Uint64("blkio-weight", 0, "block I/O `weight`, 10 to 1000")
		f.String("restart", "", "start it again by this `policy`: no, on-failure[:N], always, unless-stopped")
	}, "  docker2013 update -m 64m cefccf5b", false, false},
	{groupRun, "rename CONTAINER NAME", "Give a container another name", 2, 2, containers, nil, "", false, false},
	{groupRun, "kill [-s SIGNAL] CONTAINER...", "Send a signal to containers", 1, -1, running, func(f *pflag.FlagSet) {
		f.StringP("signal", "s", "KILL", "the `signal`, by name or number")
	}, "  docker2013 kill -s HUP cefccf5b", false, false},
	{groupRun, "wait CONTAINER...", "Wait for containers and print their exit codes", 1, -1, running, nil, "", false, false},
	{groupRun, "pause CONTAINER...", "Stop all processes of containers where they are", 1, -1, running, nil, "", false, false},
	{groupRun, "unpause CONTAINER...", "Let paused containers go on", 1, -1, running, nil, "", false, false},
	{groupRun, "rm CONTAINER...", "Remove containers, after stopping them", 1, -1, containers, nil, "", false, false},

	{groupLook, "ps", "List containers", 0, 0, nil, func(f *pflag.FlagSet) {
		f.BoolP("all", "a", false, "those that have ended too")
		f.BoolP("quiet", "q", false, "ids only")
		f.Bool("notrunc", false, "whole commands")
		f.String("format", "", "each with this Go `template`, or as json")
		f.StringArray("filter", nil, "those with this `key=value`: name, id, status, label, path, ancestor")
	}, "", false, false},
	{groupLook, "logs [-f] CONTAINER", "Show what a container has written", 1, 1, containers, func(f *pflag.FlagSet) {
		f.BoolP("follow", "f", false, "go on until it ends")
	}, "", false, false},
	{groupLook, "inspect [-f TEMPLATE] NAME...", "Show all that is known of containers or images", 1, -1, containersAndImages, func(f *pflag.FlagSet) {
		f.StringP("format", "f", "", "each with this Go `template`, or as json")
	}, "  docker2013 inspect -f '{{.State.Pid}}' cefccf5b", false, false},
	{groupLook, "diff CONTAINER", "List what a container has changed in its image", 1, 1, containers, nil, "", false, false},
	{groupLook, "events", "Show what happens to containers, as it happens", 0, 0, nil, func(f *pflag.FlagSet) {
		f.String("format", "", "each with this Go `template`, or as json")
		f.StringArray("filter", nil, "those with this `key=value`: event, container")
	}, "", false, false},
	{groupLook, "top CONTAINER", "List a container's processes", 1, 1, running, nil, "", false, false},
	{groupLook, "stats [CONTAINER...]", "Show what running containers use", 0, -1, running, func(f *pflag.FlagSet) {
		f.Bool("no-stream", false, "once, not again and again")
	}, "", false, false},

	{groupImages, "images [NAME]", "List images", 0, 1, images, func(f *pflag.FlagSet) {
		f.IntP("last", "l", 0, "the newest `N` of each name only")
		f.BoolP("quiet", "q", false, "ids only")
		f.String("format", "", "each with this Go `template`, or as json")
	}, "", false, false},
	{groupImages, "pull URL|base", "Make an image of a tar on the web; base: of this host's programs", 1, 1, madeHere, nil,
		"  docker2013 pull base\n  docker2013 pull http://example.com/root.tar.gz", false, true},
	{groupImages, "commit CONTAINER DEST", "Make an image of what a container has changed", 2, 2, containers, nil, "", false, true},
	{groupImages, "rmi IMAGE...", "Remove images", 1, -1, images, nil, "", false, false},
	{groupImages, "layers", "List the layers' directories", 0, 0, nil, nil, "", false, false},

	{groupFiles, "ls CONTAINER PATH", "List a directory", 2, 2, containers, nil, "", false, false},
	{groupFiles, "cat CONTAINER PATH", "Print a file", 2, 2, containers, nil, "", false, false},
	{groupFiles, "write CONTAINER PATH", "Write standard input to a file", 2, 2, containers, nil,
		"  echo hello | docker2013 write cefccf5b /etc/motd", true, false},
	{groupFiles, "mount CONTAINER...", "Mount the file system by hand", 1, -1, containers, nil, "", false, false},
	{groupFiles, "umount CONTAINER...", "Unmount it again", 1, -1, containers, nil, "", false, false},
	{groupFiles, "reset CONTAINER...", "Throw away what was changed", 1, -1, containers, nil, "", false, false},

	{groupDaemon, "info", "Count containers and images, and say what the daemon stands on", 0, 0, nil, func(f *pflag.FlagSet) {
		f.String("format", "", "with this Go `template`, or as json")
	}, "", false, false},
	{groupDaemon, "web", "Print the daemon's web page, or its address", 0, 0, nil, func(f *pflag.FlagSet) {
		f.BoolP("url", "u", false, "the address")
	}, "", false, false},
	{groupDaemon, "mirror", "Send standard input to the daemon and back", 0, 0, nil, nil, "", true, false},
	{groupDaemon, "debug", "Write standard input to the daemon's log", 0, 0, nil, nil, "", true, false},
}

func (p plainCommand) command(a *app) *cobra.Command {
	cmd := newCommand(p.group, p.use, p.short, arity(p.least, p.most))
	cmd.Example = p.example
	cmd.ValidArgsFunction = a.completion(p.complete, p.most)
	if p.flags != nil {
		p.flags(cmd.Flags())
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		call := cli2013.Call{Args: daemonLine(cmd, args), Progress: p.progress && a.stderrIsTTY}
		if p.stdin {
			call.Stdin = a.client.Stdin
		}
		return a.make(cmd.Context(), call)
	}
	return cmd
}

// newCommand is what all commands have in common.
func newCommand(group, use, short string, args cobra.PositionalArgs) *cobra.Command {
	cmd := &cobra.Command{GroupID: group, Use: use, Short: short, Args: args, DisableFlagsInUseLine: true}
	cmd.Flags().SortFlags = false // in the order of importance
	return cmd
}
