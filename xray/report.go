package xray

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Film is the X-ray of one container.
type Film struct {
	Path  string // "classic" or "modern"
	Maker string // who made the calls
	Total int    // how many calls were recorded of it
	Deeds []Deed
}

// Print shows a film, an idea after the other. source resolves a symbol of ours to a
// file and line; nil, or "", leaves it out.
func Print(w io.Writer, f Film, source func(symbol string) string) error {
	p := printer{w: w}
	p.line("%s: %s made %d calls that are recorded here; these made the container what it is.", f.Path, f.Maker, f.Total)
	for _, idea := range Ideas {
		var list []Deed
		for _, d := range f.Deeds {
			if d.Idea == idea {
				list = append(list, d)
			}
		}
		p.idea(idea, list, "", source)
	}
	return p.err
}

// PrintBoth shows two films side by side: what both do, and what only one does.
func PrintBoth(w io.Writer, a, b Film, source func(symbol string) string) error {
	p := printer{w: w}
	p.line("%s: %s, %d calls. %s: %s, %d calls.", a.Path, a.Maker, a.Total, b.Path, b.Maker, b.Total)
	for _, idea := range Ideas {
		both, only := compare(of(idea, a.Deeds), of(idea, b.Deeds))
		p.idea(idea, both, "both", source)
		p.group(only[0], a.Path+" only", nil)
		p.group(only[1], b.Path+" only", source)
	}
	return p.err
}

func of(idea Idea, deeds []Deed) (list []Deed) {
	for _, d := range deeds {
		if d.Idea == idea {
			list = append(list, d)
		}
	}
	return list
}

// compare sorts deeds into those of both, as b did them, and those of one alone. Lists
// in the words, of capabilities or hierarchies, are compared as sets.
func compare(a, b []Deed) (both []Deed, only [2][]Deed) {
	key := func(d Deed) string {
		fields := strings.Fields(d.Words)
		slices.Sort(fields)
		return strings.Join(fields, " ")
	}
	rest := slices.Clone(b)
	for _, d := range a {
		if i := slices.IndexFunc(rest, func(x Deed) bool { return key(x) == key(d) }); i >= 0 {
			both = append(both, rest[i])
			rest = slices.Delete(rest, i, i+1)
		} else {
			only[0] = append(only[0], d)
		}
	}
	only[1] = rest
	return both, only
}

type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) idea(idea Idea, list []Deed, label string, source func(string) string) {
	p.line("\n%s", strings.ToUpper(string(idea)))
	if len(list) == 0 && label == "" {
		p.line("  nothing")
	}
	p.group(list, label, source)
}

func (p *printer) group(list []Deed, label string, source func(string) string) {
	if label != "" && len(list) > 0 {
		p.line("  %s", label)
	}
	for _, d := range list {
		p.line("  • %s", wrap(d.Words, 92, "    "))
		about := fmt.Sprintf("%s ×%d", strings.Join(d.Calls, " "), d.Count)
		if d.Count == 1 {
			about = d.Calls[0]
		}
		if d.Detail != "" {
			about += "   " + d.Detail
		}
		if source != nil && d.Source != "" {
			if at := source(d.Source); at != "" {
				about += "   " + at
			}
		}
		p.line("      %s", wrap(about, 90, "      "))
	}
}

// wrap breaks a text at spaces.
func wrap(s string, width int, indent string) string {
	var b strings.Builder
	column := 0
	for i, word := range strings.Split(s, " ") {
		switch n := len([]rune(word)); {
		case i > 0 && column+1+n > width:
			b.WriteString("\n" + indent + word)
			column = n
		case i > 0:
			b.WriteString(" " + word)
			column += 1 + n
		default:
			b.WriteString(word)
			column = n
		}
	}
	return b.String()
}
