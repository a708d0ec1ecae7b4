package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"docker2013/cli2013"
	"docker2013/xray"
)

// xrayCommand is `xray`.
func (a *app) xrayCommand() *cobra.Command {
	cmd := newCommand(groupLook, "xray [--path PATH] run [OPTIONS] IMAGE COMMAND [ARG...]",
		"Show the system calls that made a container, grouped by idea", arity(1, -1))
	cmd.Long = "Run a command in a new container while strace watches who makes it: lxc-start\n" +
		"on the classic path, our own runtime on the modern one. The calls are then\n" +
		"shown by idea: namespaces, cgroups, mounts, capabilities, seccomp, terminal,\n" +
		"exec. The container is removed afterwards.\n" +
		"It needs root, strace, and a daemon on this host."
	cmd.Example = "  sudo $(which docker2013) xray run base /bin/true\n  sudo $(which docker2013) xray --path both run base /bin/true"
	f := cmd.Flags()
	f.SetInterspersed(false)
	path := f.String("path", "", "`classic`, modern, or both side by side ($DOCKER2013_PATH)")
	format := f.String("format", "text", "`text`, or json")
	mustComplete(cmd, "path", "classic", "modern", "both")
	mustComplete(cmd, "format", "text", "json")
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return []cobra.Completion{"run"}, cobra.ShellCompDirectiveNoFileComp
		}
		return a.completion(images, 1)(cmd, args[1:], prefix)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if args[0] != "run" {
			return fmt.Errorf("xray: say xray run IMAGE COMMAND, not xray %s", args[0])
		}
		if *format != "text" && *format != "json" {
			return fmt.Errorf("xray: --format %s: say text or json", *format)
		}
		paths := []string{*path}
		switch *path {
		case "":
			paths[0] = a.getenv("DOCKER2013_PATH")
			if paths[0] == "" {
				paths[0] = "classic"
			}
		case "both":
			paths = []string{"classic", "modern"}
		case "classic", "modern":
		default:
			return fmt.Errorf("xray: --path %s: say classic, modern or both", *path)
		}
		return a.xray(cmd.Context(), args[1:], paths, *format)
	}
	return cmd
}

// xray makes the films and shows them.
func (a *app) xray(ctx context.Context, args, paths []string, format string) error {
	if os.Geteuid() != 0 {
		return errors.New("xray: strace may watch a daemon's processes as root only: use sudo")
	}
	if _, err := exec.LookPath("strace"); err != nil {
		return errors.New("xray: there is no strace: install it, with apt-get install strace")
	}
	var films []xray.Film
	for _, path := range paths {
		film, err := a.film(ctx, args, path, format)
		if err != nil {
			return fmt.Errorf("xray: %w", err)
		}
		if a.status == 125 && film.Total == 0 {
			return nil // the daemon has said why
		}
		films = append(films, film)
	}
	sheet := xray.Sheet{W: a.client.Stdout, Width: a.width(), Source: xray.Where}
	switch {
	case format == "json":
		encoder := json.NewEncoder(sheet.W)
		encoder.SetIndent("", "  ")
		return encoder.Encode(films)
	case len(films) == 2:
		return sheet.PrintBoth(films[0], films[1])
	default:
		return sheet.Print(films[0])
	}
}

// width is how wide a report may be: as the terminal, or as $COLUMNS says.
func (a *app) width() int {
	if n, err := strconv.Atoi(a.getenv("COLUMNS")); err == nil && n >= 40 {
		return n
	}
	if a.stdoutIsTTY {
		if n, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil && n >= 40 {
			return n
		}
	}
	return xray.Width
}

