package dockerd2013

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"docker2013/container"
	"docker2013/rcli"
)

// CmdPs lists containers, newest first.
func (d *Daemon) CmdPs(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "ps")
	format := f.String("format", "", "Write each with this Go template, or as json")
	var filters filterFlag
	f.Var(&filters, "filter", "Only those with name=, id=, status=running|paused|exited, label=KEY[=VALUE], path= or ancestor=")
	quiet := f.Bool("q", false, "Only display numeric IDs")
	all := f.Bool("a", false, "Show all containers, not only running ones")
	full := f.Bool("notrunc", false, "Don't truncate output")
	if err := f.parse(0, 0); err != nil {
		return err
	}
	now := time.Now()
	if *format != "" {
		return d.psFormat(c, *format, filters, *all)
	}
	w := table(c.Stdout, 12)
	if !*quiet {
		row(w, "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "COMMENT")
	}
	for _, ctr := range d.Containers.List() {
		r := ctr.Record()
		switch {
		case !r.State.Running && !*all && !filters.has("status") || !filters.match(ctr, r):
		case *quiet:
			fmt.Fprintln(w, r.Id)
		default:
			row(w, r.Id, ctr.UserData("image"), commandColumn(r, *full), ago(now, r.Created),
				r.State.Status(now), printable(ctr.UserData("comment")))
		}
	}
	return w.Flush()
}

// commandColumn is the command line, cut to 20 bytes unless full. Without
// arguments it ends in a space, as in 2013: it counts for the column's width.
func commandColumn(r container.Record, full bool) string {
	line := r.Path + " " + strings.Join(r.Args, " ")
	if !full && len(line) > 20 {
		line = line[:20]
	}
	return printable(line)
}

// printable keeps a cell in its cell: no tab, line break or escape sequence
// that a container's author chose reaches the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// aligned is the aligned table of 2013. It is sent as one: tabwriter writes cell
// by cell, and each write to a client is a system call, or a frame.
type aligned struct {
	*tabwriter.Writer
	out *bufio.Writer
}

// table begins a table with cells at least width wide, 3 spaces apart.
func table(w io.Writer, width int) *aligned {
	out := bufio.NewWriterSize(w, 64<<10)
	return &aligned{tabwriter.NewWriter(out, width, 1, 3, ' ', 0), out}
}

// Flush sends the table.
func (a *aligned) Flush() error { return errors.Join(a.Writer.Flush(), a.out.Flush()) }

// row writes a table's row; errors are kept by the writer until its Flush.
func row(w io.Writer, cells ...string) { fmt.Fprintln(w, strings.Join(cells, "\t")) }

func ago(now, t time.Time) string { return container.HumanDuration(now.Sub(t)) + " ago" }

// CmdStop asks containers to end, and kills them if they don't.
func (d *Daemon) CmdStop(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "stop")
	seconds := graceFlag(f)
	if err := f.parse(1, -1); err != nil {
		return err
	}
	if *seconds < -1 {
		return rcli.Exitf(rcli.StatusOurs, "stop -t %d: say how many seconds to wait", *seconds)
	}
	return d.each(f.Args(), func(ctr *container.Container) error {
		if err := ctr.Stop(ctx, grace(ctr, *seconds)); err != nil {
			return err
		}
		_, err := fmt.Fprintln(c.Stdout, ctr.Id())
		return err
	})
}

// graceFlag adds -t; -1 is what it is when it isn't given.
func graceFlag(f *flagSet) *int {
	seconds := -1
	listFlag(f, "t", "`SECONDS` to wait before SIGKILL (default: the container's, or 10)", func(s string) (err error) {
		seconds, err = strconv.Atoi(s)
		return err
	})
	return &seconds
}

// grace is how long a container has to end: as asked for, as it was made, or 10 s.
func grace(ctr *container.Container, seconds int) time.Duration {
	if seconds < 0 {
		seconds = ctr.Record().Config.StopTimeout
		if seconds == 0 {
			return Grace
		}
	}
	return time.Duration(seconds) * time.Second
}

// CmdRestart stops containers, if they run, and starts them.
func (d *Daemon) CmdRestart(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "restart")
	seconds := graceFlag(f)
	if err := f.parse(1, -1); err != nil {
		return err
	}
	return d.each(f.Args(), func(ctr *container.Container) error {
		if err := ctr.Stop(ctx, grace(ctr, *seconds)); err != nil {
			return err
		}
		if err := ctr.Start(ctx); err != nil {
			return ended(rcli.StatusOurs, err)
		}
		_, err := fmt.Fprintln(c.Stdout, ctr.Id())
		return err
	})
}

