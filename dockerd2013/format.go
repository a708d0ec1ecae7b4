package dockerd2013

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/template"
	"time"

	"docker2013/container"
	"docker2013/rcli"
)

// writeFormat writes each object with a Go template (text/template), or as one line
// of JSON if the format is json. Nothing is written if the template fails.
func writeFormat[T any](w io.Writer, command, format string, objects []T) error {
	var b bytes.Buffer
	if format == "json" {
		enc := json.NewEncoder(&b)
		for _, o := range objects {
			if err := enc.Encode(o); err != nil {
				return err
			}
		}
		_, err := b.WriteTo(w)
		return err
	}
	t, err := template.New(command).Option("missingkey=error").Funcs(template.FuncMap{
		"json": func(v any) (string, error) { data, err := json.Marshal(v); return string(data), err },
		"join": func(list []string, sep string) string { return strings.Join(list, sep) },
	}).Parse(format)
	if err != nil {
		return rcli.Exitf(rcli.StatusOurs, "%s --format: %w", command, err)
	}
	for _, o := range objects {
		if err := t.Execute(&b, o); err != nil {
			return rcli.Exitf(rcli.StatusOurs, "%s --format: %w", command, err)
		}
		b.WriteByte('\n')
	}
	_, err = b.WriteTo(w)
	return err
}

// psRow is what a template of `ps` has: today's Docker's names.
type psRow struct {
	ID, Image, Command, CreatedAt, RunningFor, Status, State, Names, Path, Comment string
	Labels                                                                         map[string]string
}

func (d *Daemon) psFormat(c *rcli.Call, format string, filters filterFlag, all bool) error {
	now := time.Now()
	rows := []psRow{}
	for _, ctr := range d.Containers.List() {
		r := ctr.Record()
		if !r.State.Running && !all && !filters.has("status") || !filters.match(ctr, r) {
			continue
		}
		rows = append(rows, psRow{ID: r.Id, Image: ctr.UserData("image"), Command: commandColumn(r, true),
			CreatedAt: r.Created.Format("2006-01-02 15:04:05 -0700 MST"), RunningFor: ago(now, r.Created),
			Status: r.State.Status(now), State: state(r.State), Names: r.Name, Path: r.Engine,
			Comment: ctr.UserData("comment"), Labels: r.Config.Labels})
	}
	return writeFormat(c.Stdout, "ps", format, rows)
}

// state is the one word for a container's state.
func state(s container.State) string {
	switch {
	case s.Paused:
		return "paused"
	case s.Running:
		return "running"
	case s.FinishedAt.IsZero():
		return "created"
	default:
		return "exited"
	}
}

// filterFlag is --filter KEY=VALUE, repeated: those of one key are alternatives,
// those of different keys must all hold.
type filterFlag map[string][]string

func (f *filterFlag) String() string { return "" }

func (f *filterFlag) Set(s string) error {
	key, value, ok := strings.Cut(s, "=")
	switch key {
	case "name", "id", "status", "label", "path", "ancestor":
	default:
		return errors.New("say name=, id=, status=, label=, path= or ancestor=")
	}
	if !ok || value == "" {
		return fmt.Errorf("say %s=VALUE", key)
	}
	if *f == nil {
		*f = filterFlag{}
	}
	(*f)[key] = append((*f)[key], value)
	return nil
}

func (f filterFlag) has(key string) bool { return len(f[key]) > 0 }

func (f filterFlag) match(ctr *container.Container, r container.Record) bool {
	for key, values := range f {
		ok := false
		for _, v := range values {
			switch key {
			case "name":
				ok = ok || strings.Contains(r.Name, v)
			case "id":
				ok = ok || strings.HasPrefix(r.Id, v)
			case "status":
				ok = ok || state(r.State) == v
			case "path":
				ok = ok || r.Engine == v
			case "ancestor":
				image := ctr.UserData("image")
				name, _, _ := strings.Cut(image, ":")
				ok = ok || image == v || name == v
			case "label":
				k, want, both := strings.Cut(v, "=")
				got, there := r.Config.Labels[k]
				ok = ok || there && (!both || got == want)
			}
		}
		if !ok {
			return false
		}
	}
	return true
}
