package compare

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// fastest is the smallest median until the end, that ratios are of.
func fastest(results []Result) float64 {
	best := 0.0
	for _, r := range results {
		if r.Failed == "" && (best == 0 || r.Exit.Median < best) {
			best = r.Exit.Median
		}
	}
	return best
}

var costHead = []string{"runtime", "start ms", "exit ms", "spread", "ratio", "memory", "processes", "system calls"}

func costRow(r Result, best float64) []string {
	number := func(n int) string {
		if n < 0 {
			return "?"
		}
		return strconv.Itoa(n)
	}
	memory := "?"
	if r.Memory >= 0 {
		memory = fmt.Sprintf("%.1f MB", float64(r.Memory)/(1<<20))
	}
	return []string{
		r.Name, fmt.Sprintf("%.1f", 1000*r.Start.Median), fmt.Sprintf("%.1f", 1000*r.Exit.Median),
		fmt.Sprintf("%.1f–%.1f", 1000*r.Exit.Low, 1000*r.Exit.High), fmt.Sprintf("%.2f", r.Exit.Median/best),
		memory, number(r.Processes), number(r.Syscalls),
	}
}

var isolationHead = append(append([]string{"runtime"}, namespaces...), "capabilities", "bounding", "seccomp", "no new privs", "masked", "read-only")

func isolationRow(r Result) []string {
	yes := map[bool]string{true: "yes", false: "–"}
	row := []string{r.Name}
	for _, ns := range namespaces {
		if r.Isolation.Kernel {
			row = append(row, "kernel")
			continue
		}
		row = append(row, yes[slices.Contains(r.Isolation.Namespaces, ns)])
	}
	return append(row, strconv.Itoa(r.Isolation.Capabilities), strconv.Itoa(r.Isolation.Bounding), yes[r.Isolation.Seccomp],
		yes[r.Isolation.NoNewPrivs], strconv.Itoa(len(r.Isolation.Masked)), strconv.Itoa(len(r.Isolation.ReadOnly)))
}

// tables are the two tables' rows, heads first, and what is to be said of who is in
// neither.
func tables(results []Result) (costs, isolation [][]string, absent []string) {
	costs, isolation = [][]string{costHead}, [][]string{isolationHead}
	best := fastest(results)
	for _, r := range results {
		if r.Failed != "" {
			absent = append(absent, fmt.Sprintf("%s: %s", r.Name, r.Failed))
			continue
		}
		costs = append(costs, costRow(r, best))
		if r.Isolation != nil {
			isolation = append(isolation, isolationRow(r))
		}
	}
	return costs, isolation, absent
}

// notes say what the columns are.
const notes = "start: until the program's first word is here; exit: until the command is back (medians; spread: quartiles;\n" +
	"ratio: to the fastest). memory: PSS of what a running container needs beside its own program.\n" +
	"Namespaces: yes where it isn't the host's; kernel where all the kernel is another one."

// Text writes the tables for a terminal.
func Text(w io.Writer, results []Result) error {
	costs, isolation, absent := tables(results)
	for _, table := range [][][]string{costs, isolation} {
		tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		for _, row := range table {
			fmt.Fprintln(tw, strings.Join(row, "\t"))
		}
		if err := tw.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	for _, line := range absent {
		fmt.Fprintln(w, line)
	}
	for _, r := range results {
		if r.Failed == "" && r.About != "" {
			fmt.Fprintf(w, "%s: %s\n", r.Name, r.About)
		}
	}
	_, err := fmt.Fprintf(w, "\n%s\n", notes)
	return err
}

// Markdown writes them for a document.
func Markdown(w io.Writer, results []Result) error {
	costs, isolation, absent := tables(results)
	for _, table := range [][][]string{costs, isolation} {
		for i, row := range table {
			fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
			if i == 0 {
				fmt.Fprintf(w, "|%s\n", strings.Repeat(" --- |", len(row)))
			}
		}
		fmt.Fprintln(w)
	}
	for _, line := range absent {
		fmt.Fprintf(w, "- %s\n", line)
	}
	_, err := fmt.Fprintf(w, "\n%s\n", notes)
	return err
}
