// Command docker2013 is the client: it turns its command line into the one that
// Docker had in January 2013, and has the daemon run it.
package main

import (
	"context"
	"os"

	"golang.org/x/term"

	"docker2013/cli2013"
)

func main() {
	a := &app{
		client:      cli2013.Client{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, NoRaw: os.Getenv("NORAW") != ""},
		stdinIsTTY:  isTerminal(os.Stdin),
		stdoutIsTTY: isTerminal(os.Stdout),
		stderrIsTTY: isTerminal(os.Stderr),
		getenv:      os.Getenv,
	}
	a.call, a.output = a.client.Run, a.client.Output
	os.Exit(a.run(context.Background(), os.Args[1:]))
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
