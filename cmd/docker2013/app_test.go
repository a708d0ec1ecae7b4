package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"docker2013/cli2013"
)

// recorded is an app whose calls are kept and not made.
type recorded struct {
	*app
	calls          []cli2013.Call
	stdout, stderr *os.File
	env            map[string]string
	answers        map[string]string // of output, by the command line
}

func newRecorded(t *testing.T, terminals bool) *recorded {
	t.Helper()
	r := &recorded{env: map[string]string{}, answers: map[string]string{}}
	file := func() *os.File {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	r.stdout, r.stderr = file(), file()
	r.app = &app{
		client:     cli2013.Client{Stdin: file(), Stdout: r.stdout, Stderr: r.stderr},
		stdinIsTTY: terminals, stdoutIsTTY: terminals, stderrIsTTY: terminals,
		getenv: func(name string) string { return r.env[name] },
		call: func(_ context.Context, call cli2013.Call) int {
			r.calls = append(r.calls, call)
			return 0
		},
		output: func(_ context.Context, args ...string) (string, error) {
			if answer, ok := r.answers[strings.Join(args, " ")]; ok {
				return answer, nil
			}
			return "", errors.New("no daemon")
		},
	}
	return r
}

func read(t *testing.T, f *os.File) string {
	t.Helper()
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// What is typed becomes the command line of 2013.
func TestCommandLines(t *testing.T) {
	for _, row := range []struct {
		name  string
		typed string
		sent  string
		// what the call is besides: s stdin, t terminal, a attached, p progress
		is string
	}{
		{"run", "run base /bin/true", "run -a base /bin/true", "a"},
		{"run, in the background", "run -d base /bin/sleep 9", "run base /bin/sleep 9", ""},
		{"run, the default said", "run -a base /bin/true", "run -a base /bin/true", "a"},
		{"run, with input", "run -i base /bin/cat", "run -a -i base /bin/cat", "as"},
		{"run, on a terminal of its own", "run -i -t base /bin/bash", "run -a -i -t base /bin/bash", "ast"},
		{"run, letters together", "run -it base /bin/bash", "run -a -i -t base /bin/bash", "ast"},
		{"run, the command's flags", "run base ls -a -t --trace -- x", "run -a base ls -a -t --trace -- x", "a"},
		{"run, without a command", "run base", "run -a -i base /bin/bash", "as"},
		{"run alone", "run", "run -a -i base /bin/bash", "as"},
		{"run alone, with a terminal", "run -t", "run -a -i -t", "ast"},
		{"run, all flags", "run -c note -m 512m --cpu-shares 512 --cpus 1.5 --cpuset-cpus 0-1 --pids-limit 20 --blkio-weight 300 " +
			"-e A=b --env C=d,e -h web --rm --lxc-keys 2013 --path classic base /bin/true",
			"run -a -c note -m 512m -cpu-shares 512 -cpus 1.5 -cpuset-cpus 0-1 -pids-limit 20 -blkio-weight 300 " +
				"-e A=b -e C=d,e -hostname web -rm -lxc-keys 2013 -path classic base /bin/true", "a"},
		{"run, with our own flags", "-H 127.0.0.1:9 --trace run --trace-format=json base /bin/true", "run -a base /bin/true", "a"},
		{"run, an image like a flag", "run -- -x y", "run -a -- -x y", "a"},
		{"exec", "exec cefccf5b /bin/ps -a", "exec cefccf5b /bin/ps -a", "a"},
		{"exec, on a terminal", "exec -it cefccf5b sh", "exec -i -t cefccf5b sh", "ast"},
		{"attach", "attach cefccf5b", "attach cefccf5b", "a"},
		{"attach, with input", "attach -i cefccf5b", "attach -i cefccf5b", "as"},
		{"attach, without stderr", "attach -e=false cefccf5b", "attach -e=false cefccf5b", "a"},
		{"start", "start a b", "start a b", ""},
		{"start, attached", "start -a a", "start -a a", "a"},
		{"stop", "stop -t 3 a b", "stop -t 3 a b", ""},
		{"stop as it is", "stop a", "stop a", ""},
		{"kill", "kill -s HUP a", "kill -s HUP a", ""},
		{"kill, long", "kill --signal=9 a", "kill -s 9 a", ""},
		{"ps", "ps", "ps", ""},
		{"ps, flags", "ps -aq --notrunc", "ps -a -q -notrunc", ""},
		{"ps, as in 2013", "ps -a -notrunc", "ps -a -notrunc", ""},
		{"the container's -notrunc", "run base ps -notrunc", "run -a base ps -notrunc", "a"},
		{"images", "images -l 1 -q base", "images -l 1 -q base", ""},
		{"logs", "logs --follow a", "logs -f a", ""},
		{"stats", "stats --no-stream", "stats -no-stream", ""},
		{"web", "web -u", "web -u", ""},
		{"put", "put base", "put base", "s"},
		{"pull", "pull base", "pull base", ""},
		{"commit", "commit a mine", "commit a mine", ""},
		{"tar", "tar -s a", "tar -s a", ""},
		{"write", "write a /etc/motd", "write a /etc/motd", "s"},
		{"mirror", "mirror", "mirror", "s"},
		{"version", "version", "version", ""},
		{"an argument like a flag", "rm -- -x", "rm -- -x", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRecorded(t, false)
			check(t, r, row.typed, row.sent, row.is)
		})
	}
}

// On a terminal a command gets one too.
func TestCommandLinesOnATerminal(t *testing.T) {
	for _, row := range []struct{ name, typed, sent, is string }{
		{"run", "run base /bin/bash", "run -a -i -t -e TERM=vt100 base /bin/bash", "ast"},
		{"run alone", "run", "run -a -i -t -e TERM=vt100", "ast"},
		{"run, no terminal wanted", "run -t=false base /bin/ls", "run -a -i -t=false base /bin/ls", "as"},
		{"run, no input wanted", "run -i=false base /bin/ls", "run -a -i=false -t -e TERM=vt100 base /bin/ls", "at"},
		{"run, in the background", "run -d base /bin/ls", "run base /bin/ls", ""},
		{"run, in the background with a terminal", "run -d -t base /bin/ls", "run -t -e TERM=vt100 base /bin/ls", ""},
		{"run, another TERM", "run -e TERM=dumb base /bin/ls", "run -a -i -t -e TERM=dumb base /bin/ls", "ast"},
		{"run, other variables", "run -e A=b base /bin/ls", "run -a -i -t -e A=b -e TERM=vt100 base /bin/ls", "ast"},
		{"exec", "exec tty sh", "exec tty sh", "a"},
		{"exec, with a terminal", "exec -t tty sh", "exec -t -e TERM=vt100 tty sh", "at"},
		{"attach", "attach tty", "attach -i tty", "ast"},
		{"attach, none of its own", "attach pipe", "attach -i pipe", "as"},
		{"attach, to watch", "attach -i=false tty", "attach -i=false tty", "at"},
		{"start", "start -i tty", "start -i tty", "ast"},
		{"start, an unknown one", "start -a nosuch", "start -a nosuch", "a"},
		{"commit", "commit a b", "commit a b", "p"},
		{"pull", "pull base", "pull base", "p"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRecorded(t, true)
			r.env["TERM"] = "vt100"
			r.answers["inspect tty"] = `{"Config":{"Tty":true}}`
			r.answers["inspect pipe"] = `{"Config":{"Tty":false}}`
			check(t, r, row.typed, row.sent, row.is)
		})
	}
	t.Run("only stdin is one", func(t *testing.T) {
		r := newRecorded(t, true)
		r.stdoutIsTTY = false
		check(t, r, "run base /bin/ls", "run -a base /bin/ls", "a")
	})
}

