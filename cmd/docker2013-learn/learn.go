package main

import (
	"cmp"
	"errors"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"docker2013/chapters"
	"docker2013/chapters/player"
)

// onTerminal: somebody looks, and can answer.
func onTerminal() bool {
	return term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("TERM") != "dumb"
}

func (a *app) learnCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{Use: "learn", Short: "Learn how containers are made: the course", Args: cobra.NoArgs}
	cmd.Flags().StringVar(&path, "path", "", "`classic`, modern or both ($DOCKER2013_PATH)")
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	completeFlag(cmd, "path", "classic", "modern", "both")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !onTerminal() {
			return errors.New("learn needs a terminal; without one: docker2013 chapter play N --plain")
		}
		p, err := chapters.ReadProgress()
		if err != nil {
			return err
		}
		path = cmp.Or(path, os.Getenv("DOCKER2013_PATH"), p.Path)
		return a.play(cmd, path, p.Chapter, p.Step)
	}
	return cmd
}

// play opens the player at a page.
func (a *app) play(cmd *cobra.Command, path, chapter, page string) error {
	path = a.path(path)
	if _, err := pathsOf(path); err != nil {
		return err
	}
	list, err := a.list()
	if err != nil {
		return err
	}
	table, err := chapters.Sources()
	if err != nil {
		a.note("%v", err)
	}
	host, err := a.connect(cmd.Context())
	if err != nil {
		return err
	}
	return player.Run(cmd.Context(), player.Options{
		Host: host, Chapters: list, Sources: table, Lang: a.language(), Path: path,
		Colour: os.Getenv("NO_COLOR") == "", Chapter: chapter, Page: page,
	})
}
