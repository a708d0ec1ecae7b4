package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

// ociCommand is `oci`: the runtime is a program of its own, because it links C.
func ociCommand() *cobra.Command {
	cmd := newCommand(groupHere, "oci COMMAND [ARG...]", "Be an OCI runtime, as runc is: docker2013-oci", nil)
	cmd.DisableFlagParsing = true
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		program := filepath.Join(filepath.Dir(self), "docker2013-oci")
		err = syscall.Exec(program, append([]string{"docker2013-oci"}, args...), os.Environ())
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("oci: %s isn't there: it belongs beside this program; make build makes it", program)
		}
		return fmt.Errorf("oci: %w", err)
	}
	return cmd
}
