// Package doctor checks whether this host can run containers, and says what is
// missing, what degrades without it and what to do.
//
// It works in three steps, so that its judgement can be tested without a second
// host: [Gather] reads the facts and judges nothing; [Judge] is a pure function
// from the facts to a [Report]; the report is then written as text or JSON.
//
// # Verdicts
//
// A check is ok, degraded (containers run, with something less) or missing. A
// check names the paths that need it: a path runs when none of its checks is
// missing. Checks that can't be made without root say so.
//
// Gather changes nothing that lasts: it starts /bin/true in new namespaces, asks
// the kernel for an overlay that is never mounted anywhere, opens the daemon's
// ports and closes them at once.
package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Options says which daemon the host is checked for, and how to answer.
type Options struct {
	Root   string    // the daemon's --root; "": /var/lib/docker
	TCP    string    // its --tcp; "": 127.0.0.1:4242
	HTTP   string    // its --http; "": 127.0.0.1:8080
	Format string    // "text" or "json"; "": text
	Out    io.Writer // where the report goes
	Color  bool      // text with ANSI colours
}

// Run checks the host and writes the report. ok says that every path can run;
// err is that the report couldn't be made or written.
func Run(ctx context.Context, o Options) (ok bool, err error) {
	if o.Format != "" && o.Format != "text" && o.Format != "json" {
		return false, fmt.Errorf("doctor: format %q is neither text nor json", o.Format)
	}
	report := Judge(Gather(ctx, o))
	if o.Format == "json" {
		err = report.JSON(o.Out)
	} else {
		err = report.Text(o.Out, o.Color)
	}
	if err != nil {
		return false, fmt.Errorf("doctor: write report: %w", err)
	}
	return report.OK(), nil
}

// Status is the outcome of a check.
type Status string

// The three outcomes.
const (
	OK       Status = "ok"
	Degraded Status = "degraded" // containers run, with something less
	Missing  Status = "missing"  // the paths that need it can't run
)

// The two paths.
const (
	Classic = "classic" // January 2013: AUFS, LXC
	Modern  = "modern"  // today: overlayfs, our own runtime
)

// Check is one thing that was looked at.
type Check struct {
	Name    string   `json:"name"`
	Status  Status   `json:"status"`
	Found   string   `json:"found"`
	Without string   `json:"without,omitempty"` // what degrades; "" when ok
	Fix     string   `json:"fix,omitempty"`     // what to do; "" when ok
	Needed  []string `json:"needed,omitempty"`  // the paths that can't run while it is missing
}

// Verdict is whether a path can run on this host.
type Verdict struct {
	Path    string   `json:"path"`
	OK      bool     `json:"ok"`
	Missing []string `json:"missing,omitempty"` // names of the checks that stand in the way
}

// Report is the outcome of all checks.
type Report struct {
	Checks []Check   `json:"checks"`
	Paths  []Verdict `json:"paths"`
}

// OK reports whether every path can run.
func (r Report) OK() bool {
	for _, v := range r.Paths {
		if !v.OK {
			return false
		}
	}
	return true
}

// JSON writes the report as one indented object.
func (r Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "    ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// Text writes a line a check and, below one that isn't ok, what degrades and
// what to do; then a line a path.
func (r Report) Text(w io.Writer, color bool) error {
	var b strings.Builder
	paint := func(s Status, text string) string {
		if !color {
			return text
		}
		return map[Status]string{OK: "\x1b[32m", Degraded: "\x1b[33m", Missing: "\x1b[31m"}[s] + text + "\x1b[0m"
	}
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "%-15s %s  %s\n", c.Name, paint(c.Status, fmt.Sprintf("%-8s", c.Status)), c.Found)
		if c.Without != "" {
			fmt.Fprintf(&b, "%25s without it: %s\n", "", c.Without)
		}
		if c.Fix != "" {
			fmt.Fprintf(&b, "%25s what to do: %s\n", "", c.Fix)
		}
	}
	b.WriteByte('\n')
	for _, v := range r.Paths {
		if v.OK {
			fmt.Fprintf(&b, "The %s path %s on this host.\n", v.Path, paint(OK, "runs"))
		} else {
			fmt.Fprintf(&b, "The %s path %s on this host: %s.\n", v.Path, paint(Missing, "can't run"), strings.Join(v.Missing, ", "))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
