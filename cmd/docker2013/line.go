package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The daemon's commands have the flags of Go's flag package: -m, -cpu-shares.
// A flag of ours goes out under its one letter if it has one, else under its
// name, unless it is marked.
const (
	markOurs = "ours" // never goes out
	markLong = "long" // goes out under its name
)

// mark marks flags of cmd.
func mark(cmd *cobra.Command, how string, names ...string) {
	for _, name := range names {
		if err := cmd.Flags().SetAnnotation(name, how, nil); err != nil {
			panic(err) // no such flag: a slip in this package
		}
	}
}

// daemonLine is the command line of 2013 for a command of ours: its name, the
// flags that were given, its arguments.
func daemonLine(cmd *cobra.Command, args []string) []string {
	line := []string{cmd.Name()}
	inherited := cmd.InheritedFlags()
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed && f.Name != "help" && !marked(f, markOurs) && inherited.Lookup(f.Name) == nil {
			line = append(line, daemonFlag(f)...)
		}
	})
	if len(args) > 0 && strings.HasPrefix(args[0], "-") {
		line = append(line, "--")
	}
	return append(line, args...)
}

func marked(f *pflag.Flag, how string) bool {
	_, ok := f.Annotations[how]
	return ok
}

// daemonFlag is one flag as arguments.
func daemonFlag(f *pflag.Flag) []string {
	name := "-" + f.Name
	if f.Shorthand != "" && !marked(f, markLong) {
		name = "-" + f.Shorthand
	}
	if f.Value.Type() == "bool" {
		if f.Value.String() == "true" {
			return []string{name}
		}
		return []string{name + "=" + f.Value.String()} // the only way to say false
	}
	if list, ok := f.Value.(pflag.SliceValue); ok {
		var line []string
		for _, value := range list.GetSlice() {
			line = append(line, name, value)
		}
		return line
	}
	return []string{name, f.Value.String()}
}
