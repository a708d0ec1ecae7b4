package trace

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Style is how an event is written for a person.
type Style struct {
	Color bool // ANSI colours
}

// ANSI sequences of the three things that stand out.
const (
	bold  = "\x1b[1m"
	dim   = "\x1b[2m"
	red   = "\x1b[31m"
	cyan  = "\x1b[36m"
	reset = "\x1b[0m"
)

func (s Style) paint(color, text string) string {
	if !s.Color || text == "" {
		return text
	}
	return color + text + reset
}

// Text writes the event as lines for a terminal: a headline
//
//	7  union.mount       1.2ms  aufs/aufs.go:41   layers=1 rootfs=/var/…
//
// then its evidence, indented, each piece below the place it was read from.
func (s Style) Text(e Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s %s  %s",
		s.paint(dim, fmt.Sprintf("%2d", e.Seq)),
		s.paint(bold+cyan, fmt.Sprintf("%-18s", e.Step)),
		fmt.Sprintf("%8s", Short(e.Duration)),
		s.paint(dim, e.Source))
	for _, name := range slices.Sorted(maps.Keys(e.Values)) {
		fmt.Fprintf(&b, " %s%v", s.paint(dim, name+"="), e.Values[name])
	}
	b.WriteByte('\n')
	if e.Error != "" {
		fmt.Fprintf(&b, "      %s\n", s.paint(red, "failed: "+e.Error))
	}
	for _, ev := range e.Evidence {
		fmt.Fprintf(&b, "      %s\n", s.paint(dim, ev.Kind+" · "+ev.From))
		for line := range strings.Lines(ev.Text) {
			fmt.Fprintf(&b, "        %s\n", strings.TrimRight(line, "\n"))
		}
	}
	return b.String()
}

// Short writes a duration with about three digits: 1.24ms, 310µs, 2.05s.
func Short(d time.Duration) string {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	default:
		return d.Round(time.Microsecond).String()
	}
}
