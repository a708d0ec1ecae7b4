package chapters

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// Tester plays chapters without a person and says what doesn't hold.
type Tester struct {
	Host    *Host
	Paths   []Path
	Out     io.Writer
	Verbose bool // every step's output
	Sources map[string]Source

	Steps, Exercises, Skipped, Failed int
}

func (t *Tester) say(format string, args ...any) { fmt.Fprintf(t.Out, format+"\n", args...) }

func (t *Tester) fail(format string, args ...any) {
	t.Failed++
	t.say("FAIL  "+format, args...)
}

// Test plays one chapter, and its exercises, on the paths.
func (t *Tester) Test(ctx context.Context, c *Chapter) {
	failed, start := t.Failed, time.Now()
	for _, p := range c.Syntax() {
		t.fail("%s", p)
	}
	t.sources(c)
	if t.Failed > failed {
		return // what bash can't read isn't worth playing
	}
	defer oneTest(ctx)()
	for _, path := range t.Paths {
		if slices.Contains(c.Paths, path) {
			t.steps(ctx, c, path)
		}
	}
	for _, x := range c.Exercises {
		if slices.Contains(t.Paths, x.Path) && ctx.Err() == nil {
			t.exercise(ctx, x)
		}
	}
	if err := ctx.Err(); err != nil {
		t.fail("%s: %v", c.ID, err)
	}
	if t.Failed == failed {
		t.say("ok    %s (%.1f s)", c.ID, time.Since(start).Seconds())
	}
}

