package dockerd2013

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"

	"docker2013/rcli"
	"docker2013/trace"
)

// The help lists exactly the methods there are.
func TestHelpListsTheMethods(t *testing.T) {
	var methods, listed []string
	for m := range reflect.TypeFor[*Daemon]().Methods() {
		if strings.HasPrefix(m.Name, "Cmd") {
			methods = append(methods, m.Name)
			if f, _ := lookup(strings.TrimPrefix(m.Name, "Cmd")); f == nil {
				t.Errorf("%s can't be called: it has another signature", m.Name)
			}
		}
	}
	for _, c := range commands {
		listed = append(listed, methodName(c.name))
		if !strings.Contains(new(Daemon).Help(), "    "+c.name+" ") {
			t.Errorf("the help doesn't show %s", c.name)
		}
	}
	slices.Sort(methods)
	slices.Sort(listed)
	if !slices.Equal(methods, listed) {
		t.Errorf("methods\n%v\nhelp\n%v", methods, listed)
	}
}

// call runs one call against a daemon without any state.
func call(t *testing.T, framed bool, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	d := &Daemon{Log: slog.New(slog.DiscardHandler), Recorder: &trace.Recorder{}, HTTP: "127.0.0.1:8080"}
	var out, errs bytes.Buffer
	c := &rcli.Call{Args: args, Stdin: io.NopCloser(strings.NewReader("in\n")), Stdout: &out, Stderr: &errs, Framed: framed}
	err = d.Serve(context.Background(), c)
	return out.String(), errs.String(), err
}

func TestDispatch(t *testing.T) {
	for name, c := range map[string]struct {
		args         []string
		out, err     string
		notInHelpOut bool
	}{
		"empty call":       {args: nil, out: "Usage: docker COMMAND"},
		"help":             {args: []string{"help"}, out: "Usage: docker COMMAND"},
		"help of one":      {args: []string{"help", "run"}, out: "\nUsage: docker run [OPTIONS] IMAGE COMMAND [ARG...]\n\n"},
		"help of help":     {args: []string{"help", "help"}, out: "Usage: docker COMMAND"},
		"help of mirror":   {args: []string{"help", "mirror"}, out: "\nUsage: docker mirror [OPTIONS]\n\n"},
		"help of debug":    {args: []string{"help", "debug"}, out: "\nUsage: docker debug [OPTIONS]\n\n"},
		"help of stop":     {args: []string{"help", "stop"}, out: "-t SECONDS\n"},
		"help of none":     {args: []string{"help", "nosuch"}, err: "No such command: nosuch"},
		"no such command":  {args: []string{"nosuch"}, err: "No such command: nosuch"},
		"a path":           {args: []string{"/"}, err: "No such command: /"},
		"empty name":       {args: []string{""}, out: "Usage: docker COMMAND"},
		"any case":         {args: []string{"MIRROR"}, out: "in\n"},
		"not a Cmd method": {args: []string{"close"}, err: "No such command: close"},
		"umlaut":           {args: []string{"übung"}, err: "No such command: übung"},
		"web -u":           {args: []string{"web", "-u"}, out: "http://127.0.0.1:8080/\n"},
		"web":              {args: []string{"web"}, out: "<!doctype html>"},
	} {
		t.Run(name, func(t *testing.T) {
			out, _, err := call(t, false, c.args...)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if text != c.err || !strings.Contains(out, c.out) {
				t.Errorf("answer %q, error %q; want %q in it, error %q", out, text, c.out, c.err)
			}
		})
	}
}

