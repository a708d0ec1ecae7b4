package dockerd2013

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"docker2013/container"
	"docker2013/images"
)

// InsideCommand, as the first argument, makes this program the process that reads or
// writes a container's files under the container's own ids: see [InsideMain].
const InsideCommand = "files-from-inside"

// fileOrder is what is to be done with a container's files.
type fileOrder struct {
	Do     string // "tar", "out" (of it), "in" (to it), or "write"
	Path   string // in the container; not for tar
	Follow bool   // out: a link at the end of Path
	Top    string // in: see CmdCp
	Limits images.Options
}

// carryOut does it to the container whose root directory is root.
func (o fileOrder) carryOut(ctx context.Context, root string, in io.Reader, out io.Writer) error {
	switch o.Do {
	case "tar":
		return container.WriteTree(ctx, root, out)
	case "out":
		return copyOut(ctx, root, o.Path, o.Follow, out)
	case "in":
		return copyIn(ctx, root, o, in)
	case "write":
		return writeFile(root, o.Path, in)
	}
	return fmt.Errorf("files: no such order: %q", o.Do)
}

// files carries an order out. To a container with a user namespace files belong to
// whom it says, and of the host's ids it knows none: the process that carries it out
// is one like the container's own, in a user namespace with the same ids.
//
//	daemon                            process
//	  ── the order, as an argument ────▶
//	  ── the root directory, open ─────▶  3
//	  ── in ──▶ stdin      stdout ── out ──▶
//	  ◀──────── stderr: why it failed ──
func (d *Daemon) files(ctx context.Context, ctr *container.Container, root string, o fileOrder, in io.Reader, out io.Writer) error {
	o.Limits = d.Images.Limits()
	ids := ctr.Record().Filesystem.IDs
	if ids == nil || ids.First == 0 { // or we are inside ourselves
		return o.carryOut(ctx, root, in, out)
	}
	dir, err := os.Open(root)
	if err != nil {
		return err
	}
	defer dir.Close() // a name for it only
	order, err := json.Marshal(o)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", InsideCommand, string(order))
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles, cmd.Env = out, &stderr, []*os.File{dir}, []string{}
	maps := []syscall.SysProcIDMap{{HostID: int(ids.First), Size: int(ids.Count)}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, UidMappings: maps, GidMappings: maps, GidMappingsEnableSetgroups: true,
		Credential: &syscall.Credential{}, Pdeathsig: unix.SIGKILL,
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("enter the container's user namespace: %w", err)
	}
	go func() { // not waited for: the caller can have more to send than anybody wants
		if in != nil {
			_, _ = io.Copy(stdin, in)
		}
		_ = stdin.Close()
	}()
	err = cmd.Wait()
	if text := strings.TrimSpace(stderr.String()); err != nil && text != "" {
		return errors.New(text)
	}
	return err
}

// InsideMain is that process's main. It ends the process.
func InsideMain(order string) {
	var o fileOrder
	err := json.Unmarshal([]byte(order), &o)
	if err == nil {
		err = o.carryOut(context.Background(), "/proc/self/fd/3", os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}