// oneTest waits until no other test plays a chapter on this host: what scripts make there
// under fixed names, a link or a cgroup, is there once. The kernel keeps who it is, as the
// owner of an abstract socket (unix(7)), and forgets it with its end.
func oneTest(ctx context.Context) (done func()) {
	for {
		l, err := net.Listen("unix", "@docker2013-chapter-test")
		if err == nil {
			return func() { _ = l.Close() }
		}
		select {
		case <-ctx.Done():
			return func() {}
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (t *Tester) sources(c *Chapter) {
	for _, s := range c.Steps {
		for _, symbol := range s.Source {
			if _, ok := t.Sources[symbol]; !ok && t.Sources != nil {
				t.fail("%s step %s: source %s: not in this program's table (make build resolves it)", c.ID, s.ID, symbol)
			}
		}
	}
}

// Syntax is what bash can't read, a sentence each.
func (c *Chapter) Syntax() []string {
	var wrong []string
	try := func(where, script string) {
		cmd := exec.Command("bash", "-n")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s %s: %s", c.ID, where, strings.TrimSpace(string(out))))
		}
	}
	for _, s := range c.Steps {
		for _, path := range AllPaths {
			if path == Classic || s.Run[path] != s.Run[Classic] {
				try("step "+s.ID, s.Run[path])
			}
		}
	}
	for _, x := range c.Exercises {
		try("exercise "+x.Name+" start", x.Start)
		try("exercise "+x.Name+" check", x.Check)
		try("exercise "+x.Name+" solution", x.Solution)
		try("exercise "+x.Name+" reset", x.Reset)
	}
	return wrong
}

func (t *Tester) steps(ctx context.Context, c *Chapter, path Path) {
	before := t.Host.census()
	s, err := t.Host.Open(ctx, c, path)
	if err != nil {
		t.fail("%s %s: %v", c.ID, path, err)
		return
	}
	for _, step := range c.Steps {
		if !step.On(path) || ctx.Err() != nil {
			continue
		}
		where := fmt.Sprintf("%s %s step %s", c.ID, path, step.ID)
		start := time.Now()
		r := s.Play(ctx, step, path, func(string) {})
		took := time.Since(start)
		switch {
		case len(r.Missing) > 0:
			t.Skipped++
			t.say("SKIP  %s: this host has no %s", where, strings.Join(r.Missing, ", "))
			continue
		case !r.Holds():
			t.fail("%s", where)
			for _, w := range r.Wrong() {
				t.say("      %s", w)
			}
			t.output(r.Output)
		case t.Verbose:
			t.say("ok    %s (%.2f s)", where, took.Seconds())
			t.output(r.Output)
		}
		if took > 5*time.Second {
			t.say("SLOW  %s: %.1f s; a step takes under 2", where, took.Seconds())
		}
		if len(r.Output) > 25 {
			t.say("LONG  %s: %d lines; a step writes under 25", where, len(r.Output))
		}
		t.Steps++
	}
	if err := s.Close(context.WithoutCancel(ctx)); err != nil {
		t.fail("%s %s: clean up at the end: %v", c.ID, path, err)
	}
	t.left(before, fmt.Sprintf("%s %s", c.ID, path))
}

func (t *Tester) output(lines []string) {
	if len(lines) == 0 {
		t.say("      it wrote nothing")
	}
	for i, text := range lines {
		t.say("      %3d │ %s", i+1, text)
	}
}

// left fails for what wasn't there before.
func (t *Tester) left(before census, where string) {
	for _, thing := range before.since(t.Host) {
		t.fail("%s: it leaves %s", where, thing)
	}
}

// exercise makes sure that the start fails the check, that the solution passes, that
// reset brings the start back, and that nothing is left at the end.
func (t *Tester) exercise(ctx context.Context, x *Exercise) {
	where := fmt.Sprintf("exercise %s", x.ID)
	if missing := Missing(x.Needs); len(missing) > 0 {
		t.Skipped++
		t.say("SKIP  %s: this host has no %s", where, strings.Join(missing, ", "))
		return
	}
	t.Exercises++
	before := t.Host.census()
	var out []string
	line := func(text string) { out = append(out, text) }
	start := time.Now()
	err := t.tryExercise(ctx, x, line)
	if err != nil {
		t.fail("%s: %v", where, err)
		t.output(out)
	}
	out = nil
	if err := t.Host.TakeAway(context.WithoutCancel(ctx), x, line); err != nil {
		t.fail("%s: clean up at the end: %v", where, err)
		t.output(out)
	}
	t.left(before, where)
	if err == nil && t.Verbose {
		t.say("ok    %s (%.2f s)", where, time.Since(start).Seconds())
	}
}

func (t *Tester) tryExercise(ctx context.Context, x *Exercise, line func(string)) error {
	if err := t.Host.Start(ctx, x, line); err != nil {
		return err
	}
	if err := t.unsolved(ctx, x, line); err != nil {
		return fmt.Errorf("after start: %w", err)
	}
	if err := t.Host.Solve(ctx, x, line); err != nil {
		return err
	}
	v := t.Host.Judge(ctx, x)
	if !v.Passed {
		return errors.Join(errors.New("the solution doesn't pass the check"), v.report(line))
	}
	if err := t.Host.Start(ctx, x, line); err != nil { // which is what reset does
		return fmt.Errorf("reset: %w", err)
	}
	if err := t.unsolved(ctx, x, line); err != nil {
		return fmt.Errorf("after reset: %w", err)
	}
	return nil
}

// unsolved makes sure that the check fails, says why, and gives a hint that there is.
func (t *Tester) unsolved(ctx context.Context, x *Exercise, line func(string)) error {
	v := t.Host.Judge(ctx, x)
	switch {
	case v.Passed:
		return errors.Join(errors.New("the check passes, though nothing is solved"), v.report(line))
	case v.Unclear:
		return errors.Join(errors.New("the check fails without saying why: every failure is one of expect or fail"), v.report(line))
	}
	for _, lang := range Langs {
		if _, ok := x.Text(lang).Hints[v.Hint]; !ok {
			return fmt.Errorf("the check names a hint %q that isn't in %s.md", v.Hint, lang)
		}
	}
	if t.Verbose {
		t.say("      %s: the check fails, as it should: %s", x.ID, v.Lines[len(v.Lines)-1])
	}
	return nil
}

// report writes what a check found.
func (v Verdict) report(line func(string)) error {
	for _, j := range v.Lines {
		line(j.String())
	}
	for _, text := range v.Output {
		line("check wrote: " + text)
	}
	if v.Status > 0 {
		line(fmt.Sprintf("check ended with status %d", v.Status))
	}
	return v.Err
}
