package chapters

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

var (
	ident = regexp.MustCompile(`^[a-z0-9-]+$`)
	kinds = []string{"hunt", "repair", "build", "code"}
	judge = regexp.MustCompile(`\b(expect|fail)\b`)
)

// check finds what is wrong with a chapter that could be read, all of it.
func (c *Chapter) check() error {
	var err error
	wrong := func(where, format string, args ...any) {
		err = errors.Join(err, fmt.Errorf("%s: %s", where, fmt.Sprintf(format, args...)))
	}
	var order []string // the headings that the prose must have
	for i, s := range c.Steps {
		where := fmt.Sprintf("%s/chapter.yaml: step %s", c.ID, s.ID)
		switch {
		case !ident.MatchString(s.ID):
			wrong(where, "step %d: id %q: letters a-z, digits and -", i+1, s.ID)
		case slices.Contains(order, s.ID):
			wrong(where, "there are two of this id")
		}
		order = append(order, s.ID)
		c.checkStep(s, func(format string, args ...any) { wrong(where, format, args...) })
	}
	for i, x := range c.Exercises {
		where := fmt.Sprintf("%s/chapter.yaml: exercise %s", c.ID, x.Name)
		switch {
		case !ident.MatchString(x.Name):
			wrong(where, "exercise %d: name %q: letters a-z, digits and -", i+1, x.Name)
		case slices.Contains(order, "exercise "+x.Name):
			wrong(where, "there are two of this name")
		}
		order = append(order, "exercise "+x.Name)
		x.check(func(format string, args ...any) { wrong(where, format, args...) })
	}
	for _, lang := range Langs {
		file := fmt.Sprintf("%s/%s.md", c.ID, lang)
		c.prose[lang].check(c, order, func(format string, args ...any) { wrong(file, format, args...) })
	}
	c.compareHints(func(format string, args ...any) { wrong(c.ID, format, args...) })
	return err
}

func (c *Chapter) checkStep(s *Step, wrong func(string, ...any)) {
	ran := false
	for _, path := range c.Paths {
		if !s.On(path) {
			continue
		}
		ran = true
		if len(s.For(path)) == 0 {
			wrong("no evidence on the %s path", path)
		}
	}
	if !ran {
		wrong("no run: say what it runs")
	}
	checkNeeds(s.Needs, wrong)
	for _, e := range s.Evidence {
		for _, lang := range Langs {
			if len(e.Note) > 0 && e.Note[lang] == "" {
				wrong("the note of evidence %s has no %s", e, lang)
			}
		}
		for lang := range e.Note {
			if !slices.Contains(Langs, lang) {
				wrong("the note of evidence %s is in a language %s: say en and zh, and quote a note with a comma", e, lang)
			}
		}
	}
	for _, symbol := range s.Source {
		if _, err := ParseSymbol(symbol); err != nil {
			wrong("%v", err)
		}
	}
}

func checkNeeds(needs []string, wrong func(string, ...any)) {
	for _, need := range needs {
		if _, known := hostHas[need]; !known {
			wrong("needs %s: known are %s", need, strings.Join(slices.Sorted(maps.Keys(hostHas)), " "))
		}
	}
}

func (x *Exercise) check(wrong func(string, ...any)) {
	if !slices.Contains(kinds, x.Kind) {
		wrong("kind %q: say one of %s", x.Kind, strings.Join(kinds, ", "))
	}
	if x.Level < 1 || x.Level > 3 {
		wrong("level %d: say 1, 2 or 3", x.Level)
	}
	if !slices.Contains(AllPaths, x.Path) {
		wrong("path %q: say classic or modern", x.Path)
	}
	for _, script := range []struct{ name, text string }{{"start", x.Start}, {"check", x.Check}, {"solution", x.Solution}} {
		if strings.TrimSpace(script.text) == "" {
			wrong("no %s", script.name)
		}
	}
	if !judge.MatchString(x.Check) {
		wrong("check judges nothing: use expect or fail")
	}
	checkNeeds(x.Needs, wrong)
}

// check compares the prose with what chapter.yaml has.
func (p *Prose) check(c *Chapter, order []string, wrong func(string, ...any)) {
	ok := true
	for _, id := range order {
		if !slices.Contains(p.order, id) {
			wrong("## %s is missing: chapter.yaml has it", id)
			ok = false
		}
	}
	for _, id := range p.order {
		if !slices.Contains(order, id) {
			wrong("## %s: chapter.yaml doesn't have it", id)
			ok = false
		}
	}
	if ok && !slices.Equal(order, p.order) {
		wrong("its headings stand in another order than in chapter.yaml: %s", strings.Join(p.order, ", "))
	}
	if p.Intro == "" {
		wrong("no introduction below the title")
	}
	for _, s := range c.Steps {
		text := p.Steps[s.ID]
		if text == nil {
			continue
		}
		for _, part := range []struct{ name, text string }{
			{"no claim before the question", text.Claim}, {"no question (a line that begins with >)", text.Question},
			{"nothing after the question: what was to be seen?", text.After},
		} {
			if part.text == "" {
				wrong("## %s: %s", s.ID, part.name)
			}
			if err := checkTags(part.text); err != nil {
				wrong("## %s: %v", s.ID, err)
			}
		}
	}
	for _, x := range c.Exercises {
		text := p.Exercises[x.Name]
		if text == nil {
			continue
		}
		if text.Task == "" {
			wrong("## exercise %s: no task", x.Name)
		}
		if text.Hints[""] == "" {
			wrong("## exercise %s: no general hint (### hint)", x.Name)
		}
	}
}

// compareHints makes sure that no language has a hint that another hasn't.
func (c *Chapter) compareHints(wrong func(string, ...any)) {
	for _, x := range c.Exercises {
		for _, a := range Langs {
			for _, b := range Langs {
				from, to := c.prose[a].Exercises[x.Name], c.prose[b].Exercises[x.Name]
				if from == nil || to == nil {
					continue
				}
				for _, hint := range slices.Sorted(maps.Keys(from.Hints)) {
					if _, ok := to.Hints[hint]; !ok && hint != "" {
						wrong("exercise %s: ### hint %s is in %s.md and not in %s.md", x.Name, hint, a, b)
					}
				}
			}
		}
	}
}

// String is the evidence as chapter.yaml has it.
func (e Evidence) String() string {
	if e.Absent != nil {
		return fmt.Sprintf("absent: %s", e.Absent)
	}
	return fmt.Sprintf("match: %s", e.Match)
}

// For is the step's evidence on a path.
func (s *Step) For(path Path) []Evidence {
	var list []Evidence
	for _, e := range s.Evidence {
		if e.Path == "" || e.Path == path {
			list = append(list, e)
		}
	}
	return list
}
