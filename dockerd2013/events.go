package dockerd2013

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"docker2013/container"
	"docker2013/rcli"
)

// CmdEvents shows what happens to containers until the client goes.
func (d *Daemon) CmdEvents(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "events")
	format := f.String("format", "", "Write each with this Go template, or as json")
	wanted := map[string][]string{}
	f.Func("filter", "Only those with event= or container=", func(s string) error {
		key, value, ok := strings.Cut(s, "=")
		if !ok || key != "event" && key != "container" {
			return errors.New("say event=ACTION or container=CONTAINER")
		}
		wanted[key] = append(wanted[key], value)
		return nil
	})
	if err := f.parse(0, 0); err != nil {
		return err
	}
	happened, stop := d.Containers.Events()
	defer stop()
	for {
		select {
		case e, ok := <-happened:
			if !ok {
				return errors.New("this client is too slow, events were dropped")
			}
			if !wants(wanted, e) {
				continue
			}
			if err := writeEvent(c, *format, e); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func wants(wanted map[string][]string, e container.Event) bool {
	if list := wanted["event"]; list != nil && !slices.Contains(list, string(e.Action)) {
		return false
	}
	list := wanted["container"]
	return list == nil || slices.ContainsFunc(list, func(s string) bool {
		return s == e.Name || strings.HasPrefix(e.ID, s)
	})
}

func writeEvent(c *rcli.Call, format string, e container.Event) error {
	if format != "" {
		return writeFormat(c.Stdout, "events", format, []container.Event{e})
	}
	about := []string{"image=" + e.Image, "path=" + e.Path}
	if e.Name != "" {
		about = append(about, "name="+e.Name)
	}
	if e.ExitCode != nil {
		about = append(about, fmt.Sprintf("exitCode=%d", *e.ExitCode))
	}
	_, err := fmt.Fprintf(c.Stdout, "%s container %s %s (%s)\n", e.Time.Format(time.RFC3339Nano), e.Action, e.ID, printable(strings.Join(about, ", ")))
	return err
}
