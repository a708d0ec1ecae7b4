package chapters

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Prose is a chapter's text in one language: Markdown, cut at its headings.
//
//	# TITLE                     the chapter's, then its introduction
//	## ID — TITLE               a step: claim, > question, what was to be seen
//	## exercise NAME — TITLE    the task
//	### hint [NAME]             a hint of that exercise
//
// Between {{classic}} or {{modern}} and {{end}} stands what is for one path only.
type Prose struct {
	Title, Intro string
	Steps        map[string]*StepProse     // by id
	Exercises    map[string]*ExerciseProse // by name
	order        []string                  // the second headings' ids, as they stand
}

// StepProse is a step's text.
type StepProse struct{ Title, Claim, Question, After string }

// ExerciseProse is an exercise's text.
type ExerciseProse struct {
	Title, Task string
	Hints       map[string]string // by name; "": the general one
}

func newProse() *Prose {
	return &Prose{Steps: map[string]*StepProse{}, Exercises: map[string]*ExerciseProse{}}
}

// section is a heading and what stands below it, up to the next one.
type section struct {
	level, line int
	head        string
	body        []string
}

// sections cuts Markdown at its first three levels of headings, but for those in
// fenced blocks.
func sections(text string) []section {
	all := []section{{}}
	fence := ""
	for i, line := range strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		last := &all[len(all)-1]
		trimmed := strings.TrimLeft(line, " ")
		switch {
		case fence != "":
			if strings.HasPrefix(trimmed, fence) && strings.Trim(trimmed, fence[:1]+" ") == "" {
				fence = ""
			}
		case strings.HasPrefix(trimmed, "```") || strings.HasPrefix(trimmed, "~~~"):
			fence = trimmed[:3]
		default:
			hashes := len(line) - len(strings.TrimLeft(line, "#"))
			if hashes >= 1 && hashes <= 3 && strings.HasPrefix(line[hashes:], " ") {
				all = append(all, section{level: hashes, line: i + 1, head: strings.TrimSpace(line[hashes:])})
				continue
			}
		}
		last.body = append(last.body, line)
	}
	return all
}

func (s section) text() string { return strings.TrimSpace(strings.Join(s.body, "\n")) }

// parseProse reads a chapter's text. Its errors begin with a line's number.
func parseProse(text string) (*Prose, error) {
	p := newProse()
	var err error
	var exercise *ExerciseProse
	for i, s := range sections(text) {
		wrong := func(format string, args ...any) {
			err = errors.Join(err, fmt.Errorf("%d: %s", max(s.line, 1), fmt.Sprintf(format, args...)))
		}
		if terr := checkTags(s.text()); terr != nil {
			wrong("%v", terr)
		}
		switch {
		case i == 0:
			if s.text() != "" {
				wrong("text before the title: begin with # TITLE")
			}
		case s.level == 1:
			if p.Title != "" {
				wrong("a second title")
			}
			p.Title, p.Intro = s.head, s.text()
		case s.level == 2:
			id, title, ok := strings.Cut(s.head, " — ")
			if !ok {
				wrong("## %s: say ## ID — TITLE", s.head)
				continue
			}
			name, isExercise := strings.CutPrefix(id, "exercise ")
			exercise = nil
			p.order = append(p.order, id)
			switch {
			case !isExercise && p.Steps[id] != nil || isExercise && p.Exercises[name] != nil:
				wrong("## %s is there twice", id)
			case isExercise:
				exercise = &ExerciseProse{Title: title, Task: s.text(), Hints: map[string]string{}}
				p.Exercises[name] = exercise
			default:
				step := &StepProse{Title: title}
				step.Claim, step.Question, step.After = cutQuote(s.body)
				p.Steps[id] = step
			}
		case exercise == nil:
			wrong("### %s: only an exercise has hints", s.head)
		case s.head != "hint" && !strings.HasPrefix(s.head, "hint "):
			wrong("### %s: say ### hint, or ### hint NAME", s.head)
		default:
			name := strings.TrimSpace(strings.TrimPrefix(s.head, "hint"))
			if _, twice := exercise.Hints[name]; twice {
				wrong("### %s is there twice", s.head)
			}
			exercise.Hints[name] = s.text()
		}
	}
	if p.Title == "" {
		err = errors.Join(errors.New("1: no title: begin with # TITLE"), err)
	}
	return p, err
}

// cutQuote cuts a step's text at its first block quote, which is the question.
func cutQuote(body []string) (before, quote, after string) {
	start := -1
	fenced := false
	for i, line := range body {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		if start < 0 && !fenced && strings.HasPrefix(line, ">") {
			start = i
		}
		if start >= 0 && !strings.HasPrefix(line, ">") {
			return join(body[:start]), unquote(body[start:i]), join(body[i:])
		}
	}
	if start < 0 {
		return join(body), "", ""
	}
	return join(body[:start]), unquote(body[start:]), ""
}

func join(lines []string) string { return strings.TrimSpace(strings.Join(lines, "\n")) }

func unquote(lines []string) string {
	bare := make([]string, len(lines))
	for i, line := range lines {
		bare[i] = strings.TrimPrefix(strings.TrimPrefix(line, ">"), " ")
	}
	return join(bare)
}

var tag = regexp.MustCompile(`\{\{(classic|modern|end)\}\}`)

// checkTags makes sure that what is for one path only has a beginning and an end.
func checkTags(text string) error {
	open := ""
	for _, m := range tag.FindAllStringSubmatch(text, -1) {
		switch {
		case m[1] != "end" && open != "":
			return fmt.Errorf("{{%s}} inside {{%s}}", m[1], open)
		case m[1] == "end" && open == "":
			return errors.New("{{end}} of nothing")
		case m[1] == "end":
			open = ""
		default:
			open = m[1]
		}
	}
	if open != "" {
		return fmt.Errorf("{{%s}} without {{end}} before the next heading or quote", open)
	}
	return nil
}

// For leaves of a text what is for the paths that are played. Where there are two,
// what is for one says so.
func For(text string, paths ...Path) string {
	var b strings.Builder
	open := Path("")
	played := map[Path]bool{}
	for _, p := range paths {
		played[p] = true
	}
	for {
		at := tag.FindStringSubmatchIndex(text)
		end := len(text)
		if at != nil {
			end = at[0]
		}
		if open == "" || played[open] {
			b.WriteString(text[:end])
		}
		if at == nil {
			return strings.TrimSpace(blankLines.ReplaceAllString(b.String(), "\n\n"))
		}
		switch word := text[at[2]:at[3]]; word {
		case "end":
			open = ""
		default:
			open = Path(word)
			if played[open] && len(paths) > 1 {
				fmt.Fprintf(&b, "(%s) ", open)
			}
		}
		text = text[at[1]:]
		if open != "" {
			text = strings.TrimPrefix(text, "\n")
		}
	}
}

var blankLines = regexp.MustCompile(`\n{3,}`)
