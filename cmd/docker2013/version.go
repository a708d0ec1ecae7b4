package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"docker2013/cli2013"
)

// versionCommand prints both ends' versions, the daemon's after ours.
func (a *app) versionCommand() *cobra.Command {
	cmd := newCommand(groupDaemon, "version", "Print the client's version and the daemon's", arity(0, 0))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "Client: docker2013 %s\nGo: %s\n", version, runtime.Version())
		if err != nil {
			return err
		}
		return a.make(cmd.Context(), cli2013.Call{Args: []string{"version"}})
	}
	return cmd
}
