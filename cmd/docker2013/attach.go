package main

import (
	"context"
	"encoding/json"

	"github.com/spf13/cobra"

	"docker2013/cli2013"
)

// attachCommand is `attach`.
func (a *app) attachCommand() *cobra.Command {
	cmd := newCommand(groupRun, "attach [-i] CONTAINER", "Watch a running container, and type into it", arity(1, 1))
	f := cmd.Flags()
	f.BoolP("stdin", "i", false, "pass standard input on (default: on a terminal)")
	f.BoolP("stdout", "o", true, "show its standard output")
	f.BoolP("stderr", "e", true, "show its standard error")
	cmd.ValidArgsFunction = a.completion(running, 1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if a.stdinIsTTY && a.stdoutIsTTY && !f.Changed("stdin") {
			if err := f.Set("stdin", "true"); err != nil {
				return err
			}
		}
		return a.makeAttached(cmd, args, on(f, "stdin"))
	}
	return cmd
}

// startCommand is `start`.
func (a *app) startCommand() *cobra.Command {
	cmd := newCommand(groupRun, "start [-a] [-i] CONTAINER...", "Run containers again, on what they have changed", arity(1, -1))
	f := cmd.Flags()
	f.BoolP("attach", "a", false, "stay in the foreground, and return its exit status")
	f.BoolP("interactive", "i", false, "the same, and pass standard input on")
	cmd.ValidArgsFunction = a.completion(containers, -1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if on(f, "attach") || on(f, "interactive") {
			return a.makeAttached(cmd, args, on(f, "interactive"))
		}
		return a.make(cmd.Context(), cli2013.Call{Args: daemonLine(cmd, args)})
	}
	return cmd
}

// makeAttached makes a call that stays with a container that exists.
func (a *app) makeAttached(cmd *cobra.Command, args []string, stdin bool) error {
	call := cli2013.Call{Args: daemonLine(cmd, args), Attached: true}
	if stdin {
		call.Stdin = a.client.Stdin
	}
	if a.stdinIsTTY {
		call.TTY = a.hasTTY(cmd.Context(), args[0])
	}
	return a.make(cmd.Context(), call)
}

// hasTTY asks whether a container runs on a terminal. Whatever goes wrong, the
// call itself will tell.
func (a *app) hasTTY(ctx context.Context, container string) bool {
	out, err := a.output(ctx, "inspect", container)
	var record struct{ Config struct{ Tty bool } }
	return err == nil && json.Unmarshal([]byte(out), &record) == nil && record.Config.Tty
}
