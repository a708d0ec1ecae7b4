package dockerd2013

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"regexp"
	"strings"

	"docker2013/rcli"
)

// command is what the help tells of a Cmd* method.
type command struct{ name, signature, description string }

// commands are all there are; a test compares them with the methods. The
// signatures are those of 2013 where the command is.
var commands = []command{
	{"attach", "[OPTIONS] CONTAINER", "Watch a running container, and type into it"},
	{"cat", "[OPTIONS] CONTAINER PATH", "Write a file of a container to standard output"},
	{"commit", "[OPTIONS] CONTAINER DEST", "Make an image of what a container has changed"},
	{"cp", "[OPTIONS] IMAGE NAME | CONTAINER:/PATH - | - CONTAINER:/PATH", "Give an image's layers a second name, or copy files as a tar"},
	{"create", "[OPTIONS] IMAGE COMMAND [ARG...]", "Make a container that doesn't run yet"},
	{"debug", "[OPTIONS]", "Write standard input to the daemon's log"},
	{"diff", "CONTAINER [OPTIONS]", "List what a container has changed"},
	{"events", "[OPTIONS]", "Show what happens to containers, as it happens"},
	{"exec", "[OPTIONS] CONTAINER COMMAND [ARG...]", "Run a further program in a running container"},
	{"images", "[OPTIONS] [NAME]", "List images"},
	{"info", "[OPTIONS]", "Say what this daemon has, and stands on"},
	{"inspect", "[OPTIONS] NAME [NAME...]", "Show all that is known of a container or an image"},
	{"kill", "[OPTIONS] CONTAINER [CONTAINER...]", "Send a signal to a running container, SIGKILL unless told otherwise"},
	{"layers", "[OPTIONS]", "List the layers' directories"},
	{"logs", "[OPTIONS] CONTAINER", "Show what a container has written"},
	{"ls", "[OPTIONS] CONTAINER PATH", "List a directory of a container"},
	{"mirror", "[OPTIONS]", "Send standard input back"},
	{"mount", "[OPTIONS] CONTAINER [CONTAINER...]", "Mount a container's file system by hand"},
	{"pause", "[OPTIONS] CONTAINER [CONTAINER...]", "Stop all processes of a container where they are"},
	{"ps", "[OPTIONS]", "List containers"},
	{"pull", "[OPTIONS] URL", "Download a tar and make an image of it; `base` is made on the spot"},
	{"put", "[OPTIONS] NAME", "Make an image of the tar on standard input"},
	{"rename", "[OPTIONS] CONTAINER NAME", "Give a container another name"},
	{"reset", "CONTAINER [OPTIONS]", "Throw away what a container has changed"},
	{"restart", "[OPTIONS] CONTAINER [CONTAINER...]", "Stop containers and start them again"},
	{"rm", "[OPTIONS] CONTAINER [CONTAINER...]", "Remove containers"},
	{"rmi", "[OPTIONS] IMAGE [IMAGE...]", "Remove images, and the layers that nobody else uses"},
	{"run", "[OPTIONS] IMAGE COMMAND [ARG...]", "Run a command in a new container"},
	{"start", "[OPTIONS] CONTAINER [CONTAINER...]", "Run a container again, on what it has changed before"},
	{"stats", "[OPTIONS] [CONTAINER...]", "Show what running containers use"},
	{"stop", "[OPTIONS] CONTAINER [CONTAINER...]", "Ask containers to end, and kill them if they don't"},
	{"tar", "[OPTIONS] CONTAINER", "Write a container's whole file system as a tar"},
	{"top", "[OPTIONS] CONTAINER", "List the processes of a container"},
	{"umount", "[OPTIONS] CONTAINER [CONTAINER...]", "Unmount what `mount` has mounted"},
	{"unpause", "[OPTIONS] CONTAINER [CONTAINER...]", "Let a paused container go on"},
	{"update", "[OPTIONS] CONTAINER [CONTAINER...]", "Change limits, of running containers too"},
	{"version", "[OPTIONS]", "Show versions"},
	{"wait", "[OPTIONS] CONTAINER [CONTAINER...]", "Wait until containers end and print their exit codes"},
	{"web", "[OPTIONS]", "Write the web page"},
	{"write", "[OPTIONS] CONTAINER PATH", "Write standard input to a file of a container"},
}

// Help is the list of commands (docker@bba4e36807:dockerd/dockerd.go:58).
func (d *Daemon) Help() string {
	var b strings.Builder
	b.WriteString("Usage: docker COMMAND [arg...]\n\nContainers, as in January 2013.\n\nCommands:\n")
	for _, c := range commands {
		fmt.Fprintf(&b, "    %-10s%s\n", c.name, c.description)
	}
	return b.String()
}

// flagSet is a command's flags, which write into a buffer until it is known
// where usage belongs.
type flagSet struct {
	*flag.FlagSet
	call *rcli.Call
	out  bytes.Buffer
}

// flags begins a command's flags. Its usage is that of 2013
// (docker@bba4e36807:rcli/types.go:75).
func flags(c *rcli.Call, name string) *flagSet {
	f := &flagSet{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError), call: c}
	f.SetOutput(&f.out)
	f.Usage = func() {
		for _, cmd := range commands {
			if cmd.name == name {
				fmt.Fprintf(&f.out, "\nUsage: docker %s %s\n\n%s\n\n", name, cmd.signature, cmd.description)
			}
		}
		f.PrintDefaults()
	}
	return f
}

// badValue is how package flag says that a value is wrong: the value, the flag, why.
var badValue = regexp.MustCompile(`^invalid (?:boolean )?value "(.*)" for (?:flag )?-(\S+): (.*)$`)

// parse parses the call's arguments; least and most are how many may be left
// (most < 0: any number). Its error is the command's whole answer.
//
// In 2013 a wrong flag or a missing argument printed the usage and was no error.
// On the raw wire that is still so; framed, the exit status is 125, and a value that
// is wrong is said in a line.
func (f *flagSet) parse(least, most int) error {
	err := f.Parse(f.call.Args)
	if err == nil {
		if f.NArg() >= least && (most < 0 || f.NArg() <= most) {
			return nil
		}
		return f.usage()
	}
	if bad := badValue.FindStringSubmatch(err.Error()); f.call.Framed && bad != nil {
		dashes := "--"
		if len(bad[2]) == 1 {
			dashes = "-"
		}
		return rcli.Exitf(rcli.StatusOurs, "%s: %s%s %s: %s", f.Name(), dashes, bad[2], bad[1], bad[3])
	}
	out := f.call.Stdout
	if !errors.Is(err, flag.ErrHelp) {
		out = f.call.Stderr
	}
	if _, werr := f.out.WriteTo(out); werr != nil {
		return werr
	}
	if errors.Is(err, flag.ErrHelp) {
		return &rcli.Exit{}
	}
	return &rcli.Exit{Code: rcli.StatusOurs}
}

// usage answers with the usage, as a mistake.
func (f *flagSet) usage() error {
	f.Usage()
	if _, err := f.out.WriteTo(f.call.Stderr); err != nil {
		return err
	}
	return &rcli.Exit{Code: rcli.StatusOurs}
}
