package dockerd2013

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"time"

	"docker2013/container"
	"docker2013/images"
	"docker2013/rcli"
	"docker2013/trace"
)

// CmdRun runs a command in a new container (docker@bba4e36807:dockerd/dockerd.go:591).
func (d *Daemon) CmdRun(ctx context.Context, c *rcli.Call) error {
	o, err := parseRun(c, "run")
	if err != nil {
		return err
	}
	ctr, err := d.create(ctx, o)
	if err != nil {
		return err
	}
	if !o.attach {
		if err := ctr.Start(ctx); err != nil {
			return ended(rcli.StatusOurs, err)
		}
		_, err := fmt.Fprintln(c.Stdout, ctr.Id())
		return err
	}
	a := container.Attach{Stdout: c.Stdout, Stderr: c.Stderr, ToTheEnd: c.Trace}
	if o.config.OpenStdin {
		a.Stdin, a.CloseStdin = c.Stdin, true
	}
	if o.config.Tty {
		a.Size = firstSize(c)
	}
	defer d.forward(c, ctr)()
	return ended(ctr.Run(ctx, a))
}

// CmdCreate makes a container that doesn't run yet.
func (d *Daemon) CmdCreate(ctx context.Context, c *rcli.Call) error {
	o, err := parseRun(c, "create")
	if err != nil {
		return err
	}
	ctr, err := d.create(ctx, o)
	if err != nil {
		return err
	}
	if err := ctr.Save(); err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.Stdout, ctr.Id())
	return err
}

// create makes a container from an image, which no rmi takes away meanwhile.
func (d *Daemon) create(ctx context.Context, o runOptions) (*container.Container, error) {
	if _, ok := d.Engines[o.engine]; !ok {
		return nil, rcli.Exitf(rcli.StatusOurs, "run: --path %s: this daemon has no such path; its log says why", o.engine)
	}
	if o.config.Init {
		o.underInit(d.Init)
	}
	d.choosing.RLock()
	defer d.choosing.RUnlock()
	img, err := d.findImage(ctx, o.image)
	if err != nil {
		return nil, err
	}
	ctr, err := d.Containers.Create(ctx, container.Spec{
		Path: o.command[0], Args: o.command[1:],
		Layers:   img.Layers,
		Config:   o.config,
		UserData: map[string]string{"image": img.Id, "comment": o.comment},
		Engine:   o.engine,
		Name:     o.name,
	})
	if errors.Is(err, container.ErrCantRun) {
		return nil, rcli.Exitf(rcli.StatusOurs, "run: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("Error creating container: %w", err) // a text of 2013
	}
	return ctr, nil
}

// findImage finds an image by its name or id.
func (d *Daemon) findImage(ctx context.Context, name string) (*images.Image, error) {
	step := trace.Step(ctx, "images.find", "name", name)
	img := d.Images.Find(name)
	if img == nil {
		return nil, step.End(noSuch("image", name))
	}
	step.Set("id", img.Id, "layers", img.Layers)
	return img, step.End(nil)
}

// firstSize is the size of the client's terminal, which a framed client sends
// behind its call. The program should find it there when it starts.
func firstSize(c *rcli.Call) container.Window {
	if c.Resize == nil {
		return container.Window{}
	}
	select {
	case w := <-c.Resize:
		return container.Window(w)
	case <-time.After(50 * time.Millisecond): // it has no terminal
		return container.Window{}
	}
}

// forward passes the client's window sizes and signals on to the container
// until the returned function is called.
func (d *Daemon) forward(c *rcli.Call, ctr *container.Container) (stop func()) {
	done := make(chan struct{})
	go func() {
		for {
			var err error
			select {
			case w := <-c.Resize:
				err = ctr.Resize(w.Rows, w.Cols)
			case sig := <-c.Signals:
				err = ctr.Signal(sig)
			case <-done:
				return
			}
			if err != nil { // it has ended, or will have
				d.Log.Debug("forward to container", "container", ctr.Id(), "err", err)
			}
		}
	}()
	return func() { close(done) }
}

// CmdStart runs containers again.
func (d *Daemon) CmdStart(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "start")
	attach := f.Bool("a", false, "Attach stdout and stderr")
	stdin := f.Bool("i", false, "Attach stdin, and stdout and stderr")
	if err := f.parse(1, -1); err != nil {
		return err
	}
	if !*attach && !*stdin {
		return d.each(f.Args(), func(ctr *container.Container) error {
			if err := ctr.Start(ctx); err != nil {
				return ended(rcli.StatusOurs, err)
			}
			_, err := fmt.Fprintln(c.Stdout, ctr.Id())
			return err
		})
	}
	if f.NArg() != 1 {
		return rcli.Exitf(rcli.StatusOurs, "start: one container at a time can be attached")
	}
	ctr, err := d.find(f.Arg(0))
	if err != nil {
		return err
	}
	a := container.Attach{Stdout: c.Stdout, Stderr: c.Stderr, ToTheEnd: c.Trace}
	if *stdin {
		a.Stdin, a.CloseStdin = c.Stdin, true
	}
	if ctr.Record().Config.Tty {
		a.Size = firstSize(c)
	}
	defer d.forward(c, ctr)()
	return ended(ctr.Run(ctx, a))
}

// CmdAttach watches a running container (docker@bba4e36807:dockerd/dockerd.go:556).
func (d *Daemon) CmdAttach(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "attach")
	stdin := f.Bool("i", false, "Attach to stdin")
	stdout := f.Bool("o", true, "Attach to stdout")
	stderr := f.Bool("e", true, "Attach to stderr")
	if err := f.parse(1, 1); err != nil {
		return err
	}
	ctr, err := d.find(f.Arg(0))
	if err != nil {
		return err
	}
	a := container.Attach{ToTheEnd: c.Trace}
	if *stdin {
		a.Stdin = c.Stdin
	}
	if *stdout {
		a.Stdout = c.Stdout
	}
	if *stderr {
		a.Stderr = c.Stderr
	}
	defer d.forward(c, ctr)()
	if err := ctr.Attach(ctx, a); err != nil {
		return err
	}
	state := ctr.Record().State
	return ended(state.ExitCode, nil)
}

// CmdExec runs a further program in a running container.
func (d *Daemon) CmdExec(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "exec")
	stdin := f.Bool("i", false, "Pass stdin on")
	tty := f.Bool("t", false, "Allocate a pseudo-tty")
	var env envFlag
	f.Var(&env, "e", "Set an environment variable, KEY=VALUE")
	var e container.Exec
	f.StringVar(&e.User, "u", "", "User, and group: names or numbers, USER[:GROUP]")
	f.StringVar(&e.Dir, "w", "", "Working directory inside")
	if err := f.parse(2, -1); err != nil {
		return err
	}
	if e.Dir != "" && !path.IsAbs(e.Dir) {
		return rcli.Exitf(rcli.StatusOurs, "exec: -w %s: say an absolute path", e.Dir)
	}
	ctr, err := d.find(f.Arg(0))
	if err != nil {
		return err
	}
	e.Args, e.Env, e.Signals = f.Args()[1:], environment(env, *tty), c.Signals
	var in io.Reader
	if *stdin {
		in = c.Stdin
	}
	return ended(d.exec(ctx, c, ctr, e, in, *tty))
}