// CmdRename gives a container another name.
func (d *Daemon) CmdRename(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "rename")
	if err := f.parse(2, 2); err != nil {
		return err
	}
	ctr, err := d.find(f.Arg(0))
	if err != nil {
		return err
	}
	if f.Arg(1) == "" {
		return rcli.Exitf(rcli.StatusOurs, "rename: say a name")
	}
	return d.Containers.Rename(ctr, f.Arg(1))
}

// CmdKill sends a signal. After SIGKILL it returns when the container is gone.
func (d *Daemon) CmdKill(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "kill")
	name := f.String("s", "KILL", "Signal to send: KILL, SIGHUP, 15")
	if err := f.parse(1, -1); err != nil {
		return err
	}
	sig, err := parseSignal(*name)
	if err != nil {
		return rcli.Exitf(rcli.StatusOurs, "kill: %w", err)
	}
	return d.each(f.Args(), func(ctr *container.Container) error {
		if err := ctr.Kill(sig); err != nil {
			return err
		}
		if sig == syscall.SIGKILL { // none refuses: whoever asks next finds it ended
			patient, cancel := context.WithTimeout(ctx, Grace)
			defer cancel()
			if _, err := ctr.Wait(patient); err != nil {
				return fmt.Errorf("kill container %s: it has not ended: %w", ctr.Id(), err)
			}
		}
		_, err := fmt.Fprintln(c.Stdout, ctr.Id())
		return err
	})
}

func parseSignal(name string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(name); err == nil {
		if n < 1 || n > 64 {
			return 0, fmt.Errorf("signal %d: there are 1 to 64", n)
		}
		return syscall.Signal(n), nil
	}
	sig := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(name), "SIG"))
	if sig == 0 {
		return 0, fmt.Errorf("no signal %q: say KILL, HUP, TERM, …", name)
	}
	return sig, nil
}

// CmdWait blocks until containers have ended and prints their exit codes.
func (d *Daemon) CmdWait(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "wait")
	if err := f.parse(1, -1); err != nil {
		return err
	}
	return d.each(f.Args(), func(ctr *container.Container) error {
		code, err := ctr.Wait(ctx)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.Stdout, code)
		return err
	})
}

// CmdPause stops all processes of containers where they are.
func (d *Daemon) CmdPause(ctx context.Context, c *rcli.Call) error {
	return d.eachPrinted(c, "pause", (*container.Container).Pause)
}

// CmdUnpause lets them go on.
func (d *Daemon) CmdUnpause(ctx context.Context, c *rcli.Call) error {
	return d.eachPrinted(c, "unpause", (*container.Container).Unpause)
}

// eachPrinted is a command without flags that does something to each container
// and prints its id.
func (d *Daemon) eachPrinted(c *rcli.Call, name string, do func(*container.Container) error) error {
	f := flags(c, name)
	if err := f.parse(1, -1); err != nil {
		return err
	}
	return d.each(f.Args(), func(ctr *container.Container) error {
		if err := do(ctr); err != nil {
			return err
		}
		_, err := fmt.Fprintln(c.Stdout, ctr.Id())
		return err
	})
}

// CmdRm stops containers and removes all that is theirs.
func (d *Daemon) CmdRm(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "rm")
	if err := f.parse(1, -1); err != nil {
		return err
	}
	return d.each(f.Args(), func(ctr *container.Container) error {
		err := ctr.Stop(ctx, Grace)
		if err == nil {
			err = d.Containers.Remove(ctx, ctr)
		}
		if err != nil && !errors.Is(err, container.ErrRemoved) {
			return fmt.Errorf("Error destroying container %s: %w", ctr.Id(), err) // a text of 2013
		}
		return nil
	})
}

// CmdLogs shows what a container has written: all of stdout, then all of stderr.
func (d *Daemon) CmdLogs(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "logs")
	follow := f.Bool("f", false, "Go on until the container ends")
	if err := f.parse(1, 1); err != nil {
		return err
	}
	ctr, err := d.find(f.Arg(0))
	if err != nil {
		return err
	}
	return ctr.Logs(ctx, c.Stdout, c.Stderr, *follow)
}
