package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"docker2013/chapters"
)

// completeNames completes arguments with names of the chapters, and what they are
// about; one argument only, or any number.
func (a *app) completeNames(cmd *cobra.Command, any bool, names func(*chapters.Chapter) []cobra.Completion) {
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		const none = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
		list, err := a.list()
		if err != nil || len(args) > 0 && !any {
			return nil, none
		}
		var found []cobra.Completion
		for _, c := range list {
			found = append(found, names(c)...)
		}
		return slices.DeleteFunc(found, func(c cobra.Completion) bool {
			name, _, _ := strings.Cut(c, "\t")
			return slices.Contains(args, name) || !strings.HasPrefix(name, prefix)
		}), none
	}
}

func (a *app) chapterNames(c *chapters.Chapter) []cobra.Completion {
	return []cobra.Completion{cobra.CompletionWithDesc(c.ID, c.Prose(a.language()).Title)}
}

func (a *app) exerciseNames(c *chapters.Chapter) (names []cobra.Completion) {
	for _, x := range c.Exercises {
		names = append(names, cobra.CompletionWithDesc(x.ID, x.Text(a.language()).Title))
	}
	return names
}

// completeFlag completes a flag that has few values.
func completeFlag(cmd *cobra.Command, flag string, values ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // no such flag: a slip in this package
	}
}