func check(t *testing.T, r *recorded, typed, sent, is string) {
	t.Helper()
	if status := r.run(t.Context(), strings.Fields(typed)); status != 0 || len(r.calls) != 1 {
		t.Fatalf("status %d, %d calls, stderr %q", status, len(r.calls), read(t, r.stderr))
	}
	call := r.calls[0]
	if got := strings.Join(call.Args, " "); got != sent {
		t.Errorf("sent %q, want %q", got, sent)
	}
	for letter, got := range map[string]bool{"s": call.Stdin != nil, "t": call.TTY, "a": call.Attached, "p": call.Progress} {
		if got != strings.Contains(is, letter) {
			t.Errorf("%s is %v, want %q", letter, got, is)
		}
	}
}

func TestPath(t *testing.T) {
	r := newRecorded(t, false)
	r.env["DOCKER2013_PATH"] = "modern"
	check(t, r, "run base /bin/true", "run -a -path modern base /bin/true", "a")
	r.calls = nil
	check(t, r, "run --path classic base /bin/true", "run -a -path classic base /bin/true", "a")
	r.calls = nil
	r.env["DOCKER2013_LABEL"] = "course=04"
	check(t, r, "run -l a=b base /bin/true", "run -a -l a=b -l course=04 -path modern base /bin/true", "a")
}

