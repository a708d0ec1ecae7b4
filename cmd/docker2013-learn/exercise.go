package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"docker2013/chapters"
)

func (a *app) exerciseCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "exercise", Short: "The course's exercises", Args: cobra.NoArgs, RunE: noSuch}
	list := &cobra.Command{Use: "list", Short: "List the exercises: name, state, level, kind, title", Args: cobra.NoArgs}
	list.RunE = func(cmd *cobra.Command, _ []string) error { return a.listExercises(cmd.OutOrStdout()) }
	cmd.AddCommand(list)
	for _, c := range []struct {
		use, short string
		do         func(*session) error
	}{
		{"start NAME", "Make what an exercise begins with, and tell the task", (*session).start},
		{"check NAME", "Judge what you have done", (*session).check},
		{"hint NAME", "Give a hint that fits what you have done so far", (*session).hint},
		{"solution NAME", "Print a solution", (*session).solution},
		{"reset NAME", "Bring back what the exercise begins with", (*session).reset},
	} {
		sub := &cobra.Command{Use: c.use, Short: c.short}
		sub.Args = exactly("exercise "+sub.Name(), "NAME")
		a.completeNames(sub, false, a.exerciseNames)
		var run bool
		if sub.Name() == "solution" {
			sub.Flags().BoolVar(&run, "run", false, "run it, rather than print it")
		}
		sub.RunE = func(cmd *cobra.Command, args []string) error {
			s, err := a.session(cmd, args[0])
			if err != nil {
				return err
			}
			s.run = run
			return c.do(s)
		}
		cmd.AddCommand(sub)
	}
	return cmd
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

func (a *app) session(cmd *cobra.Command, name string) (*session, error) {
	list, err := a.list()
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		for _, x := range c.Exercises {
			if x.ID != name {
				continue
			}
			host, err := a.connect(cmd.Context())
			return &session{Command: cmd, a: a, host: host, x: x, out: cmd.OutOrStdout()}, err
		}
	}
	return nil, fmt.Errorf("there is no exercise %s: see docker2013 exercise list", name)
}

func (s *session) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

// line shows what the exercise's own scripts write.
func (s *session) line(text string) { s.say("%s", text) }

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
	text := s.x.Text(s.a.language())
	s.say("%s: %s\n\n%s\n\nIn your shell:\n", s.x.ID, text.Title, chapters.For(text.Task, s.x.Path))
	for _, kv := range s.host.Variables(s.x) {
		s.say("  export %s", kv)
	}
	s.say("\nThen: docker2013 exercise check %s", s.x.ID)
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
		s.say("\nHint: %s", chapters.For(s.x.Hint(s.a.language(), v.Hint), s.x.Path))
		return errSaid
	}
	s.say("\n%s: passed. Our solution:\n\n%s", s.x.ID, s.x.Solution)
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
	s.say("%s", chapters.For(s.x.Hint(s.a.language(), name), s.x.Path))
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
	s.say("\n%s", strings.TrimSpace(s.x.Solution))
	return nil
}

func (s *session) reset() error { return s.begin() }
