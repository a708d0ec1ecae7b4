// Package trust is a table of what a program in a container may try, and of what
// it must get for an answer on each path.
//
// The rows of [Probes] are tried inside, by the program in the folder probe, which
// links this package; those of [Setups] from outside, by a hostile image or command
// line. docs/trust.md is the same table for readers. A test holds all of it, and
// compares the modern path with runc under Docker's default settings.
//
// An answer is "allowed", the name of an errno, or a word for what was found. Where
// it depends on the kernel's configuration there are several, with | between them.
package trust

import (
	"fmt"
	"strings"
)

// Allowed is the answer when what was tried was done.
const Allowed = "allowed"

// Probe is one try from inside.
type Probe struct {
	Name            string
	Tries           string       // what, for a reader
	Do              func() error // nil: allowed
	Classic, Modern string       // the answers
	Worse           string       // why classic's answer was worse; "": it wasn't
}

// Setup is one try from outside: a shell script on the host, whose last line is the
// answer. It has docker2013 on its PATH, an empty folder $OUT that nothing may get
// into, and its own folder to work in.
type Setup struct {
	Name            string
	Tries           string
	Script          string
	Classic, Modern string
	Worse           string
}

// Section is a group of rows.
type Section struct {
	Title  string
	Probes []Probe
	Setups []Setup
}

// Find finds a probe by its name.
func Find(name string) (Probe, bool) {
	for _, s := range Table {
		for _, p := range s.Probes {
			if p.Name == name {
				return p, true
			}
		}
	}
	return Probe{}, false
}

// Is tells whether an answer is one of those wanted.
func Is(answer, wanted string) bool {
	for w := range strings.SplitSeq(wanted, "|") {
		if answer == w {
			return true
		}
	}
	return false
}

// Document is the table for readers, in Markdown.
func Document() string {
	var b strings.Builder
	n := 0
	for _, s := range Table {
		n += len(s.Probes) + len(s.Setups)
	}
	fmt.Fprintf(&b, header, n)
	for _, s := range Table {
		fmt.Fprintf(&b, "\n## %s\n\n| try | classic | modern | where classic was worse |\n| --- | --- | --- | --- |\n", s.Title)
		row := func(name, tries, classic, modern, worse string) {
			answer := func(s string) string { return strings.ReplaceAll(s, "|", " or ") }
			fmt.Fprintf(&b, "| **%s**: %s | %s | %s | %s |\n", name, tries, answer(classic), answer(modern), worse)
		}
		for _, p := range s.Probes {
			row(p.Name, p.Tries, p.Classic, p.Modern, p.Worse)
		}
		for _, p := range s.Setups {
			row(p.Name, p.Tries, p.Classic, p.Modern, p.Worse)
		}
	}
	return b.String()
}

const header = `# What holds, and what didn't in 2013

%d tries to get out of a container, or to change what is outside, each made in a real
container of each path, by root, with default settings. ` + "`go test ./e2e -run TestTrust`" + ` makes
them all, and makes those from inside under runc with Docker's default settings too:
whatever runc refuses, the modern path must refuse.

This file is written from the test's table (package e2e/trust), with ` + "`-update`" + `.
`