// A mistake is one line, and exit status 125.
func TestMistakes(t *testing.T) {
	for _, row := range []struct {
		name, typed, want string
		terminals         bool
	}{
		{"an unknown command", "inspekt x", `unknown command "inspekt"; did you mean inspect? (see docker2013 --help)`, false},
		{"one like no other", "xyzzy -q", `unknown command "xyzzy" (see docker2013 --help)`, false},
		{"help for none", "help inspekt", `unknown command "inspekt"; did you mean inspect? (see docker2013 --help)`, false},
		{"an unknown flag", "ps --foo", "unknown flag: --foo (see docker2013 ps --help)", false},
		{"an unknown letter", "ps -x", "unknown shorthand flag: 'x' in -x (see docker2013 ps --help)", false},
		{"a bad number", "stop -t soon a", `invalid argument "soon" for "-t, --time" flag: strconv.ParseInt: parsing "soon": invalid syntax (see docker2013 stop --help)`, false},
		{"too few", "commit a", "commit: too few arguments; usage: docker2013 commit CONTAINER DEST", false},
		{"too many", "diff a b", "diff: too many arguments; usage: docker2013 diff CONTAINER", false},
		{"-a and -d", "run -a -d base x", "run: -a and -d exclude each other", false},
		{"-d without a command", "run -d base", "run: -d needs a COMMAND; a shell that nobody types into ends at once", false},
		{"a wire", "--wire x ps", "--wire x: say framed or 2013", false},
		{"a wire too late", "ps --wire 2013", "--wire 2013 stands before the command: what follows is sent as it is", false},
		{"a trace format", "--trace-format xml ps", "--trace-format xml: say text or json", false},
		{"a trace format, 2013", "--wire 2013 --trace-format xml ps", "--trace-format xml: say text or json", false},
		{"a tar from the keyboard", "put base", "put: a tar can't be typed; say docker2013 put base FILE, or put base < FILE", true},
		{"a tar to the screen", "tar a", "tar: a terminal can't show a tar; say -o FILE, or redirect standard output", true},
		{"a file that isn't there", "put base /nosuch/file", "put: open /nosuch/file: no such file or directory", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRecorded(t, row.terminals)
			status := r.run(t.Context(), strings.Fields(row.typed))
			if got := read(t, r.stderr); status != 125 || got != "docker2013: "+row.want+"\n" || len(r.calls) > 0 {
				t.Errorf("got %d, %q, %d calls; want %q", status, got, len(r.calls), row.want)
			}
			if got := read(t, r.stdout); got != "" {
				t.Errorf("stdout is %q", got)
			}
		})
	}
}

