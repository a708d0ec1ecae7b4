package dockerd2013

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

	"docker2013/rcli"
)

// CmdMirror sends standard input back.
func (d *Daemon) CmdMirror(ctx context.Context, c *rcli.Call) error {
	if err := flags(c, "mirror").parse(0, -1); err != nil {
		return err
	}
	_, err := io.Copy(c.Stdout, c.Stdin)
	return err
}

// CmdDebug writes standard input to the daemon's log, a line at a time.
func (d *Daemon) CmdDebug(ctx context.Context, c *rcli.Call) error {
	if err := flags(c, "debug").parse(0, -1); err != nil {
		return err
	}
	lines := bufio.NewReader(io.LimitReader(c.Stdin, 1<<20)) // a log is no store
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			d.Log.Info("debug", "line", strings.TrimSuffix(line, "\n"))
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// CmdWeb writes the web page. In 2013 -u named the wrong port, 4242.
func (d *Daemon) CmdWeb(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "web")
	address := f.Bool("u", false, "Print the page's address")
	if err := f.parse(0, 0); err != nil {
		return err
	}
	if *address {
		page := "http://" + d.HTTP + "/"
		if strings.HasPrefix(d.HTTP, "/") { // a rootless daemon's
			page = rcli.UnixPrefix + d.HTTP
		}
		_, err := fmt.Fprintln(c.Stdout, page)
		return err
	}
	_, err := c.Stdout.Write(page)
	return err
}
