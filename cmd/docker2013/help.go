package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// rootHelp is the page of `docker2013 --help`: the commands, most used first.
func rootHelp(root *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nUsage: docker2013 [FLAGS] COMMAND [ARG...]\n\n%s\n", root.Long, root.Example)
	for _, group := range root.Groups() {
		fmt.Fprintf(&b, "\n%s\n", group.Title)
		for _, cmd := range root.Commands() {
			if cmd.GroupID == group.ID {
				fmt.Fprintf(&b, "  %-11s %s\n", cmd.Name(), cmd.Short)
			}
		}
	}
	fmt.Fprintf(&b, "\nFlags of every command:\n%s\ndocker2013 COMMAND --help tells more.\n", root.PersistentFlags().FlagUsagesWrapped(columns))
	return b.String()
}

// columns are those of the terminal that all have.
const columns = 80

// usage is how a command is called: its flags, and of those that all have the names.
func usage(cmd *cobra.Command) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage:\n  %s\n", cmd.UseLine())
	if cmd.Example != "" {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", cmd.Example)
	}
	fmt.Fprintf(&b, "\nFlags:\n%s\nFlags of every command (docker2013 --help tells of them):\n ", cmd.LocalFlags().FlagUsagesWrapped(columns))
	cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) { fmt.Fprintf(&b, " --%s", f.Name) })
	_, err := fmt.Fprintln(cmd.OutOrStderr(), b.String())
	return err
}

// helpCommand is `help COMMAND`.
func helpCommand() *cobra.Command {
	cmd := newCommand(groupHere, "help [COMMAND]", "Tell more about a command", arity(0, 1))
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
		for _, c := range cmd.Root().Commands() {
			if len(args) == 0 && c.GroupID != "" {
				names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		about, _, err := cmd.Root().Find(args)
		if err != nil {
			return err
		}
		if len(args) > 0 && about == cmd.Root() {
			return unknownCommand(about, args)
		}
		about.InitDefaultHelpFlag()
		return about.Help()
	}
	return cmd
}
