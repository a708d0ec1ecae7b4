package chapters

import (
	"context"
	"fmt"
	"slices"
)

// Result is what came of a step on a path.
type Result struct {
	Path    Path
	Missing []string // of the host: then nothing ran
	Output  []string // lines
	Status  int      // exit status; -1: none
	Err     error    // it couldn't be run to its end
	Fails   bool     // it was meant to fail
	Found   []Finding
}

// Finding is a piece of evidence and the lines that it matches, by their index.
type Finding struct {
	Evidence
	Lines []int
}

// Holds reports whether the evidence is as it should be.
func (f Finding) Holds() bool { return (f.Match != nil) == (len(f.Lines) > 0) }

// EndedRight reports whether the script ended as it was said to.
func (r Result) EndedRight() bool { return r.Err == nil && (r.Status != 0) == r.Fails }

// Holds reports whether the step has shown what it says.
func (r Result) Holds() bool {
	return len(r.Missing) == 0 && r.EndedRight() &&
		!slices.ContainsFunc(r.Found, func(f Finding) bool { return !f.Holds() })
}

// Wrong says what is wrong with a result, a sentence each.
func (r Result) Wrong() []string {
	var wrong []string
	switch {
	case r.Err != nil:
		wrong = append(wrong, fmt.Sprintf("it couldn't be run: %v", r.Err))
	case r.Fails && r.Status == 0:
		wrong = append(wrong, "it was meant to fail (fails: true), and ended with status 0")
	case !r.Fails && r.Status != 0:
		wrong = append(wrong, fmt.Sprintf("it ended with status %d", r.Status))
	}
	for _, f := range r.Found {
		switch {
		case f.Holds():
		case f.Match != nil:
			wrong = append(wrong, fmt.Sprintf("evidence is missing: no line matches %s", f.Match))
		default:
			wrong = append(wrong, fmt.Sprintf("line %d matches %s, which must be absent", f.Lines[0]+1, f.Absent))
		}
	}
	return wrong
}

// Play runs a step on the shell's path, hands on its output line by line, and looks
// for the evidence.
func (s *Shell) Play(ctx context.Context, step *Step, path Path, line func(string)) Result {
	r := Result{Path: path, Missing: Missing(step.Needs), Status: -1, Fails: step.Fails[path]}
	if len(r.Missing) > 0 {
		return r
	}
	r.Status, r.Err = s.Run(ctx, step.ID, step.Run[path], func(text string) {
		if len(r.Output) < maxLines {
			r.Output = append(r.Output, text)
			line(text)
		}
	})
	for _, e := range step.For(path) {
		r.Found = append(r.Found, Finding{e, e.lines(r.Output)})
	}
	return r
}

// maxLines is how many lines of a step's output are kept.
const maxLines = 2000

// lines are those that the evidence's expression matches.
func (e Evidence) lines(output []string) []int {
	re := e.Match
	if re == nil {
		re = e.Absent
	}
	var found []int
	for i, text := range output {
		if re.MatchString(text) {
			found = append(found, i)
		}
	}
	return found
}
