package dockerd2013

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/docker/go-units"

	"docker2013/images"
	"docker2013/rcli"
)

// CmdImages lists images, by name, newest first.
func (d *Daemon) CmdImages(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "images")
	limit := f.Int("l", 0, "Only show the N most recent versions of each image")
	quiet := f.Bool("q", false, "Only show IDs")
	format := f.String("format", "", "Each with this template, or as json")
	if err := f.parse(0, 1); err != nil {
		return err
	}
	now := time.Now()
	var rows []imageRow
	w := table(c.Stdout, 20)
	if !*quiet && *format == "" {
		row(w, "NAME", "ID", "CREATED", "PARENT")
	}
	for _, name := range d.Images.Names() {
		if f.NArg() == 1 && f.Arg(0) != name {
			continue
		}
		for i, img := range d.Images.History(name) {
			if *limit > 0 && i >= *limit {
				break
			}
			switch {
			case *format != "":
				rows = append(rows, imageRow{Name: name, ID: img.Id, CreatedAt: img.Created, CreatedSince: ago(now, img.Created),
					Parent: img.Parent, Layers: img.Layers})
				continue
			case *quiet:
				fmt.Fprintln(w, img.Id)
				continue
			}
			id := img.Id
			if len(img.Layers) > 1 { // a hash of hashes: not one layer's
				id += "..."
			}
			row(w, printable(name), printable(id), ago(now, img.Created), printable(img.Parent))
		}
	}
	if *format != "" {
		return writeFormat(c.Stdout, "images", *format, rows)
	}
	return w.Flush()
}

// imageRow is what a template of `images` has.
type imageRow struct {
	Name, ID     string
	CreatedAt    time.Time
	CreatedSince string
	Parent       string
	Layers       []string // paths, top first
}

// CmdPut makes an image of the tar on standard input.
func (d *Daemon) CmdPut(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "put")
	if err := f.parse(0, 1); err != nil {
		return err
	}
	if f.NArg() < 1 {
		return errors.New("Not enough arguments") //lint:ignore ST1005 a text of 2013
	}
	return d.importImage(ctx, c, f.Arg(0), c.Stdin, nil)
}

// importImage makes an image of a tar stream and prints its id.
func (d *Daemon) importImage(ctx context.Context, c *rcli.Call, name string, r io.Reader, parent *images.Image) error {
	show, done := progress(c, name)
	img, err := d.Images.Import(ctx, name, r, parent, show)
	done()
	if err == nil {
		for _, u := range d.unions() {
			if err := u.Prepare(ctx, img.Layers[0]); err != nil { // the image is there: its first mount does it
				d.Log.Warn("prepare a layer", "layer", img.Layers[0], "err", err)
			}
		}
	}
	if errors.Is(err, images.ErrTooBig) {
		return fmt.Errorf("%w: if you trust it, start the daemon with a larger --max-layer-size", err)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.Stdout, img.Id)
	return err
}

// progress shows how far an import is, on a client's terminal: in one line, ten
// times a second at most, wiped at the end.
func progress(c *rcli.Call, name string) (show func(bytes int64), done func()) {
	if !c.Progress {
		return nil, func() {}
	}
	var last time.Time
	return func(bytes int64) {
			if now := time.Now(); now.Sub(last) >= 100*time.Millisecond {
				last = now
				fmt.Fprintf(c.Stderr, "\r\x1b[K%s: %s", printable(name), units.BytesSize(float64(bytes)))
			}
		}, func() {
			if !last.IsZero() {
				fmt.Fprint(c.Stderr, "\r\x1b[K")
			}
		}
}

// CmdPull makes an image of a tar that an HTTP server has. The image's name is
// the URL. `pull base` needs no server: see images.BaseLayer.
func (d *Daemon) CmdPull(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "pull")
	if err := f.parse(0, 1); err != nil {
		return err
	}
	if f.NArg() < 1 {
		return errors.New("Not enough arguments") //lint:ignore ST1005 a text of 2013
	}
	name := f.Arg(0)
	if name == "base" {
		return d.pullBase(ctx, c)
	}
	u, err := url.Parse(name)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return rcli.Exitf(rcli.StatusOurs, "pull %s: say the http:// or https:// address of a tar, or base", name)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, name, nil)
	if err != nil {
		return fmt.Errorf("pull %s: %w", name, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	defer resp.Body.Close() // read to its end, or given up
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("pull %s: the server answers %s", name, resp.Status)
	}
	return d.importImage(ctx, c, name, resp.Body, nil)
}

// pullBase makes the image base of this host's static programs.
func (d *Daemon) pullBase(ctx context.Context, c *rcli.Call) error {
	r, w := io.Pipe()
	go func() { w.CloseWithError(images.BaseLayer(w)) }()
	defer r.Close()
	return d.importImage(ctx, c, "base", r, nil)
}

// CmdCommit makes an image of what a container has changed, on top of the image
// it was made from.
func (d *Daemon) CmdCommit(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "commit")
	if err := f.parse(2, 2); err != nil {
		return err
	}
	ctr, err := d.find(f.Arg(0))
	if err != nil {
		return err
	}
	parent := d.Images.Find(ctr.UserData("image"))
	if parent == nil {
		return fmt.Errorf("commit %s: its image %s has been removed", ctr.Id(), ctr.UserData("image"))
	}
	layer, err := ctr.Layer(ctx)
	if err != nil {
		return err
	}
	err = d.importImage(ctx, c, f.Arg(1), layer, parent)
	return errors.Join(err, layer.Close())
}

// CmdRmi removes images, by id or all of a name, and the layers that nobody
// else uses.
func (d *Daemon) CmdRmi(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "rmi")
	if err := f.parse(1, -1); err != nil {
		return err
	}
	for _, name := range f.Args() {
		d.choosing.Lock()
		layers, finish, err := d.Images.Remove(name, d.Containers.UsesLayer)
		for _, layer := range layers {
			for _, u := range d.unions() { // before one of the same name can be used
				err = errors.Join(err, u.Forget(layer))
			}
		}
		d.choosing.Unlock()
		err = errors.Join(err, finish())
		switch {
		case errors.Is(err, images.ErrNotFound):
			return noSuch("image", name)
		case err != nil:
			return err
		}
		if _, err := fmt.Fprintln(c.Stdout, "Untagged:", name); err != nil {
			return err
		}
		for _, layer := range layers {
			if _, err := fmt.Fprintln(c.Stdout, "Deleted:", layer); err != nil {
				return err
			}
		}
	}
	return nil
}

// CmdLayers lists the layers' directories.
func (d *Daemon) CmdLayers(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "layers")
	if err := f.parse(0, 0); err != nil {
		return err
	}
	for _, layer := range d.Images.LayerPaths() {
		if _, err := fmt.Fprintln(c.Stdout, layer); err != nil {
			return err
		}
	}
	return nil
}
