// Testreport reads what `go test -json` writes, from one run or several, and
// writes what a person wants to see of it: a line a package, everything that a
// failed test said, which tests were skipped and why, and the sums. Of the
// end-to-end tests, which say what they ran on, there is a row of docs/tested.md
// for each path.
//
// It exits with 1 when a test failed or none ran; and with -strict when one was
// skipped for another reason than one that begins with "not on this host:" or
// "not on this path:".
//
// A line that isn't JSON is passed on as it is.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

func main() {
	strict := flag.Bool("strict", false, "a skipped test is a failure")
	flag.Parse()
	r := report{out: os.Stdout, strict: *strict}
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
	if !r.end() {
		os.Exit(1)
	}
}

// excuse begins the reason of a skip that is none of the project's fault.
var excuse = regexp.MustCompile(`^not on this (host|path):`)

// event is a line of `go test -json`: see `go doc test2json`.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// test is a test of a package; with no name, what the package itself says.
type test struct{ pkg, name string }

type skip struct {
	test
	reason string
}

// report is what was read so far.
type report struct {
	out    io.Writer
	strict bool

	output         map[test][]string // of the tests that haven't ended yet
	rows           []*row
	broken         map[string]bool // packages with a failed test
	passed, failed int             // a package that fails without a failed test counts as one
	skipped        []skip
}

func (r *report) read(in io.Reader) error {
	r.output, r.broken = map[test][]string{}, map[string]bool{}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			r.line(line)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read tests' output: %w", err)
		}
	}
}

func (r *report) line(line string) {
	var e event
	if !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &e) != nil {
		fmt.Fprint(r.out, line)
		return
	}
	t := test{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "output":
		if host, ok := strings.CutPrefix(e.Output, "host: "); ok && e.Test == "" {
			r.addRows(e.Package, strings.TrimSpace(host))
			return
		}
		r.output[t] = append(r.output[t], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.packageEnd(t, e.Action)
		} else {
			r.testEnd(t, e.Action)
		}
	}
}

func (r *report) testEnd(t test, action string) {
	r.count(t, action)
	switch action {
	case "pass":
		r.passed++
	case "fail":
		r.failed++
		r.broken[t.pkg] = true
		fmt.Fprint(r.out, strings.Join(r.output[t], ""))
	case "skip":
		r.skipped = append(r.skipped, skip{t, reason(r.output[t])})
	}
	delete(r.output, t)
}

// packageEnd writes a package's line and, when it failed, all that is left of
// it: a panic's trace, and the tests that were cut off.
func (r *report) packageEnd(t test, action string) {
	if action == "fail" {
		if !r.broken[t.pkg] {
			r.failed++
		}
		delete(r.broken, t.pkg)
		for cut, output := range r.output {
			if cut.pkg == t.pkg && cut != t {
				fmt.Fprint(r.out, strings.Join(output, ""))
				delete(r.output, cut)
			}
		}
	}
	for _, line := range r.output[t] {
		if action != "skip" && line != "PASS\n" { // skipped: it has no tests
			fmt.Fprint(r.out, line)
		}
	}
	delete(r.output, t)
}

// logged is a line that a test logged, "    file_test.go:12: text", or a script.
var logged = regexp.MustCompile(`^\s*\S+\.(?:go|sh):\d+: (.*)`)

// reason is what t.Skip was told: the last thing the test logged.
func reason(output []string) string {
	for _, line := range slices.Backward(output) {
		// testscript logs a scenario's surroundings behind that.
		if m := logged.FindStringSubmatch(line); m != nil && m[1] != "" && !strings.HasPrefix(m[1], "WORK=") {
			return m[1]
		}
	}
	return "no reason given"
}

// end writes the summary and reports whether all is well.
func (r *report) end() bool {
	ok := r.failed == 0
	for _, s := range r.skipped {
		verdict := "skipped:"
		if r.strict && !excuse.MatchString(s.reason) {
			verdict, ok = "skipped, and must not be:", false
		}
		fmt.Fprintf(r.out, "%s %s %s: %s\n", verdict, s.pkg, s.name, s.reason)
	}
	for _, row := range r.rows {
		fmt.Fprintf(r.out, "| %s | %s | %d | %d | %s |\n", row.host, row.path, row.passed, row.failed, row.skips())
	}
	if r.passed+r.failed == 0 {
		fmt.Fprintln(r.out, "no test ran")
		ok = false
	}
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, len(r.skipped))
	return ok
}
