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
	return b.String() + footer
}

const header = `# What holds, and what didn't in 2013

%d tries to get out of a container, or to change what is outside, each made in a real
container of each path, by root, with default settings. ` + "`go test ./e2e -run TestTrust`" + ` makes
them all, and makes those from inside under runc with Docker's default settings too:
whatever runc refuses, the modern path must refuse. By exec the answers must be the same,
and with --userns auto nothing more may be allowed.

An answer is "allowed", the name of an errno, or what was found. Classic is the container
of 2013 on the LXC of today, which closes some of what LXC left open then: keyrings,
links in an image.

This file is written from the test's table (package e2e/trust), with ` + "`-update`" + `.
`

const footer = `
## Root, and nobody

In the table root inside is root outside, as with Docker's defaults: what stands between
the two are capabilities, the filter and what is masked. ` + "`run --userns auto`" + ` (modern path)
puts something behind these: a user namespace in which the container's ids 0 to 65535 are
ids of the host that nobody has, a range for each container, out of the daemon's
` + "`--userns-range`" + `. The layers and the container's own branch are mounted with their owners
mapped (Linux 5.19, mount_setattr(2)): on the disk root's file stays root's, so diff,
commit, tar and cp speak of owners as the container does. There are no device nodes but
the host's, bind-mounted, and none can be made. What is mounted with -v keeps its owners,
and is nobody's inside.

An engine's bundle (` + "`docker2013 oci`" + `, podman's ` + "`--uidmap`" + `) brings ids of its own, and a root
file system that is theirs already: there, as under runc, no mount maps owners. A device
must be in the host's /dev. Who joins such a container's namespaces joins the user's last,
since it takes his privileges for all others.

` + "`docker2013 --rootless run …`" + ` is for who isn't root at all: the client starts a daemon of
the user's own, which is root of a user namespace, below ~/.local/share/docker2013. It has
the modern path only, no cgroups, so no limits, no pause and no statistics, and no AppArmor
profile, which only root can load. Without newuidmap (the package uidmap) and a line in
/etc/subuid and /etc/subgid it has one user and one group only: images with files of others
can't be unpacked then, and -u takes 0 alone. It goes on until it is ended: its PID is in the file lock.
`
