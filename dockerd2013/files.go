package dockerd2013

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"docker2013/container"
	"docker2013/rcli"
)

// CmdDiff lists what a container has changed.
func (d *Daemon) CmdDiff(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "diff")
	if err := f.parse(0, -1); err != nil {
		return err
	}
	if f.NArg() < 1 {
		return errors.New("Not enough arguments") //lint:ignore ST1005 a text of 2013
	}
	ctr, err := d.find(f.Arg(0))
	if err != nil && !c.Framed {
		return errors.New("No such container") //lint:ignore ST1005 a text of 2013: without the name
	}
	if err != nil {
		return err
	}
	changes, err := ctr.Changes()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for _, change := range changes {
		fmt.Fprintln(&b, printable(change.String()))
	}
	_, err = b.WriteTo(c.Stdout)
	return err
}

// CmdReset throws away what containers have changed.
func (d *Daemon) CmdReset(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "reset")
	if err := f.parse(0, -1); err != nil {
		return err
	}
	if f.NArg() < 1 {
		return errors.New("Not enough arguments") //lint:ignore ST1005 a text of 2013
	}
	return d.each(f.Args(), func(ctr *container.Container) error { return ctr.Reset(ctx) })
}

// CmdMount mounts containers' file systems by hand.
func (d *Daemon) CmdMount(ctx context.Context, c *rcli.Call) error {
	return d.eachPrinted(c, "mount", func(ctr *container.Container) error {
		err := ctr.Mount(ctx)
		if errors.Is(err, container.ErrMounted) {
			return errors.New("Mount: Filesystem already mounted") //lint:ignore ST1005 a text of 2013
		}
		return err
	})
}

// CmdUmount unmounts what `mount` has mounted.
func (d *Daemon) CmdUmount(ctx context.Context, c *rcli.Call) error {
	return d.eachPrinted(c, "umount", func(ctr *container.Container) error {
		err := ctr.Unmount(ctx)
		if errors.Is(err, container.ErrNotMounted) {
			return errors.New("Umount: Filesystem not mounted") //lint:ignore ST1005 a text of 2013
		}
		return err
	})
}

// inRoot runs a command on a path in a container's file system, which is
// mounted for it if need be.
func (d *Daemon) inRoot(ctx context.Context, c *rcli.Call, name string, do func(rootfs, path string) error) error {
	f := flags(c, name)
	if err := f.parse(2, 2); err != nil {
		return err
	}
	ctr, err := d.find(f.Arg(0))
	if err != nil {
		return err
	}
	return ctr.WithRoot(ctx, func(rootfs string) error { return do(rootfs, f.Arg(1)) })
}

// CmdLs lists a directory of a container.
func (d *Daemon) CmdLs(ctx context.Context, c *rcli.Call) error {
	return d.inRoot(ctx, c, "ls", func(rootfs, path string) error {
		// A directory, or nothing is opened: not a pipe, which waits for its other end.
		dir, err := container.OpenFile(rootfs, path, os.O_RDONLY|unix.O_DIRECTORY, 0)
		if errors.Is(err, unix.ENOTDIR) {
			return &os.PathError{Op: "ls", Path: path, Err: unix.ENOTDIR}
		}
		if err != nil {
			return err
		}
		defer dir.Close() // opened to read
		names, err := dir.Readdirnames(-1)
		if err != nil {
			return err
		}
		slices.Sort(names)
		var b bytes.Buffer
		for _, n := range names {
			fmt.Fprintln(&b, n)
		}
		_, err = b.WriteTo(c.Stdout)
		return err
	})
}

// CmdCat writes a file of a container to standard output.
func (d *Daemon) CmdCat(ctx context.Context, c *rcli.Call) error {
	return d.inRoot(ctx, c, "cat", func(rootfs, path string) error {
		// Not blocking: a named pipe in the container must not hold us for ever.
		file, err := container.OpenFile(rootfs, path, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		defer file.Close() // opened to read
		if err := regular(file, path); err != nil {
			return err
		}
		_, err = io.Copy(c.Stdout, file)
		return err
	})
}

// CmdWrite writes standard input to a file of a container.
func (d *Daemon) CmdWrite(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "write")
	if err := f.parse(2, 2); err != nil {
		return err
	}
	ctr, err := d.find(f.Arg(0))
	if err != nil {
		return err
	}
	return ctr.WithRoot(ctx, func(rootfs string) error {
		return d.files(ctx, ctr, rootfs, fileOrder{Do: "write", Path: f.Arg(1)}, c.Stdin, io.Discard)
	})
}

func writeFile(rootfs, path string, r io.Reader) (err error) {
	file, err := container.OpenFile(rootfs, path, os.O_WRONLY|os.O_CREATE|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := regular(file, path); err != nil {
		return err
	}
	// 2013 didn't truncate, so the tail of a longer old file stayed.
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err = io.Copy(file, r)
	return err
}

// regular makes sure that a file is one: devices and pipes of a container are
// for its own processes.
func regular(file *os.File, path string) error {
	fi, err := file.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("%s: not a regular file", path)
	}
	return nil
}

// CmdTar writes a container's whole file system as a tar.
func (d *Daemon) CmdTar(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "tar")
	sparse := f.Bool("s", false, "Only what the container has changed (never written)")
	if err := f.parse(0, -1); err != nil {
		return err
	}
	if *sparse {
		return errors.New("Sparse mode not yet implemented") //lint:ignore ST1005 a text of 2013
	}
	ctr, err := d.find(f.Arg(0))
	if err != nil {
		return err
	}
	return ctr.WithRoot(ctx, func(rootfs string) error {
		return d.files(ctx, ctr, rootfs, fileOrder{Do: "tar"}, nil, c.Stdout)
	})
}
