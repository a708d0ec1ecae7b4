package rcli

import (
	"flag"
	"io"
)

// parseFlags takes the service's flags off the front of args. The call is never
// nil: after an error it tells whether -framed was read before it. What the flag
// package has to say, the service's help after it, goes to w.
func parseFlags(args []string, help func() string, w io.Writer) (*Call, error) {
	c := &Call{}
	fs := flag.NewFlagSet("docker2013", flag.ContinueOnError)
	fs.BoolVar(&c.Framed, "framed", false, "frames in both directions")
	fs.BoolVar(&c.Trace, "trace", false, "send the call's trace events")
	fs.BoolVar(&c.Progress, "progress", false, "draw progress on stderr")
	fs.SetOutput(w)
	fs.Usage = func() { io.WriteString(w, help()) }
	if err := fs.Parse(args); err != nil {
		return c, err
	}
	c.Args = fs.Args()
	if len(c.Args) == 0 {
		c.Args = []string{"help"}
	}
	return c, nil
}
