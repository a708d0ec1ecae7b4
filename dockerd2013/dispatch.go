package dockerd2013

import (
	"context"
	"encoding/json"
	"io"
	"reflect"
	"strings"

	"docker2013/rcli"
	"docker2013/trace"
)

// method is a Cmd* method.
type method func(d *Daemon, ctx context.Context, c *rcli.Call) error

// dispatch finds the method that the call names and calls it.
func (d *Daemon) dispatch(ctx context.Context, c *rcli.Call) error {
	name := ""
	if len(c.Args) > 0 {
		name = c.Args[0]
	}
	step := trace.Step(ctx, "daemon.dispatch", "command", name)
	d.Log.Info("call", "args", c.Args, "wire", c.Wire, "from", c.Remote)
	if name == "help" || name == "" {
		step.End(nil)
		return d.help(ctx, c)
	}
	m, goName := lookup(name)
	if m == nil {
		return step.End(noSuch("command", name))
	}
	step.Set("method", goName)
	step.End(nil)
	inner := *c
	inner.Args = c.Args[1:]
	err := m(d, ctx, &inner)
	if c.Framed {
		err = d.advise(err)
	}
	return err
}

// lookup finds the method of a command: "run" is CmdRun
// (docker@bba4e36807:rcli/types.go:41).
func lookup(command string) (method, string) {
	name := methodName(command)
	m, ok := reflect.TypeFor[*Daemon]().MethodByName(name)
	if !ok {
		return nil, ""
	}
	f, ok := m.Func.Interface().(func(*Daemon, context.Context, *rcli.Call) error)
	if !ok {
		return nil, ""
	}
	return f, name
}

func methodName(command string) string {
	if command == "" {
		return "Cmd"
	}
	return "Cmd" + strings.ToUpper(command[:1]) + strings.ToLower(command[1:])
}

// help answers `help` with the list and `help NAME` with that command's usage.
func (d *Daemon) help(ctx context.Context, c *rcli.Call) error {
	if len(c.Args) < 2 || c.Args[1] == "help" {
		_, err := io.WriteString(c.Stdout, d.Help())
		return err
	}
	m, _ := lookup(c.Args[1])
	if m == nil {
		return noSuch("command", c.Args[1])
	}
	inner := *c
	inner.Args = []string{"--help"}
	return m(d, ctx, &inner)
}

// sendEvent sends a step of the trace the way the wire allows: as a frame, or as
// text in the one stream there is.
func sendEvent(c *rcli.Call, e trace.Event) error {
	if c.Event == nil {
		_, err := io.WriteString(c.Stderr, trace.Style{}.Text(e))
		return err
	}
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return c.Event(data)
}
