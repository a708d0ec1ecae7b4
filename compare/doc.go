// Package compare runs the same job on every container runtime of this host, in
// turns, and says what each costs and how it isolates.
//
//	Job: a shell that says one word. Started: its word is here. Ended: the command is.
//
// What is measured is what a person sees: the command line, from its start. The
// rounds are interleaved, so that the machine's mood hits all alike; medians are told
// with their spread, and ratios are of medians of one run.
package compare

import (
	"context"
	"os/exec"
	"time"
)

// Runtime is a way to run a program in a container.
type Runtime struct {
	Name  string
	About string // its version, or what is special here
	// Missing says why it can't take part; "" if it can.
	Missing string
	// Command makes the command line that runs a program in a new container. n is
	// different each time.
	Command func(n int, program ...string) *exec.Cmd
	// Daemons are the processes that work for it beside the command, as of now.
	Daemons func(ctx context.Context) []int
	// Slow: one that is run less often.
	Slow bool
	// Machine: one with a kernel of its own.
	Machine bool
}

// Result is what was measured of one.
type Result struct {
	Name, About string
	Failed      string `json:",omitempty"` // why there is nothing else

	Start, Exit Times      // until the program's first word, and until the command's end
	Memory      int64      // bytes (PSS) of the processes that a running container needs beside its own program; -1: unknown
	Processes   int        // how many those are; -1: unknown
	Syscalls    int        // of the command and its daemons for one run; -1: unknown
	Isolation   *Isolation `json:",omitempty"`
}

// Times are those of one thing, in seconds.
type Times struct {
	Median, Low, High float64 // low and high: the quartiles
	Runs              int
}

// Isolation is what a program in the container finds of itself.
type Isolation struct {
	Namespaces   []string // that are not the host's
	Capabilities int      // in the effective set
	Bounding     int      // in the bounding set
	NoNewPrivs   bool
	Seccomp      bool
	Masked       []string // paths of the kernel's that are covered
	ReadOnly     []string // and that can only be read
	Kernel       bool     // it has its own, and the rest is what it finds there
}

// patience is the most that one run may take.
const patience = 2 * time.Minute
