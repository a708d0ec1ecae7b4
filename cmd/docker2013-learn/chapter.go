package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"docker2013/chapters"
)

func (a *app) chapterCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "chapter", Short: "List, play and test the course's chapters"}
	cmd.AddCommand(a.testCommand())
	return cmd
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

// choose takes the chapters that arguments name: 4, 04 or 04-union; all if there is none.
func choose(list []*chapters.Chapter, args []string) ([]*chapters.Chapter, error) {
	if len(args) == 0 {
		return list, nil
	}
	var chosen []*chapters.Chapter
	for _, arg := range args {
		number, err := strconv.Atoi(arg)
		i := slices.IndexFunc(list, func(c *chapters.Chapter) bool {
			return c.ID == arg || err == nil && c.Number == number
		})
		if i < 0 {
			return nil, fmt.Errorf("there is no chapter %s: see docker2013 chapter list", arg)
		}
		chosen = append(chosen, list[i])
	}
	return chosen, nil
}

func (a *app) testCommand() *cobra.Command {
	var path string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "test [N...]",
		Short: "Play chapters and exercises without a person, and assert their evidence",
	}
	f := cmd.Flags()
	f.StringVar(&path, "path", "both", "`classic`, modern or both")
	f.BoolVarP(&verbose, "verbose", "v", false, "every step's output")
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
		if t.Sources, err = chapters.Sources(); err != nil {
			fmt.Fprintf(out, "NOTE  %v\n", err)
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