// film makes a container on a path under strace's eyes.
func (a *app) film(ctx context.Context, args []string, path, format string) (film xray.Film, err error) {
	line, err := a.createLine(args, path)
	if err != nil {
		return film, err
	}
	var said strings.Builder
	if err := a.make(ctx, cli2013.Call{Args: line, Stdout: &said}); err != nil || a.status != 0 {
		return film, err
	}
	id := strings.TrimSpace(said.String())
	defer func() {
		kept := a.status
		var nobody bytes.Buffer
		err = errors.Join(err, a.make(context.WithoutCancel(ctx), cli2013.Call{Args: []string{"rm", id}, Stdout: &nobody}))
		a.status = kept
	}()
	rootfs, err := a.output(ctx, "inspect", "-f", "{{.Filesystem.RootFS}}", id)
	if err != nil {
		return film, err
	}
	watched, err := a.watched(ctx)
	if err != nil {
		return film, err
	}
	record, err := os.CreateTemp("", "docker2013-xray-")
	if err != nil {
		return film, err
	}
	defer func() { err = errors.Join(err, record.Close(), os.Remove(record.Name())) }()
	stop, err := strace(watched, record.Name())
	if err != nil {
		return film, err
	}
	call := cli2013.Call{Args: []string{"start", "-a", id}, Attached: true}
	if format == "json" {
		call.Stdout = a.client.Stderr
	}
	err = errors.Join(a.make(ctx, call), stop())
	if err != nil {
		return film, err
	}
	calls, err := xray.Parse(record)
	if err != nil {
		return film, err
	}
	made := xray.Made(calls, id, path == "modern")
	if len(made) == 0 {
		return film, errors.New("strace saw nobody make it: is the daemon on this host, and in this PID namespace?")
	}
	film = xray.Film{Path: path, Maker: "lxc-start", Total: len(made), Deeds: xray.Explain(made, strings.TrimSpace(rootfs))}
	if path == "modern" {
		film.Maker = "our runtime"
	} else {
		for i := range film.Deeds {
			film.Deeds[i].Source = "" // they are LXC's
		}
	}
	return film, nil
}

// createLine is the daemon's command line for `create` with the arguments of `run`.
func (a *app) createLine(args []string, path string) ([]string, error) {
	cmd := &cobra.Command{Use: "create"}
	f := cmd.Flags()
	f.SetInterspersed(false)
	a.containerFlags(cmd)
	if err := cmd.ParseFlags(args); err != nil {
		return nil, err
	}
	if len(f.Args()) < 2 {
		return nil, errors.New("say run IMAGE COMMAND")
	}
	if err := errors.Join(f.Set("path", path), a.complete(f)); err != nil {
		return nil, err
	}
	return daemonLine(cmd, f.Args()), nil
}

// watched are the daemon and its idle shims.
func (a *app) watched(ctx context.Context) (pids []string, err error) {
	pid, err := a.output(ctx, "info", "-format", "{{.pid}}")
	if err != nil {
		return nil, fmt.Errorf("ask the daemon for its PID: %w", err)
	}
	pids = []string{strings.TrimSpace(pid)}
	name, err := os.ReadFile(filepath.Join("/proc", pids[0], "comm"))
	if err != nil || !strings.HasPrefix(string(name), "dockerd2013") {
		return nil, fmt.Errorf("the daemon's PID %s is no dockerd2013 here: xray wants it on this host", pids[0])
	}
	entries, err := filepath.Glob("/proc/" + pids[0] + "/task/*/children")
	if err != nil {
		return nil, err
	}
	for _, file := range entries {
		data, _ := os.ReadFile(file) // a thread that has ended has none
		for child := range strings.FieldsSeq(string(data)) {
			cmdline, _ := os.ReadFile(filepath.Join("/proc", child, "cmdline"))
			if bytes.HasPrefix(cmdline, []byte("docker2013-shim\x00")) {
				pids = append(pids, child)
			}
		}
	}
	return pids, nil
}

// strace watches processes and their children until stop. It is killed, by stop or with
// us: asked to end, it would wait for every process that it watches to come to a halt, and
// one can be waiting for an answer of the FUSE server, which strace has halted already.
// What it has seen is in the record by then, line by line.
func strace(pids []string, record string) (stop func() error, err error) {
	args := []string{"-f", "-y", "-s", "200", "-o", record, "-e", "trace=" + xray.Filter, "-e", "signal=none"}
	for _, pid := range pids {
		args = append(args, "-p", pid)
	}
	cmd := exec.Command("strace", args...)
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	said, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	attached, ended := make(chan error, 2), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // its parent is this thread (PR_SET_PDEATHSIG(2const))
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			attached <- err
			return
		}
		var rest strings.Builder
		lines := bufio.NewScanner(said)
		for n := 0; lines.Scan(); {
			rest.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), " attached") {
				if n++; n == len(pids) {
					attached <- nil
				}
			}
		}
		attached <- fmt.Errorf("strace: %s", strings.TrimSpace(rest.String()))
		_ = cmd.Wait() // how it ended is our doing, or has been said
	}()
	stop = func() error {
		time.Sleep(100 * time.Millisecond) // the last calls are on their way to the record
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		<-ended
		return nil
	}
	select {
	case err := <-attached:
		if err != nil {
			<-ended
			return nil, err
		}
	case <-time.After(10 * time.Second):
		return nil, errors.Join(errors.New("strace didn't attach in 10 seconds to "+strconv.Itoa(len(pids))+" processes"), stop())
	}
	return stop, nil
}
