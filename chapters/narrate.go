package chapters

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Event is one thing that happens while a chapter is played, a line of --json. The
// events of a step, in order: step, then for each path run, output…, evidence…, result,
// and after them after.
type Event struct {
	Event   string `json:"event"` // chapter, step, run, output, evidence, result, after, end
	Chapter string `json:"chapter"`
	Step    string `json:"step,omitempty"`
	Path    Path   `json:"path,omitempty"`

	Title    string      `json:"title,omitempty"`    // of chapter and step
	Text     string      `json:"text,omitempty"`     // the introduction, the claim, what was to be seen: Markdown; the script of run
	Question string      `json:"question,omitempty"` // of step
	Source   []SourceRef `json:"source,omitempty"`   // of step
	Cites    []string    `json:"cites,omitempty"`    // of step

	Line string `json:"line,omitempty"` // of output

	Match  string `json:"match,omitempty"`  // of evidence
	Absent string `json:"absent,omitempty"` // of evidence
	Note   string `json:"note,omitempty"`   // of evidence
	Lines  []int  `json:"lines,omitempty"`  // of evidence: the lines of output that match, from 1

	Holds   *bool    `json:"holds,omitempty"`   // of evidence, result, end
	Status  *int     `json:"status,omitempty"`  // of result
	Fails   bool     `json:"fails,omitempty"`   // of run and result: it is meant to fail
	Missing []string `json:"missing,omitempty"` // of result: what the host lacks; nothing ran
	Wrong   []string `json:"wrong,omitempty"`   // of result
}

// SourceRef is a symbol and its place.
type SourceRef struct {
	Symbol string `json:"symbol"`
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
}

// References are the step's symbols with their places.
func (s *Step) References(table map[string]Source) []SourceRef {
	var refs []SourceRef
	for _, symbol := range s.Source {
		refs = append(refs, SourceRef{symbol, table[symbol].File, table[symbol].Line})
	}
	return refs
}

// String is symbol and place, for people.
func (r SourceRef) String() string {
	if r.File == "" {
		return r.Symbol
	}
	return fmt.Sprintf("%s:%d %s", r.File, r.Line, r.Symbol)
}

// Narrate plays a chapter straight through on paths, hands every event to tell, and
// reports whether everything that it says was shown.
func (h *Host) Narrate(ctx context.Context, c *Chapter, lang Lang, paths []Path, table map[string]Source, tell func(Event)) (holds bool, err error) {
	paths = slices.DeleteFunc(slices.Clone(paths), func(p Path) bool { return !slices.Contains(c.Paths, p) })
	if len(paths) == 0 {
		return false, fmt.Errorf("%s is played on the %s path only", c.ID, c.Paths[0])
	}
	prose := c.Prose(lang)
	tell(Event{Event: "chapter", Chapter: c.ID, Title: prose.Title, Text: For(prose.Intro, paths...)})
	shells := map[Path]*Shell{}
	defer func() {
		for _, s := range shells {
			err = errors.Join(err, s.Close(context.WithoutCancel(ctx)))
		}
	}()
	for _, path := range paths {
		if shells[path], err = h.Open(ctx, c, path); err != nil {
			delete(shells, path)
			return false, err
		}
	}
	holds = true
	for _, step := range c.Steps {
		text := prose.Steps[step.ID]
		tell(Event{
			Event: "step", Chapter: c.ID, Step: step.ID, Title: text.Title, Text: For(text.Claim, paths...),
			Question: For(text.Question, paths...), Source: step.References(table), Cites: step.Cites,
		})
		for _, path := range paths {
			if !step.On(path) {
				continue
			}
			tell(Event{Event: "run", Chapter: c.ID, Step: step.ID, Path: path, Text: step.Run[path], Fails: step.Fails[path]})
			r := shells[path].Play(ctx, step, path, func(line string) {
				tell(Event{Event: "output", Chapter: c.ID, Step: step.ID, Path: path, Line: line})
			})
			if ctx.Err() != nil {
				return false, ctx.Err()
			}
			r.tell(c, step, lang, tell)
			holds = holds && (r.Holds() || len(r.Missing) > 0)
		}
		tell(Event{Event: "after", Chapter: c.ID, Step: step.ID, Text: For(text.After, paths...)})
	}
	tell(Event{Event: "end", Chapter: c.ID, Holds: &holds})
	return holds, nil
}

// tell makes the events of a result.
func (r Result) tell(c *Chapter, step *Step, lang Lang, tell func(Event)) {
	for _, f := range r.Found {
		e := Event{Event: "evidence", Chapter: c.ID, Step: step.ID, Path: r.Path, Note: f.Note[lang], Holds: new(bool)}
		*e.Holds = f.Holds()
		if f.Match != nil {
			e.Match = f.Match.String()
		} else {
			e.Absent = f.Absent.String()
		}
		for _, i := range f.Lines {
			e.Lines = append(e.Lines, i+1)
		}
		tell(e)
	}
	holds := r.Holds()
	tell(Event{
		Event: "result", Chapter: c.ID, Step: step.ID, Path: r.Path, Holds: &holds, Status: &r.Status, Fails: r.Fails,
		Missing: r.Missing, Wrong: r.Wrong(),
	})
}

// JSON writes events as objects, one a line.
func JSON(out io.Writer) func(Event) {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	return func(event Event) { _ = e.Encode(event) } // who doesn't listen any more misses nothing
}

// Plain writes events as text that reads from top to bottom.
func Plain(out io.Writer, lang Lang, paths int) func(Event) {
	w := words[lang]
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	var step Event
	return func(e Event) {
		switch e.Event {
		case "chapter":
			say("# %s\n\n%s", e.Title, e.Text)
		case "step":
			step = e
			say("\n## %s\n\n%s\n\n%s%s", e.Title, e.Text, w.Question, e.Question)
		case "run":
			say("")
			if paths > 1 {
				say("[%s]", e.Path)
			}
			for i, line := range strings.Split(strings.TrimRight(e.Text, "\n"), "\n") {
				say("%s %s", []string{"$", ">"}[min(i, 1)], line)
			}
			if e.Fails {
				say("(%s)", w.MeantToFail)
			}
			say("")
		case "output":
			say("%s", e.Line)
		case "evidence":
			switch {
			case !*e.Holds:
				say("%s %s%s", w.NotShown, e.Match, e.Absent)
			case len(e.Lines) > 0 && e.Note != "":
				say("%s: %s", fmt.Sprintf(w.Line, e.Lines[0]), e.Note)
			case e.Note != "":
				say("%s: %s", w.NoLine, e.Note)
			}
		case "result":
			switch {
			case len(e.Missing) > 0:
				say("%s %s", w.NotRun, strings.Join(e.Missing, ", "))
			case e.Fails && *e.Holds:
				say("%s", fmt.Sprintf(w.Failed, *e.Status))
			}
			for _, wrong := range e.Wrong {
				say("! %s", wrong)
			}
		case "after":
			say("\n%s", e.Text)
			if len(step.Source)+len(step.Cites) > 0 {
				say("")
			}
			for _, ref := range step.Source {
				say("%s%s", w.Source, ref)
			}
			for _, cite := range step.Cites {
				say("%s%s", w.Cites, cite)
			}
		}
	}
}