func TestGlobals(t *testing.T) {
	for _, row := range []struct {
		name, typed string
		env         map[string]string
		addr        string
		trace       cli2013.TraceFormat
		color       bool
	}{
		{"none", "ps", nil, "127.0.0.1:4242", "", true},
		{"$DOCKER", "ps", map[string]string{"DOCKER": "h:1"}, "h:1", "", true},
		{"-H before $DOCKER", "-H h:2 ps", map[string]string{"DOCKER": "h:1"}, "h:2", "", true},
		{"behind the command", "ps --host=h:3 --trace", nil, "h:3", "text", true},
		{"a format is enough", "ps --trace-format json", nil, "127.0.0.1:4242", "json", true},
		{"$NO_COLOR", "ps", map[string]string{"NO_COLOR": "1"}, "127.0.0.1:4242", "", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRecorded(t, true)
			r.env = row.env
			if status := r.run(t.Context(), strings.Fields(row.typed)); status != 0 {
				t.Fatal(read(t, r.stderr))
			}
			if c := r.client; c.Addr != row.addr || c.Trace != row.trace || c.Color != row.color {
				t.Errorf("got %s, %q, %v", c.Addr, c.Trace, c.Color)
			}
		})
	}
}

func TestVerbatim(t *testing.T) {
	for _, row := range []struct {
		name string
		args []string
		line []string
		ok   bool
	}{
		{"as it is", []string{"--wire", "2013", "run", "-a", "base", "--trace"}, []string{"run", "-a", "base", "--trace"}, true},
		{"any command", []string{"-H", "h:1", "--wire=2013", "nosuch", "--wire", "framed"}, []string{"nosuch", "--wire", "framed"}, true},
		{"nothing", []string{"--wire", "2013"}, []string{}, true},
		{"framed", []string{"--wire", "framed", "ps"}, nil, false},
		{"behind the command", []string{"ps", "--wire", "2013"}, nil, false},
		{"help", []string{"--wire", "2013", "--help"}, nil, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			g, line := newRecorded(t, false).beforeCommand(row.args)
			ok := g.wire == wire2013
			if !ok {
				line = nil
			}
			if ok != row.ok || !slices.Equal(line, row.line) {
				t.Errorf("got %q, %v; want %q, %v", line, ok, row.line, row.ok)
			}
		})
	}
}

// A command is found by the name that it was asked for by.
func TestCommandNames(t *testing.T) {
	r := newRecorded(t, false)
	for _, c := range r.commands() {
		if name := c.make().Name(); name != c.name {
			t.Errorf("%s is asked for as %s", name, c.name)
		}
		if list := r.root([]string{c.name, "--help"}).Commands(); len(list) != 1 {
			t.Errorf("%s: %d commands were made", c.name, len(list))
		}
	}
}

func TestHelp(t *testing.T) {
	all := newRecorded(t, false).root(nil).Commands()
	for _, typed := range []string{"", "--help", "-h", "help"} {
		r := newRecorded(t, false)
		if status := r.run(t.Context(), strings.Fields(typed)); status != 0 {
			t.Errorf("%q: status %d", typed, status)
		}
		help := read(t, r.stdout)
		for _, cmd := range all {
			if !strings.Contains(help, "\n  "+cmd.Name()+" ") || cmd.Short == "" {
				t.Errorf("%q does not tell of %s", typed, cmd.Name())
			}
		}
		for line := range strings.Lines(help) {
			if len(line) > 101 {
				t.Errorf("a line of %d bytes: %s", len(line), line)
			}
		}
	}
	r := newRecorded(t, false)
	if status := r.run(t.Context(), []string{"help", "kill"}); status != 0 || !strings.Contains(read(t, r.stdout), "kill [-s SIGNAL] CONTAINER...") {
		t.Errorf("help kill: %d, %s", status, read(t, r.stdout))
	}
}

