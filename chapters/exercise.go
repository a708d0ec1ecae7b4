package chapters

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// Verdict is what a check said.
type Verdict struct {
	Passed  bool
	Lines   []Judged // what it looked at, in its order
	Hint    string   // the name of the hint that fits; "": the general one
	Output  []string // what else the check wrote
	Status  int
	Err     error // the check couldn't be run
	Unclear bool  // it ended without saying what it found
}

// Judged is one thing that a check looked at.
type Judged struct {
	OK                    bool
	What, Found, Expected string // of a plain failure only What
}

// String is the line for the learner.
func (j Judged) String() string {
	switch {
	case j.OK:
		return fmt.Sprintf("%s: %s", j.What, j.Found)
	case j.Found == "" && j.Expected == "":
		return j.What
	case j.Found == "":
		return fmt.Sprintf("%s: found nothing, expected %s", j.What, j.Expected)
	}
	return fmt.Sprintf("%s: found %s, expected %s", j.What, j.Found, j.Expected)
}

// Started reports whether the exercise has been started, and not taken away.
func (h *Host) Started(x *Exercise) bool {
	_, err := os.Stat(filepath.Join(h.dir(), x.ID, "state", "images"))
	return err == nil
}

// W is the folder of an exercise.
func (h *Host) W(x *Exercise) string { return filepath.Join(h.dir(), x.ID, "w") }

// openExercise makes the shell of an exercise, or takes it over.
func (h *Host) openExercise(ctx context.Context, x *Exercise, fresh bool) (*Shell, error) {
	return h.open(ctx, x.chapter, x.ID, x.ID, x.Path, fresh)
}

// Start brings the exercise's start, after taking away what is there of it.
func (h *Host) Start(ctx context.Context, x *Exercise, line func(string)) error {
	if h.Started(x) {
		if err := h.TakeAway(ctx, x, line); err != nil {
			return err
		}
	}
	s, err := h.openExercise(ctx, x, true)
	if err != nil {
		return err
	}
	return errors.Join(s.script(ctx, x.ID+" start", x.Start, line), s.keepMade(ctx), s.Leave())
}

// Solve brings the solved state.
func (h *Host) Solve(ctx context.Context, x *Exercise, line func(string)) error {
	s, err := h.openExercise(ctx, x, false)
	if err != nil {
		return err
	}
	return errors.Join(s.script(ctx, x.ID+" solution", x.Solution, line), s.Leave())
}

// TakeAway removes everything of the exercise.
func (h *Host) TakeAway(ctx context.Context, x *Exercise, line func(string)) error {
	started := h.Started(x)
	s, err := h.openExercise(ctx, x, false)
	if err != nil {
		return err
	}
	if started && strings.TrimSpace(x.Reset) != "" {
		err = s.script(ctx, x.ID+" reset", x.Reset, line)
	}
	return errors.Join(err, s.Close(ctx))
}

// script runs one of an exercise's scripts. They share no variables: the learner's
// shell hasn't got them either.
func (s *Shell) script(ctx context.Context, name, text string, line func(string)) error {
	defer s.forget()
	status, err := s.Run(ctx, name, text, line)
	if err == nil && status != 0 {
		err = fmt.Errorf("it ended with status %d", status)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// forget drops what a script has left to the next one.
func (s *Shell) forget() {
	_ = os.Remove(s.state("variables")) // it may not have come to them
}

// Judge checks the state of the system.
func (h *Host) Judge(ctx context.Context, x *Exercise) Verdict {
	s, err := h.openExercise(ctx, x, false)
	if err != nil {
		return Verdict{Err: err, Status: -1}
	}
	v := s.judge(ctx, x.Check)
	v.Err = errors.Join(v.Err, s.keepMade(ctx), s.Leave())
	return v
}

// judge runs a check and reads what it said.
func (s *Shell) judge(ctx context.Context, check string) (v Verdict) {
	defer s.forget()
	if err := os.WriteFile(s.state("results"), nil, 0o644); err != nil {
		return Verdict{Err: err, Status: -1}
	}
	v.Status, v.Err = s.Run(ctx, "check", check, func(text string) { v.Output = append(v.Output, text) })
	told := false
	f := strings.Split(content(s.state("results")), "\x00")
	for ; len(f) >= 5; f = f[5:] { // see shell.sh
		v.Lines = append(v.Lines, Judged{OK: f[0] == "ok", What: f[1], Found: f[2], Expected: f[3]})
		if f[0] != "ok" {
			told, v.Hint = true, f[4]
		}
	}
	v.Passed = v.Err == nil && v.Status == 0 && !told
	v.Unclear = !v.Passed && !told
	return v
}

var copied = regexp.MustCompile(`(?m)^( *)cp (?:-\S+ )?\$FILES/(\S+) (\$W/\S+).*$`)

// Shown is the solution for people to read: a program of the chapter's that it copies is
// written out, as a here-document.
func (x *Exercise) Shown() string {
	return strings.TrimSpace(copied.ReplaceAllStringFunc(x.Solution, func(line string) string {
		m := copied.FindStringSubmatch(line)
		text, err := fs.ReadFile(x.chapter.dir, path.Join("files", m[2]))
		if err != nil {
			return line
		}
		return fmt.Sprintf("%scat >%s <<'END'\n%s\nEND", m[1], m[3], strings.TrimRight(string(text), "\n"))
	}))
}

// Hint is the text of a hint, the general one where there is none of that name.
func (x *Exercise) Hint(lang Lang, name string) string {
	hints := x.chapter.prose[lang].Exercises[x.Name].Hints
	if text, ok := hints[name]; ok {
		return text
	}
	return hints[""]
}

// Text is the exercise's prose.
func (x *Exercise) Text(lang Lang) *ExerciseProse { return x.chapter.prose[lang].Exercises[x.Name] }

// Variables are what the exercise's scripts find in their environment, for a
// learner's own shell: KEY=VALUE, in the order in which they matter.
func (h *Host) Variables(x *Exercise) []string {
	dir := filepath.Join(h.dir(), x.ID)
	return append(h.variables(dir, x.chapter, x.Path), "DOCKER2013_LABEL="+labelKey+"="+x.ID)
}
