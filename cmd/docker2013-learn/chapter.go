package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"docker2013/chapters"
)

func (a *app) chapterCommand() *cobra.Command {
	return below(&cobra.Command{Use: "chapter", Short: "The course's chapters, one by one"}, a.listCommand(), a.playCommand(), a.testCommand())
}

// pathsOf reads --path.
func pathsOf(path string) ([]chapters.Path, error) {
	switch path {
	case "both":
		return chapters.AllPaths, nil
	case "classic", "modern":
		return []chapters.Path{chapters.Path(path)}, nil
	}
	return nil, fmt.Errorf("--path %s: say classic, modern or both", path)
}

// choose takes the chapters that arguments name: 4, 04, 04-union or union; all if there
// is none.
func choose(list []*chapters.Chapter, args []string) ([]*chapters.Chapter, error) {
	if len(args) == 0 {
		return list, nil
	}
	var chosen []*chapters.Chapter
	for _, arg := range args {
		number, err := strconv.Atoi(arg)
		i := slices.IndexFunc(list, func(c *chapters.Chapter) bool {
			return c.ID == arg || c.ID[3:] == arg || err == nil && c.Number == number
		})
		if i < 0 {
			var ids []string
			for _, c := range list {
				ids = append(ids, c.ID)
			}
			return nil, unknown("chapter", arg, ids, "see docker2013 chapter list")
		}
		chosen = append(chosen, list[i])
	}
	return chosen, nil
}

func (a *app) listCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the chapters, and how far you have come", Args: cobra.NoArgs}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		list, err := a.list()
		if err != nil {
			return err
		}
		p, err := chapters.ReadProgress()
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
		for _, c := range list {
			passed := 0
			for _, x := range c.Exercises {
				if p.State(x.ID) == "passed" {
					passed++
				}
			}
			fmt.Fprintf(w, "%s\t%d of %d steps\t%d of %d exercises\t%s\n", c.ID, p.Done(c), len(c.Steps), passed, len(c.Exercises), c.Prose(a.language()).Title)
		}
		return w.Flush()
	}
	return cmd
}

func (a *app) playCommand() *cobra.Command {
	var path string
	var plain, json bool
	cmd := &cobra.Command{Use: "play N", Short: "Play a chapter", Args: exactly("chapter play", "N")}
	cmd.Example = "  docker2013 chapter play 4\n  docker2013 chapter play --plain --path both 7 | less"
	f := cmd.Flags()
	f.StringVar(&path, "path", "", "`classic`, modern or both ($DOCKER2013_PATH)")
	f.BoolVar(&plain, "plain", false, "print it straight through, for scripts and screen readers")
	f.BoolVar(&json, "json", false, "print what happens as JSON, an object a line")
	a.completeNames(cmd, false, a.chapterNames)
	completeFlag(cmd, "path", "classic", "modern", "both")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if plain && json {
			return errors.New("--plain and --json exclude each other")
		}
		paths, err := pathsOf(a.path(path))
		if err != nil {
			return err
		}
		list, err := a.list()
		if err != nil {
			return err
		}
		chosen, err := choose(list, args)
		if err != nil {
			return err
		}
		if onTerminal() && !plain && !json {
			return a.play(cmd, path, chosen[0].ID, "")
		}
		table, err := chapters.Sources()
		if err != nil {
			a.note("%v", err)
		}
		host, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		tell := chapters.Plain(cmd.OutOrStdout(), a.language(), len(paths))
		if json {
			tell = chapters.JSON(cmd.OutOrStdout())
		}
		holds, err := host.Narrate(cmd.Context(), chosen[0], a.language(), paths, table, tell)
		if err == nil && !holds {
			err = errSaid
		}
		return err
	}
	return cmd
}

func (a *app) testCommand() *cobra.Command {
	var path string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "test [N...]",
		Short: "Play them without a person, and assert their evidence",
	}
	f := cmd.Flags()
	f.StringVar(&path, "path", "both", "`classic`, modern or both")
	f.BoolVarP(&verbose, "verbose", "v", false, "every step's output")
	a.completeNames(cmd, true, a.chapterNames)
	completeFlag(cmd, "path", "classic", "modern", "both")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		out := cmd.OutOrStdout()
		paths, err := pathsOf(path)
		if err != nil {
			return err
		}
		list, broken := a.list()
		if broken != nil { // those that can be played are
			fmt.Fprintf(out, "FAIL  %s\n", strings.ReplaceAll(broken.Error(), "\n", "\nFAIL  "))
		}
		list, err = choose(list, args)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		host, err := a.connect(ctx)
		if err != nil {
			return err
		}
		t := &chapters.Tester{Host: host, Paths: paths, Out: out, Verbose: verbose}
		if a.chapters != "" {
			a.note("references to our source are resolved by make build only")
		} else if t.Sources, err = chapters.Sources(); err != nil {
			a.note("%v", err)
		}
		for _, c := range list {
			t.Test(ctx, c)
			if ctx.Err() != nil {
				break
			}
		}
		fmt.Fprintf(out, "%d steps, %d exercises, %d skipped, %d failed\n", t.Steps, t.Exercises, t.Skipped, t.Failed)
		if t.Failed > 0 || broken != nil {
			return errSaid
		}
		return nil
	}
	return cmd
}