func TestCompletion(t *testing.T) {
	const ids = "base:aca382227ddb6a81\nmine:66b9eef322037c9a\nmine:0123456789abcdef\nhttp://h:80/x.tar:aca382227ddb6a81\n"
	for _, row := range []struct{ name, typed, last, want string }{
		{"all containers", "logs", "", "aaaa1111 bbbb2222 first"},
		{"the id of one with a name", "logs", "c", "cccc3333"},
		{"running ones", "stop", "", "bbbb2222"},
		{"a prefix", "rm", "a", "aaaa1111"},
		{"one more", "rm aaaa1111", "", "bbbb2222 first"},
		{"no more", "logs aaaa1111", "", ""},
		{"a path is not ours", "ls aaaa1111", "", ""},
		{"images", "run", "", "base http://h:80/x.tar mine"},
		{"not the command", "run base", "", ""},
		{"ids of images", "rmi", "mine:", "mine:0123456789abcdef mine:66b9eef322037c9a"},
		{"both", "inspect", "b", "base bbbb2222"},
		{"xray", "xray", "", "run"},
		{"xray's images", "xray run", "b", "base"},
		{"behind flags", "-H h:1 run -m 1g", "m", "mine"},
		{"a flag's values", "run --path", "", "classic modern"},
		{"shells", "completion", "", "bash zsh fish"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRecorded(t, false)
			const columns = " -format {{.ID}},{{.Names}}"
			r.answers["ps -a"+columns] = "aaaa1111,\nbbbb2222,\ncccc3333,first\n"
			r.answers["ps"+columns], r.answers["images -q"] = "bbbb2222,\n", ids
			got := complete(t, r, row.typed, row.last)
			want := strings.Fields(row.want)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	t.Run("no daemon", func(t *testing.T) {
		r := newRecorded(t, false)
		if got := complete(t, r, "stop", ""); len(got) > 0 {
			t.Errorf("got %q", got)
		}
	})
}

// complete asks as the shells' scripts do.
func complete(t *testing.T, r *recorded, typed, last string) []string {
	t.Helper()
	var out bytes.Buffer
	root := r.root(nil)
	root.SetOut(&out)
	root.SetErr(io.Discard)
	root.SetArgs(append(append([]string{"__completeNoDesc"}, strings.Fields(typed)...), last))
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(out.String()) {
		if name := strings.TrimSuffix(line, "\n"); !strings.HasPrefix(name, ":") { // then come directives
			names = append(names, name)
		}
	}
	return names
}

func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		r := newRecorded(t, false)
		if status := r.run(t.Context(), []string{"completion", shell}); status != 0 || !strings.Contains(read(t, r.stdout), "__complete") {
			t.Errorf("%s: status %d", shell, status)
		}
	}
}

func TestPutFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "root.tar")
	if err := os.WriteFile(file, []byte("a tar"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRecorded(t, true)
	got := ""
	r.call = func(_ context.Context, call cli2013.Call) int {
		data, err := io.ReadAll(call.Stdin)
		if err != nil {
			t.Error(err)
		}
		got = strings.Join(call.Args, " ") + ": " + string(data)
		return 0
	}
	if status := r.run(t.Context(), []string{"put", "mine", file}); status != 0 || got != "put mine: a tar" {
		t.Errorf("%d, %q", status, got)
	}
}

// The file of tar -o is there when it is whole, and only then.
func TestTarFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "root.tar")
	tar := func(status int, name string) int {
		r := newRecorded(t, true)
		r.call = func(_ context.Context, call cli2013.Call) int {
			if got := strings.Join(call.Args, " "); got != "tar a" {
				t.Errorf("sent %q", got)
			}
			io.WriteString(call.Stdout, "a tar")
			return status
		}
		return r.run(t.Context(), []string{"tar", "-o", name, "a"})
	}
	if status := tar(125, file); status != 125 {
		t.Errorf("status %d", status)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("a failed one leaves %v", left)
	}
	if status := tar(0, file); status != 0 {
		t.Errorf("status %d", status)
	}
	if data, err := os.ReadFile(file); string(data) != "a tar" {
		t.Errorf("got %q, %v", data, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("there are %v", left)
	}
	if status := tar(0, os.DevNull); status != 0 {
		t.Errorf("a device: status %d", status)
	}
	if info, err := os.Stat(os.DevNull); err != nil || info.Mode().IsRegular() {
		t.Errorf("%s is %v, %v", os.DevNull, info, err)
	}
}
