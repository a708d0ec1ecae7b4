package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// patience is how long a shell waits for the daemon's names.
const patience = 500 * time.Millisecond

// completer lists what can stand at an argument's place.
type completer func(ctx context.Context, a *app, prefix string) []string

// completion completes the first most arguments of a command (most < 0: all).
// Where there is no daemon it is quiet.
func (a *app) completion(list completer, most int) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		// commit CONTAINER DEST, ls CONTAINER PATH: only the first is a name there is.
		if most == 2 {
			most = 1
		}
		if list == nil || most >= 0 && len(args) >= most || a.configure() != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		names := slices.DeleteFunc(list(ctx, a, prefix), func(name string) bool {
			return slices.Contains(args, name) || !strings.HasPrefix(name, prefix)
		})
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) words(ctx context.Context, args ...string) []string {
	out, err := a.output(ctx, args...)
	if err != nil {
		return nil
	}
	return strings.Fields(out)
}

func running(ctx context.Context, a *app, prefix string) []string {
	return a.containers(ctx, prefix, "ps")
}

func containers(ctx context.Context, a *app, prefix string) []string {
	return a.containers(ctx, prefix, "ps", "-a")
}

// containers are names, where they have one; their ids, once the prefix says so.
func (a *app) containers(ctx context.Context, prefix string, ps ...string) []string {
	list := a.words(ctx, append(ps, "-format", "{{.ID}},{{.Names}}")...)
	for i, both := range list {
		id, name, _ := strings.Cut(both, ",")
		list[i] = id
		if name != "" && strings.HasPrefix(name, prefix) {
			list[i] = name
		}
	}
	return list
}

// images are names; their ids, NAME:HASH, once the prefix says so.
func images(ctx context.Context, a *app, prefix string) []string {
	ids := a.words(ctx, "images", "-q")
	for i, id := range ids {
		name := id[:max(strings.LastIndexByte(id, ':'), 0)] // a URL has colons too
		if name != "" && strings.HasPrefix(name, prefix) {
			ids[i] = name
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// madeHere is what pull needs no address for.
func madeHere(context.Context, *app, string) []string { return []string{"base"} }

func containersAndImages(ctx context.Context, a *app, prefix string) []string {
	return append(containers(ctx, a, prefix), images(ctx, a, prefix)...)
}

// mustComplete completes a flag that has few values.
func mustComplete(cmd *cobra.Command, flag string, values ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // no such flag: a slip in this package
	}
}

// withoutBashCompletion stands in for the one function that cobra's script wants of
// the package bash-completion, where a system doesn't have that.
const withoutBashCompletion = `declare -F _get_comp_words_by_ref >/dev/null || _get_comp_words_by_ref() {
	words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
	cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
}

`

// completionCommand prints the shells' scripts.
func completionCommand() *cobra.Command {
	cmd := newCommand(groupHere, "completion bash|zsh|fish", "Print a shell's completion script", arity(1, 1))
	cmd.Example = "  source <(docker2013 completion bash)\n" +
		"  docker2013 completion zsh > \"${fpath[1]}/_docker2013\"\n" +
		"  docker2013 completion fish > ~/.config/fish/completions/docker2013.fish"
	cmd.ValidArgs = []string{"bash", "zsh", "fish"}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		root, out := cmd.Root(), cmd.OutOrStdout()
		switch args[0] {
		case "bash":
			if _, err := io.WriteString(out, withoutBashCompletion); err != nil {
				return err
			}
			return root.GenBashCompletionV2(out, true)
		case "zsh":
			return root.GenZshCompletion(out)
		case "fish":
			return root.GenFishCompletion(out, true)
		default:
			return fmt.Errorf("completion %s: say bash, zsh or fish", args[0])
		}
	}
	return cmd
}
