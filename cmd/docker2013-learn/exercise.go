package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"docker2013/chapters"
	"docker2013/chapters/player"
)

func (a *app) exerciseCommand() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List the exercises: name, state, level, kind, title", Args: cobra.NoArgs}
	list.RunE = func(cmd *cobra.Command, _ []string) error { return a.listExercises(cmd.OutOrStdout()) }
	commands := []*cobra.Command{list}
	for _, c := range []struct {
		use, short string
		do         func(*session) error
	}{
		{"start NAME", "Make what an exercise begins with, and tell the task", (*session).start},
		{"check [NAME]", "Judge what you have done", (*session).check},
		{"hint [NAME]", "Give a hint that fits what you have done so far", (*session).hint},
		{"solution [NAME]", "Print a solution", (*session).solution},
		{"reset [NAME]", "Bring back what the exercise begins with", (*session).reset},
	} {
		sub := &cobra.Command{Use: c.use, Short: c.short}
		if sub.Name() != "start" {
			sub.Long = c.short + ". Without NAME: of the one that is started."
		}
		sub.Args = func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 0 && cmd.Name() == "start" {
				return fmt.Errorf("usage: docker2013 exercise %s", c.use)
			}
			return nil
		}
		a.completeNames(sub, false, a.exerciseNames)
		var run bool
		if sub.Name() == "solution" {
			sub.Flags().BoolVar(&run, "run", false, "run it, rather than print it")
		}
		sub.RunE = func(cmd *cobra.Command, args []string) error {
			s, err := a.session(cmd, args)
			if err != nil {
				return err
			}
			s.run = run
			return c.do(s)
		}
		commands = append(commands, sub)
	}
	return below(&cobra.Command{Use: "exercise", Short: "The course's exercises"}, commands...)
}

func (a *app) listExercises(out io.Writer) error {
	list, err := a.list()
	if err != nil {
		return err
	}
	p, err := chapters.ReadProgress()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, c := range list {
		for _, x := range c.Exercises {
			fmt.Fprintf(w, "%s\t%s\tlevel %d\t%s\t%s\n", x.ID, p.State(x.ID), x.Level, x.Kind, x.Text(a.language()).Title)
		}
	}
	return w.Flush()
}

// session is one command about one exercise.
type session struct {
	*cobra.Command
	a    *app
	host *chapters.Host
	x    *chapters.Exercise
	out  io.Writer
	run  bool // the solution is to be run
}

// session finds the exercise of a name, or the one that is started.
func (a *app) session(cmd *cobra.Command, args []string) (*session, error) {
	list, err := a.list()
	if err != nil {
		return nil, err
	}
	var all []*chapters.Exercise
	for _, c := range list {
		all = append(all, c.Exercises...)
	}
	var x *chapters.Exercise
	if len(args) > 0 {
		if x, err = named(all, args[0]); err != nil {
			return nil, err
		}
	}
	host, err := a.connect(cmd.Context())
	if err == nil && x == nil {
		x, err = started(host, all)
	}
	return &session{Command: cmd, a: a, host: host, x: x, out: cmd.OutOrStdout()}, err
}

// named is the exercise of a name; without the chapter's number where that is enough.
func named(all []*chapters.Exercise, name string) (*chapters.Exercise, error) {
	var found []*chapters.Exercise
	var ids []string
	for _, x := range all {
		ids = append(ids, x.ID)
		switch name {
		case x.ID:
			return x, nil
		case x.Name:
			found = append(found, x)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	return nil, unknown("exercise", name, ids, "see docker2013 exercise list")
}

// started is the one exercise that is.
func started(host *chapters.Host, all []*chapters.Exercise) (*chapters.Exercise, error) {
	all = slices.DeleteFunc(all, func(x *chapters.Exercise) bool { return !host.Started(x) })
	switch len(all) {
	case 0:
		return nil, errors.New("no exercise is started: docker2013 exercise list, then exercise start NAME")
	case 1:
		return all[0], nil
	}
	var ids []string
	for _, x := range all {
		ids = append(ids, x.ID)
	}
	return nil, fmt.Errorf("say which: %s are started", strings.Join(ids, ", "))
}

func (s *session) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

// line shows what the exercise's own scripts write.
func (s *session) line(text string) { s.say("%s", text) }

// prose is a text for the exercise's path, laid out where somebody reads it.
func (s *session) prose(text string) string {
	text = chapters.For(text, s.x.Path)
	if f, ok := s.out.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			return player.Text(text, min(width-8, 90), os.Getenv("NO_COLOR") == "")
		}
	}
	return text
}

