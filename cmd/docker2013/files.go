package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"docker2013/cli2013"
)

// putCommand is `put`, with a file as a second argument for who has one.
func (a *app) putCommand() *cobra.Command {
	cmd := newCommand(groupImages, "put NAME [FILE]", "Make an image of a tar on standard input, or in a file", arity(1, 2))
	cmd.Long = "Make an image of one layer of a tar: plain, or compressed by gzip, zstd or xz."
	cmd.Example = "  tar -C rootfs -c . | docker2013 put mine\n  docker2013 put mine root.tar.xz"
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 1 {
			return nil, cobra.ShellCompDirectiveDefault // files
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		call := cli2013.Call{Args: daemonLine(cmd, args[:1]), Stdin: a.client.Stdin, Progress: a.stderrIsTTY}
		switch {
		case len(args) == 2:
			f, err := os.Open(args[1])
			if err != nil {
				return fmt.Errorf("put: %w", err)
			}
			defer f.Close() // only read
			call.Stdin = f
		case a.stdinIsTTY:
			return fmt.Errorf("put: a tar can't be typed; say docker2013 put %s FILE, or put %[1]s < FILE", args[0])
		}
		return a.make(cmd.Context(), call)
	}
	return cmd
}

// tarCommand is `tar`.
func (a *app) tarCommand() *cobra.Command {
	cmd := newCommand(groupFiles, "tar [-o FILE] CONTAINER", "Write the whole file system as a tar", arity(1, 1))
	cmd.Example = "  docker2013 tar -o root.tar cefccf5b\n  docker2013 tar cefccf5b | tar t"
	f := cmd.Flags()
	file := f.StringP("output", "o", "", "write to a `file`, not standard output")
	f.BoolP("sparse", "s", false, "only what was changed (never written, says the daemon)")
	mark(cmd, markOurs, "output")
	cmd.ValidArgsFunction = a.completion(containers, 1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		call := cli2013.Call{Args: daemonLine(cmd, args)}
		switch {
		case *file != "":
			return a.intoFile(*file, func(w io.Writer) error {
				call.Stdout = w
				return a.make(cmd.Context(), call)
			})
		case a.stdoutIsTTY && !on(f, "sparse"):
			return errors.New("tar: a terminal can't show a tar; say -o FILE, or redirect standard output")
		}
		return a.make(cmd.Context(), call)
	}
	return cmd
}

// intoFile has f write a file that appears under its name only when it is whole.
// A device or a pipe is written to as it is.
func (a *app) intoFile(name string, f func(io.Writer) error) error {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		out, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(f(out), out.Close())
	}
	out, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) // gone already if all went well
	w := bufio.NewWriterSize(out, 1<<20)
	err = f(w)
	if err == nil {
		err = w.Flush()
	}
	err = errors.Join(err, out.Close())
	if err != nil || a.status != 0 {
		return err
	}
	return os.Rename(out.Name(), name)
}
