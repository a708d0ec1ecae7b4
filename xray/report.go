package xray

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Film is the X-ray of one container.
type Film struct {
	Path  string // "classic" or "modern"
	Maker string // who made the calls
	Total int    // how many calls were recorded of it
	Deeds []Deed
}

// Width is how wide a report is where nobody says how wide a line may be.
const Width = 98

// Sheet is where a report is written.
type Sheet struct {
	W     io.Writer
	Width int // of a line
	// Source resolves a symbol of ours to a place; nil, or "", leaves it out.
	Source func(symbol string) string

	err error
}

// besideFrom is how wide a line must be to have two columns.
const besideFrom = 120

// Print shows a film, an idea after the other.
func (s *Sheet) Print(f Film) error {
	s.say(fmt.Sprintf("%s: %s made %d calls. Those that made the container:", f.Path, f.Maker, f.Total))
	for _, idea := range Ideas {
		s.line("\n" + strings.ToUpper(string(idea)))
		list := of(idea, f.Deeds)
		if len(list) == 0 {
			s.line("  nothing")
		}
		s.group("", list)
	}
	return s.err
}

// PrintBoth shows two films side by side: what both do, and what only one does.
func (s *Sheet) PrintBoth(a, b Film) error {
	s.say(fmt.Sprintf("%s: %s, %d calls. %s: %s, %d calls.", a.Path, a.Maker, a.Total, b.Path, b.Maker, b.Total))
	for _, idea := range Ideas {
		both, onlyA, onlyB := compare(of(idea, a.Deeds), of(idea, b.Deeds))
		s.line("\n" + strings.ToUpper(string(idea)))
		s.group("both", both)
		if s.Width < besideFrom || len(onlyA) == 0 || len(onlyB) == 0 {
			s.group(a.Path+" only", onlyA)
			s.group(b.Path+" only", onlyB)
			continue
		}
		half := (s.Width - 3) / 2
		left, right := s.lines(a.Path+" only", onlyA, half), s.lines(b.Path+" only", onlyB, half)
		for i := range max(len(left), len(right)) {
			l, r := "", ""
			if i < len(left) {
				l = left[i]
			}
			if i < len(right) {
				r = right[i]
			}
			s.line(strings.TrimRight(l+strings.Repeat(" ", max(0, half-utf8.RuneCountInString(l)))+" │ "+r, " "))
		}
	}
	return s.err
}

func of(idea Idea, deeds []Deed) (list []Deed) {
	for _, d := range deeds {
		if d.Idea == idea {
			list = append(list, d)
		}
	}
	return list
}

// compare sorts deeds into those of both, as b did them, and those of one alone. Of a
// deed that is of many things each thing is compared.
func compare(a, b []Deed) (both, onlyA, onlyB []Deed) {
	onlyB = slices.Clone(b)
	for _, d := range a {
		i := slices.IndexFunc(onlyB, func(x Deed) bool { return x.Words == d.Words })
		if i < 0 {
			onlyA = append(onlyA, d)
			continue
		}
		x := onlyB[i]
		onlyB = slices.Delete(onlyB, i, i+1)
		if len(x.Items) == 0 {
			both = append(both, x)
			continue
		}
		ofBoth := func(item string) bool { return slices.Contains(d.Items, item) && slices.Contains(x.Items, item) }
		ofOne := func(item string) bool { return !ofBoth(item) }
		both = append(both, x.only(ofBoth)...)
		onlyA = append(onlyA, d.only(ofOne)...)
		onlyB = slices.Insert(onlyB, i, x.only(ofOne)...)
	}
	return both, onlyA, onlyB
}

// only is the deed with some of its items: none, or one whose count nobody knows.
func (d Deed) only(keep func(item string) bool) []Deed {
	items := slices.DeleteFunc(slices.Clone(d.Items), func(item string) bool { return !keep(item) })
	switch len(items) {
	case 0:
		return nil
	case len(d.Items):
		return []Deed{d}
	}
	d.Items, d.Count = items, 0
	return []Deed{d}
}

func (s *Sheet) line(text string) {
	if s.err == nil {
		_, s.err = fmt.Fprintln(s.W, text)
	}
}

// say writes a text of as many lines as it needs.
func (s *Sheet) say(text string) {
	for _, line := range wrap(text, s.Width, "") {
		s.line(line)
	}
}

func (s *Sheet) group(label string, list []Deed) {
	for _, line := range s.lines(label, list, s.Width) {
		s.line(line)
	}
}

// lines are deeds, each with its calls below it.
func (s *Sheet) lines(label string, list []Deed, width int) (lines []string) {
	if label != "" && len(list) > 0 {
		lines = append(lines, "  "+label)
	}
	for _, d := range list {
		words := strings.Join(append([]string{d.Words}, d.Items...), " ")
		lines = append(lines, wrap("  • "+words, width, "    ")...)
		about := strings.Join(d.Calls, " ")
		if d.Count > 1 {
			about += fmt.Sprintf(" ×%d", d.Count)
		}
		if d.Detail != "" {
			about += "   " + d.Detail
		}
		if s.Source != nil && d.Source != "" {
			if at := s.Source(d.Source); at != "" {
				about += "   " + at
			}
		}
		lines = append(lines, wrap("      "+about, width, "      ")...)
	}
	return lines
}

// wrap breaks a text at spaces; the lines after the first are indented. A word that is
// longer than a line is broken at a comma, or anywhere.
func wrap(s string, width int, indent string) (lines []string) {
	rest := []rune(s)
	for len(rest) > width {
		margin := len(rest) - len([]rune(strings.TrimLeft(string(rest), " ")))
		at := width
		for at > margin && rest[at] != ' ' {
			at--
		}
		if at <= margin {
			at = width
			if comma := strings.LastIndexByte(string(rest[margin:width]), ','); comma > 0 {
				at = margin + utf8.RuneCountInString(string(rest[margin:width])[:comma]) + 1
			}
		}
		lines = append(lines, strings.TrimRight(string(rest[:at]), " "))
		rest = append([]rune(indent), []rune(strings.TrimLeft(string(rest[at:]), " "))...)
	}
	return append(lines, string(rest))
}