func (s *session) start() error {
	if s.host.Started(s.x) {
		return fmt.Errorf("%s is started already: docker2013 exercise check %s, or reset", s.x.ID, s.x.ID)
	}
	return s.begin()
}

// begin makes the start, and tells the task.
func (s *session) begin() error {
	if missing := chapters.Missing(s.x.Needs); len(missing) > 0 {
		return fmt.Errorf("%s can't be done here: this host has no %s", s.x.ID, strings.Join(missing, ", "))
	}
	if err := s.host.Start(s.Context(), s.x, s.line); err != nil {
		return err
	}
	text, w := s.x.Text(s.a.language()), chapters.In(s.a.language())
	s.say("%s: %s\n\n%s\n\n%s\n", s.x.ID, text.Title, s.prose(text.Task), w.InYourShell)
	for _, kv := range s.host.Variables(s.x) {
		s.say("  export %s", kv)
	}
	s.say("\n%sdocker2013 exercise check %s", w.Then, s.x.ID)
	return chapters.UpdateProgress(func(p *chapters.Progress) { p.Start(s.x, time.Now()) })
}

func (s *session) needStart() error {
	if !s.host.Started(s.x) {
		return fmt.Errorf("%s isn't started: docker2013 exercise start %s", s.x.ID, s.x.ID)
	}
	return nil
}

func (s *session) check() error {
	if err := s.needStart(); err != nil {
		return err
	}
	v := s.host.Judge(s.Context(), s.x)
	for _, text := range v.Output {
		s.say("  %s", text)
	}
	for _, j := range v.Lines {
		s.say("%s %s", map[bool]string{true: "ok ", false: "no "}[j.OK], j)
	}
	switch {
	case v.Err != nil:
		return v.Err
	case v.Unclear:
		return fmt.Errorf("the check of %s ended with status %d and doesn't say why: that is our mistake", s.x.ID, v.Status)
	case !v.Passed:
		s.say("\n%s: %s", chapters.In(s.a.language()).Hint, s.prose(s.x.Hint(s.a.language(), v.Hint)))
		return errSaid
	}
	w := chapters.In(s.a.language())
	s.say("\n%s: %s. %s:\n\n%s", s.x.ID, strings.TrimPrefix(w.Passed, "✓ "), w.OurSolution, s.x.Shown())
	return chapters.UpdateProgress(func(p *chapters.Progress) { p.Pass(s.x, time.Now()) })
}

func (s *session) hint() error {
	name := ""
	if s.host.Started(s.x) {
		v := s.host.Judge(s.Context(), s.x)
		if v.Passed {
			s.say("%s is solved: docker2013 exercise check %s", s.x.ID, s.x.ID)
			return nil
		}
		name = v.Hint
	}
	s.say("%s", s.prose(s.x.Hint(s.a.language(), name)))
	return nil
}

func (s *session) solution() error {
	if s.run {
		if err := s.needStart(); err != nil {
			return err
		}
		return s.host.Solve(s.Context(), s.x, s.line)
	}
	s.say("# What %s is solved with, as bash -euo pipefail; it needs the variables:", s.x.ID)
	for _, kv := range s.host.Variables(s.x) {
		s.say("export %s", kv)
	}
	s.say("\n%s", s.x.Shown())
	return nil
}

func (s *session) reset() error { return s.begin() }
