package main

import (
	"github.com/spf13/cobra"

	"docker2013/doctor"
)

// doctorCommand checks this host, without a daemon. Exit status 1: a path can't run.
func (a *app) doctorCommand() *cobra.Command {
	cmd := newCommand(groupHere, "doctor", "Check whether this host can run containers", arity(0, 0))
	o := doctor.Options{Out: a.client.Stdout}
	f := cmd.Flags()
	f.StringVar(&o.Root, "root", "", "the daemon's `directory` (default /var/lib/docker)")
	f.StringVar(&o.TCP, "tcp", "", "its `address` for this client (default 127.0.0.1:4242)")
	f.StringVar(&o.HTTP, "http", "", "its `address` for HTTP (default 127.0.0.1:8080)")
	f.StringVar(&o.Format, "format", "text", "text or json")
	mustComplete(cmd, "format", "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.Color = a.stdoutIsTTY && a.getenv("NO_COLOR") == ""
		ok, err := doctor.Run(cmd.Context(), o)
		if err == nil && !ok {
			a.status = 1
		}
		return err
	}
	return cmd
}
