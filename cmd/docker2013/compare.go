package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"docker2013/cli2013"
	"docker2013/compare"
)

// compareCommand is `compare`.
func (a *app) compareCommand() *cobra.Command {
	cmd := newCommand(groupLook, "compare [--runs N] [--plot FILE] [RUNTIME...]", "Compare both paths with this host's other runtimes", arity(0, -1))
	cmd.Long = "Run the same job on both paths and on every container runtime of this host, in\n" +
		"turns, and show what each costs (time, memory, processes, system calls) and how\n" +
		"it isolates the program. RUNTIME is one of these; without, it is all:\n" +
		strings.Join(compare.Names(), ", ") + ".\n" +
		"It needs root, and a daemon on this host."
	cmd.Example = "  sudo $(which docker2013) compare\n  sudo $(which docker2013) compare modern runc crun\n  sudo $(which docker2013) compare --runs 30 --format markdown --plot times.svg"
	f := cmd.Flags()
	runs := f.Int("runs", 10, "how often each is run")
	format := f.String("format", "text", "`text`, json or markdown")
	plot := f.StringArray("plot", nil, "draw the times into a `file`: .svg or .png; may be repeated")
	mustComplete(cmd, "format", "text", "json", "markdown")
	cmd.ValidArgs = compare.Names()
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		for _, name := range args {
			if !slices.Contains(compare.Names(), name) {
				return fmt.Errorf("compare: there is no runtime %s: say %s", name, strings.Join(compare.Names(), ", "))
			}
		}
		write := map[string]func(io.Writer, []compare.Result) error{
			"text": compare.Text, "markdown": compare.Markdown,
			"json": func(w io.Writer, results []compare.Result) error {
				encoder := json.NewEncoder(w)
				encoder.SetIndent("", "  ")
				return encoder.Encode(results)
			},
		}[*format]
		switch {
		case write == nil:
			return fmt.Errorf("compare: --format %s: say text, json or markdown", *format)
		case *runs < 1:
			return fmt.Errorf("compare: --runs %d: say 1 or more", *runs)
		case os.Geteuid() != 0:
			return errors.New("compare: most runtimes want root: use sudo")
		}
		for _, file := range *plot {
			if ext := filepath.Ext(file); ext != ".svg" && ext != ".png" {
				return fmt.Errorf("compare: --plot %s: say a name that ends in .svg or .png", file)
			}
		}
		results, err := a.compare(cmd.Context(), *runs, args)
		if err != nil {
			return fmt.Errorf("compare: %w", err)
		}
		for _, file := range *plot {
			draw := compare.SVG
			if filepath.Ext(file) == ".png" {
				draw = compare.PNG
			}
			if err := a.intoFile(file, func(w io.Writer) error { return draw(w, results) }); err != nil {
				return fmt.Errorf("compare: --plot: %w", err)
			}
		}
		return write(a.client.Stdout, results)
	}
	return cmd
}

// compare lends the other runtimes what is ours: a root file system, and the files
// that describe a container on each path.
func (a *app) compare(ctx context.Context, runs int, only []string) (results []compare.Result, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp("", "docker2013-compare-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	// With the address of ours: the command line of our own paths has none.
	if err := os.Setenv("DOCKER", a.client.Addr); err != nil {
		return nil, err
	}
	setting := compare.Setting{Client: self, Work: work, Only: only, Daemon: func(ctx context.Context) []int {
		list, _ := a.watched(ctx) // none: nothing is counted
		var pids []int
		for _, s := range list {
			if pid, err := strconv.Atoi(s); err == nil {
				pids = append(pids, pid)
			}
		}
		return pids
	}}
	var made []string
	defer func() {
		for _, id := range made {
			_, rerr := a.output(context.WithoutCancel(ctx), "rm", id)
			err = errors.Join(err, rerr)
		}
	}()
	dirs := map[string]string{}
	for _, path := range []string{"classic", "modern"} {
		id, err := a.output(ctx, "create", "-path", path, "base", "/bin/true")
		if err != nil {
			return nil, err
		}
		id = strings.TrimSpace(id)
		made = append(made, id)
		_, err = a.output(ctx, "start", "-a", id)
		if err == nil {
			dirs[path], err = a.output(ctx, "inspect", "-f", "{{.Root}}", id)
		}
		if err != nil {
			return nil, err
		}
		dirs[path] = strings.TrimSpace(dirs[path])
	}
	setting.LXC, setting.Bundle = filepath.Join(dirs["classic"], "config.lxc"), filepath.Join(dirs["modern"], "bundle")
	if _, err := os.Stat(setting.LXC); err != nil {
		return nil, fmt.Errorf("the daemon's files are not here: it must be on this host: %w", err)
	}
	// Mounted by hand, it stays where both descriptions say that it is.
	for _, id := range made {
		if _, err := a.output(ctx, "mount", id); err != nil {
			return nil, err
		}
		defer func() {
			_, uerr := a.output(context.WithoutCancel(ctx), "umount", id)
			err = errors.Join(err, uerr)
		}()
	}
	setting.RootFS = filepath.Join(dirs["modern"], "rootfs")
	setting.Tar = func(w io.Writer) error {
		if status := a.call(ctx, cli2013.Call{Args: []string{"tar", made[1]}, Stdout: w}); status != 0 {
			return fmt.Errorf("tar: status %d", status)
		}
		return nil
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	list, undo := compare.Find(ctx, setting)
	defer func() { err = errors.Join(err, undo()) }()
	say := func(string) {}
	if a.stderrIsTTY {
		say = func(text string) { fmt.Fprintf(a.client.Stderr, "\r\x1b[K%s", text) }
		defer fmt.Fprint(a.client.Stderr, "\r\x1b[K")
	}
	results = compare.Measure(ctx, list, runs, say)
	return results, unmountBelow(work)
}

// unmountBelow unmounts what a runtime has left in its own folder.
func unmountBelow(dir string) error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			points = append(points, f[4])
		}
	}
	var errs []error
	for i := len(points) - 1; i >= 0; i-- {
		errs = append(errs, unix.Unmount(points[i], unix.MNT_DETACH))
	}
	return errors.Join(errs...)
}