func TestWrongUsage(t *testing.T) {
	for name, args := range map[string][]string{
		"wrong flag":       {"ps", "-nosuch"},
		"missing argument": {"commit", "onlyone"},
		"too many":         {"images", "a", "b"},
	} {
		t.Run(name, func(t *testing.T) {
			out, errs, err := call(t, true, args...)
			exit, ok := errors.AsType[*rcli.Exit](err)
			if !ok || exit.Code != rcli.StatusOurs || out != "" || !strings.Contains(errs, "\nUsage: docker "+args[0]) {
				t.Errorf("stdout %q, stderr %q, error %v; want the usage on stderr and exit 125", out, errs, err)
			}
		})
	}
	for typed, want := range map[string]string{
		"images -l many":         "images: -l many: parse error",
		"run -restart x base a":  "run: --restart x: say no, on-failure, on-failure:N, always or unless-stopped",
		"run -rm=perhaps base a": "run: --rm perhaps: parse error",
		"run -ulimit a=1 base a": "run: --ulimit a=1: no such limit: say one of ",
	} {
		_, errs, err := call(t, true, strings.Fields(typed)...)
		if rcli.ExitStatus(err) != rcli.StatusOurs || errs != "" || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: stderr %q, error %v; want %q", typed, errs, err, want)
		}
	}
	t.Run("--help is no mistake", func(t *testing.T) {
		out, _, err := call(t, true, "ps", "--help")
		if rcli.ExitStatus(err) != 0 || !strings.Contains(out, "\nUsage: docker ps [OPTIONS]\n\n") {
			t.Errorf("stdout %q, error %v", out, err)
		}
	})
}

func TestParseRun(t *testing.T) {
	parse := func(args ...string) (runOptions, error) {
		var b bytes.Buffer
		return parseRun(&rcli.Call{Args: args, Stdout: &b, Stderr: &b}, "run")
	}
	t.Run("nothing at all", func(t *testing.T) {
		o, err := parse()
		if err != nil || o.image != "base" || !slices.Equal(o.command, []string{"/bin/bash", "-i"}) ||
			!o.attach || !o.config.OpenStdin || !o.config.Tty {
			t.Errorf("%+v, %v", o, err)
		}
	})
	t.Run("limits", func(t *testing.T) {
		o, err := parse("-m", "512m", "--cpus=0.5", "-cpu-shares", "512", "-pids-limit=20", "base", "sh", "-c", "-x")
		if err != nil || o.config.Ram != 512<<20 || o.config.Limits.CPUs != 500 || o.config.Limits.CPUShares != 512 ||
			o.config.Limits.Pids != 20 || !slices.Equal(o.command, []string{"sh", "-c", "-x"}) {
			t.Errorf("%+v, %v", o, err)
		}
	})
	t.Run("environment", func(t *testing.T) {
		o, err := parse("-t", "-e", "TERM=vt100", "-e", "A=1", "-e", "A=2=3", "base", "env")
		want := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=vt100", "A=2=3"}
		if err != nil || !slices.Equal(o.config.Env, want) {
			t.Errorf("%q, %v; want %q", o.config.Env, err, want)
		}
	})
	for name, args := range map[string][]string{
		"memory not a size": {"-m", "lots"},
		"memory too small":  {"-m", "1k"},
		"memory negative":   {"-m", "-5"},
		"cpus":              {"-cpus", "-1"},
		"cpus NaN":          {"-cpus", "NaN"},
		"cpus too many":     {"-cpus", "100000"},
		"shares":            {"-cpu-shares", "1"},
		"cpuset":            {"-cpuset-cpus", "0;1"},
		"cpuset not there":  {"-cpuset-cpus", "0-99999"},
		"cpuset overflow":   {"-cpuset-cpus", "99999999999999999999"},
		"pids":              {"-pids-limit", "-1"},
		"weight":            {"-blkio-weight", "9"},
		"hostname":          {"-hostname", "a b"},
		"hostname line":     {"-hostname", "a\nb"},
		"env no value":      {"-e", "A"},
		"env line break":    {"-e", "A=b\nc"},
		"path":              {"-path", "fastest"},
		"keys":              {"-lxc-keys", "2014"},
	} {
		t.Run(name, func(t *testing.T) {
			if o, err := parse(append(args, "base", "true")...); rcli.ExitStatus(err) != rcli.StatusOurs {
				t.Errorf("%+v, %v; want an error of ours", o, err)
			}
		})
	}
}

func TestParseSignal(t *testing.T) {
	for name, want := range map[string]int{"KILL": 9, "term": 15, "SIGHUP": 1, "15": 15, "64": 64, "": 0, "0": 0, "65": 0, "-9": 0, "NOSUCH": 0} {
		if got, err := parseSignal(name); int(got) != want || (err == nil) != (want != 0) {
			t.Errorf("parseSignal(%q) = %v, %v; want %d", name, got, err, want)
		}
	}
}
