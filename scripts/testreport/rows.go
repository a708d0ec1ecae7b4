package main

import (
	"fmt"
	"slices"
	"strings"
)

// row is a line of docs/tested.md: how the scenarios of a path went on a host.
type row struct {
	pkg, host, path string
	prefix          string // of its tests' names
	passed, failed  int
	skipped         []string // why
}

// addRows begins the rows of a package whose tests have said what they run on,
// "host: KERNEL | CGROUPS | LSM | LXC".
func (r *report) addRows(pkg, host string) {
	r.rows = append(r.rows,
		&row{pkg: pkg, host: host, path: "classic", prefix: "TestScript/"},
		&row{pkg: pkg, host: host, path: "modern", prefix: "TestModern/"})
}

// count counts a test that has ended, before its output is forgotten.
func (r *report) count(t test, action string) {
	for _, row := range r.rows {
		if t.pkg != row.pkg || !strings.HasPrefix(t.name, row.prefix) {
			continue
		}
		switch action {
		case "pass":
			row.passed++
		case "fail":
			row.failed++
		case "skip":
			row.skipped = append(row.skipped, reason(r.output[t]))
		}
	}
}

func (r *row) skips() string {
	if len(r.skipped) == 0 {
		return "0"
	}
	why := slices.Compact(slices.Sorted(slices.Values(r.skipped)))
	return fmt.Sprintf("%d: %s", len(r.skipped), strings.Join(why, "; "))
}
