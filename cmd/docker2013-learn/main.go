// Command docker2013-learn is the course: docker2013 becomes it for learn, chapter,
// exercise and cleanup. It is a program of its own so that the client starts fast.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"docker2013/chapters"
	"docker2013/cli2013"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second ^C ends us at once
	err := command().ExecuteContext(ctx)
	if err == nil {
		return
	}
	if ctx.Err() != nil {
		os.Exit(interrupted)
	}
	if !errors.Is(err, errSaid) {
		fmt.Fprintf(os.Stderr, "docker2013: %s\n", strings.ReplaceAll(err.Error(), "\n", "\ndocker2013: "))
	}
	os.Exit(1)
}

// interrupted is a shell's exit status for SIGINT.
const interrupted = 130

// errSaid is a failure that has been told.
var errSaid = errors.New("it has been said")

// app is one run of the command line.
type app struct {
	host     string // the daemon's address
	chapters string // a folder of chapters instead of ours
	lang     string
}

func command() *cobra.Command {
	a := &app{}
	cobra.EnableCommandSorting = false
	root := &cobra.Command{
		Use:               "docker2013",
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.checkLanguage() },
	}
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", ".FlagUsagesWrapped 80"))
	f := root.PersistentFlags()
	f.SortFlags = false
	f.StringVarP(&a.host, "host", "H", cmp.Or(os.Getenv("DOCKER"), cli2013.DefaultAddr), "the daemon: `address` ($DOCKER)")
	f.StringVar(&a.lang, "lang", "", "the language: `en` or zh ($LANG)")
	f.StringVar(&a.chapters, "chapters", os.Getenv("DOCKER2013_CHAPTERS"), "a `folder` of chapters instead of ours ($DOCKER2013_CHAPTERS)")
	completeFlag(root, "lang", "en", "zh")
	root.AddCommand(a.learnCommand(), a.chapterCommand(), a.exerciseCommand(), a.cleanupCommand())
	return root
}

func (a *app) cleanupCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "cleanup", Short: "Remove all that the course has made, and prove it", Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if os.Geteuid() != 0 {
			return errors.New("what the course has made is root's: sudo -E env PATH=$PATH docker2013 cleanup")
		}
		list, err := a.list()
		if err != nil {
			return err
		}
		bin, err := ours()
		if err != nil {
			return err
		}
		host, err := chapters.Connect(cmd.Context(), a.host, bin)
		if err != nil {
			err = chapters.CleanupWithout(cmd.Context(), list, a.host, bin, cmd.OutOrStdout())
		} else {
			err = host.Cleanup(cmd.Context(), list, cmd.OutOrStdout())
		}
		return errors.Join(err, chapters.UpdateProgress((*chapters.Progress).TakenAway))
	}
	return cmd
}

// list is the chapters.
func (a *app) list() ([]*chapters.Chapter, error) {
	if a.chapters != "" {
		return chapters.Load(os.DirFS(a.chapters))
	}
	return chapters.Course()
}

// connect finds the daemon, or starts one, and makes sure of the image base.
func (a *app) connect(ctx context.Context) (*chapters.Host, error) {
	bin, err := ours()
	if err != nil {
		return nil, err
	}
	h, err := chapters.Have(ctx, a.host, bin, func(text string) { a.note("%s", text) })
	if err != nil {
		return nil, err
	}
	return h, h.HaveBase(ctx)
}

// ours is the folder of our programs.
func ours() (string, error) {
	self, err := os.Executable()
	return filepath.Dir(self), err
}

// note tells what isn't part of the answer.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "docker2013: "+format+"\n", args...)
}

func (a *app) checkLanguage() error {
	if a.lang != "" && a.lang != "en" && a.lang != "zh" {
		return fmt.Errorf("--lang %s: say en or zh", a.lang)
	}
	return nil
}

// language is --lang, or what was chosen in learn, or what the environment asks for
// (locale(7)).
func (a *app) language() chapters.Lang {
	p, _ := chapters.ReadProgress() // who needs it has told of what can't be read
	wanted := cmp.Or(a.lang, string(p.Language), os.Getenv("LC_ALL"), os.Getenv("LC_MESSAGES"), os.Getenv("LANG"))
	if strings.HasPrefix(wanted, "zh") {
		return chapters.Chinese
	}
	return chapters.English
}

// path is --path, or what the environment says.
func (a *app) path(flag string) string { return cmp.Or(flag, os.Getenv("DOCKER2013_PATH"), "classic") }

// exactly wants one argument.
func exactly(command, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("usage: docker2013 %s %s", command, what)
		}
		return nil
	}
}

// unknown is the error for a name that isn't there: what it may have been meant to be, or
// where to look.
func unknown(what, name string, names []string, see string) error {
	all := &cobra.Command{SuggestionsMinimumDistance: 2}
	whole := map[string]string{} // by name, and by name without number
	for _, n := range names {
		whole[n] = n
		if _, slug, ok := strings.Cut(n, "-"); ok && n[0] <= '9' {
			whole[slug] = n
		}
	}
	for _, n := range slices.Sorted(maps.Keys(whole)) {
		all.AddCommand(&cobra.Command{Use: n, Run: func(*cobra.Command, []string) {}})
	}
	var meant []string
	for _, n := range all.SuggestionsFor(name) {
		meant = append(meant, whole[n])
	}
	for _, n := range names { // a part of it is as good
		if len(name) > 2 && strings.Contains(n, name) {
			meant = append(meant, n)
		}
	}
	slices.Sort(meant)
	if meant = slices.Compact(meant); len(meant) == 0 {
		return fmt.Errorf("there is no %s %s: %s", what, name, see)
	}
	return fmt.Errorf("there is no %s %s; did you mean %s?", what, name, strings.Join(meant[:min(3, len(meant))], " or "))
}

// below is a command that has only commands below it.
func below(cmd *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(commands...)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		var names []string
		for _, c := range commands {
			names = append(names, c.Name())
		}
		return unknown("command docker2013 "+cmd.Name(), args[0], names, "say "+strings.Join(names, ", "))
	}
	return cmd
}
