package chapters

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// The course that we ship can be read, has the same texts in all languages, and is
// bash where it says so.
func TestCourse(t *testing.T) {
	list, err := Course()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		t.Run(c.ID, func(t *testing.T) {
			for _, wrong := range c.Syntax() {
				t.Error(wrong)
			}
			if c.Number == 0 { // the example
				return
			}
			if n := len(c.Steps); n < 5 || n > 9 {
				t.Errorf("%d steps, want 5 to 9", n)
			}
			if n := len(c.Exercises); n < 3 {
				t.Errorf("%d exercises, want at least 3", n)
			}
			if !slices.IsSortedFunc(c.Exercises, func(a, b *Exercise) int { return a.Level - b.Level }) {
				t.Error("the exercises' levels don't rise")
			}
			for _, x := range c.Exercises {
				if x.Kind == "code" && !strings.Contains(x.Shown(), "\npackage main") {
					t.Errorf("the solution of %s isn't shown as a program:\n%s", x.ID, x.Shown())
				}
			}
			for _, s := range c.Steps {
				if len(s.Source)+len(s.Cites) == 0 {
					t.Errorf("step %s names neither source nor history", s.ID)
				}
			}
		})
	}
}

// good is a chapter that is as it should be.
func good() map[string]string {
	text := "# T\n\nIntro.\n\n## one — First\n\nClaim.\n\n> Why?\n\nSo.\n\n## exercise e — E\n\nTask.\n\n### hint h\n\nH.\n\n### hint\n\nG.\n"
	return map[string]string{
		"en.md": text, "zh.md": text,
		"chapter.yaml": `
steps:
  - id: one
    run: echo hello
    evidence: [{match: hello, note: {en: a, zh: b}}]
    source: [rcli.EncodeCall]
exercises:
  - {name: e, kind: hunt, level: 1, start: "true", check: expect a b c, solution: "true"}
`,
	}
}

func TestLoad(t *testing.T) {
	for _, c := range []struct {
		name, file, old, new, want string
	}{
		{"as it should be", "en.md", "", "", ""},
		{"Windows' line ends", "en.md", "\n", "\r\n", ""},
		{"no such key", "chapter.yaml", "run:", "runs:", "field runs not found"},
		{"no such key in evidence", "chapter.yaml", "match:", "matches:", "field matches not found"},
		{"a note with a comma", "chapter.yaml", "en: a,", "en: a, and more,", "is in a language and more"},
		{"a note in one language", "chapter.yaml", ", zh: b", "", "has no zh"},
		{"a broken expression", "chapter.yaml", "match: hello", "match: 'hel(lo'", "missing closing )"},
		{"an empty expression", "chapter.yaml", "match: hello", "match: ''", "matches everything"},
		{"both kinds", "chapter.yaml", "match: hello,", "match: hello, absent: x,", "either match or absent"},
		{"no evidence", "chapter.yaml", "evidence: [{match: hello, note: {en: a, zh: b}}]", "", "step one: no evidence on the classic path"},
		{"evidence on one path only", "chapter.yaml", "{match: hello,", "{path: modern, match: hello,", "no evidence on the classic path"},
		{"no such path", "chapter.yaml", "{match: hello,", "{path: moderm, match: hello,", "say classic or modern"},
		{"no such path to run", "chapter.yaml", "run: echo hello", "run: {classical: echo}", "say classic or modern"},
		{"no such paths", "chapter.yaml", "steps:", "paths: all\nsteps:", "say both, classic or modern"},
		{"an id", "chapter.yaml", "id: one", "id: One", `id "One"`},
		{"no such symbol", "chapter.yaml", "rcli.EncodeCall", "EncodeCall", "PACKAGE.NAME"},
		{"no such need", "chapter.yaml", "run: echo", "needs: [docket]\n    run: echo", "needs docket: known are"},
		{"no such kind", "chapter.yaml", "kind: hunt", "kind: quiz", "say one of hunt"},
		{"no such level", "chapter.yaml", "level: 1", "level: 4", "say 1, 2 or 3"},
		{"no check", "chapter.yaml", "check: expect a b c", "check: 'true'", "judges nothing"},
		{"no solution", "chapter.yaml", `solution: "true"`, `solution: ""`, "no solution"},
		{"a heading too few", "zh.md", "## one — First\n\nClaim.\n\n> Why?\n\nSo.\n\n", "", "## one is missing"},
		{"a heading too many", "zh.md", "## one — First", "## two — X\n\nA\n\n> B\n\nC\n\n## one — First", "chapter.yaml doesn't have it"},
		{"no dash", "zh.md", "one — First", "one - First", "say ## ID — TITLE"},
		{"no question", "en.md", "> Why?\n", "", "no question"},
		{"no claim", "en.md", "Claim.\n", "", "no claim"},
		{"no answer", "en.md", "So.\n", "", "nothing after the question"},
		{"no introduction", "en.md", "Intro.\n", "", "no introduction"},
		{"no general hint", "en.md", "### hint\n\nG.\n", "", "no general hint"},
		{"a hint in one language", "zh.md", "### hint h\n\nH.\n", "", "hint h is in en.md and not in zh.md"},
		{"no title", "en.md", "# T\n", "", "no title"},
		{"an open tag", "en.md", "Claim.", "{{classic}} Claim.", "without {{end}}"},
		{"tags in each other", "en.md", "Claim.", "{{classic}}{{modern}}{{end}}", "inside {{classic}}"},
		{"a heading in a fence", "en.md", "Claim.", "Claim.\n\n```\n# no heading\n> no question\n```", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := fstest.MapFS{}
			for name, text := range good() {
				if name == c.file {
					if c.old != "" && !strings.Contains(text, c.old) {
						t.Fatalf("no %q in %s", c.old, name)
					}
					text = strings.ReplaceAll(text, c.old, c.new)
				}
				files["01-x/"+name] = &fstest.MapFile{Data: []byte(text)}
			}
			list, err := Load(files)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("%v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v, want %q", err, c.want)
			}
			if c.want == "" && list[0].Prose(English).Steps["one"].Question != "Why?" {
				t.Errorf("question %q", list[0].Prose(English).Steps["one"].Question)
			}
		})
	}
}

func TestFor(t *testing.T) {
	const text = "All.\n\n{{classic}}\nOld.\n{{end}}\n\n{{modern}}New.{{end}}"
	for _, c := range []struct {
		paths []Path
		want  string
	}{
		{[]Path{Classic}, "All.\n\nOld."},
		{[]Path{Modern}, "All.\n\nNew."},
		{AllPaths, "All.\n\n(classic) Old.\n\n(modern) New."},
	} {
		if got := For(text, c.paths...); got != c.want {
			t.Errorf("%v: %q, want %q", c.paths, got, c.want)
		}
	}
}

func TestResult(t *testing.T) {
	hello := Finding{Evidence: Evidence{Match: regexp.MustCompile("hello")}}
	found := hello
	found.Lines = []int{2}
	absent := Finding{Evidence: Evidence{Absent: regexp.MustCompile("panic")}}
	there := absent
	there.Lines = []int{0}
	for _, c := range []struct {
		name   string
		result Result
		wrong  string
	}{
		{"all there", Result{Found: []Finding{found, absent}}, ""},
		{"not there", Result{Found: []Finding{hello}}, "no line matches hello"},
		{"there, and shouldn't be", Result{Found: []Finding{there}}, "line 1 matches panic"},
		{"it failed", Result{Status: 3}, "ended with status 3"},
		{"it failed as it was meant to", Result{Status: 3, Fails: true}, ""},
		{"it was meant to fail", Result{Fails: true}, "meant to fail"},
		{"it never ended", Result{Status: -1, Fails: true, Err: errTime}, "ran too long"},
	} {
		wrong := strings.Join(c.result.Wrong(), "\n")
		if c.result.Holds() != (c.wrong == "") || !strings.Contains(wrong, c.wrong) {
			t.Errorf("%s: holds: %v: %q, want %q", c.name, c.result.Holds(), wrong, c.wrong)
		}
	}
}

func TestProgress(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	file, err := ProgressFile()
	if err != nil {
		t.Fatal(err)
	}
	if p, err := ReadProgress(); err != nil || p.Chapter != "" {
		t.Fatalf("before the first: %v, %v", p, err)
	}
	x := &Exercise{ID: "01-e"}
	for range 2 {
		if err := UpdateProgress(func(p *Progress) { p.Ran("01-x", "one"); p.Start(x, time.Now()) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := UpdateProgress(func(p *Progress) { p.Chapter, p.Step = "01-x", "two"; p.Pass(x, time.Now()) }); err != nil {
		t.Fatal(err)
	}
	p, err := ReadProgress()
	if err != nil || p.Chapter != "01-x" || len(p.Steps["01-x"]) != 1 || p.State("01-e") != "passed" || p.State("01-f") != "new" {
		t.Errorf("%+v, %v", p, err)
	}
	if text := content(file); !strings.HasPrefix(text, "# How far") || !strings.Contains(text, "\n  01-x:\n") {
		t.Errorf("it isn't for reading:\n%s", text)
	}
	if err := os.WriteFile(file, []byte("steps: ["), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := UpdateProgress(func(*Progress) {}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a broken file: %v", err)
	}
	if content(file) != "steps: [" {
		t.Error("a broken file was written over")
	}
}

// testShell is a shell without a daemon: what it does until it is closed.
func testShell(t *testing.T) *Shell {
	t.Helper()
	s := &Shell{host: &Host{Root: t.TempDir(), Bin: "/bin"}, label: "01-classic"}
	s.dir = filepath.Join(s.host.dir(), "01-x-classic")
	s.mark = markKey + s.dir
	c := &Chapter{ID: "01-x", dir: fstest.MapFS{"files/tool": {Data: []byte("#!/bin/sh\necho tool\n")}}}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.acquire("01-x"); err != nil {
		t.Fatal(err)
	}
	if err := s.prepare(context.Background(), c, Classic, false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		killMarked(s.mark + "\x00")
		if err := s.Leave(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *Shell) lines(t *testing.T, script string) (out []string, status int) {
	t.Helper()
	status, err := s.Run(context.Background(), "test", script, func(text string) { out = append(out, text) })
	if err != nil {
		t.Errorf("%s: %v", script, err)
	}
	return out, status
}

func TestShell(t *testing.T) {
	s := testShell(t)
	for _, c := range []struct {
		name, script, want string
		status             int
	}{
		{"variables, functions", "A=1; B=(x 'y z'); f() { echo f $1; }; readonly R=r; export E=e", "", 0},
		{"are kept", `echo $A "${B[1]}" $(f 2) $R; sh -c 'echo $E'`, "1 y z f 2 r|e", 0},
		{"one that fails", "A=2; false; A=3", "", 1},
		{"keeps what it set", "echo $A", "2", 0},
		{"an unset variable", "echo $NOSUCH", "test: line 1: NOSUCH: unbound variable", 1},
		{"a pipe", "false | true", "", 1},
		{"a trap runs at the end", "trap 'echo trap' EXIT; echo body", "body|trap", 0},
		{"both streams, in order", "echo 1; echo 2 >&2; echo 3", "1|2|3", 0},
		{"no line end", "printf x", "x", 0},
		{"an exit", "A=4; exit 7", "", 7},
		{"keeps too", "echo $A", "4", 0},
		{"a signal", "kill -9 $$", "", 137},
		{"its folder", `[ "$PWD" = "$W" ] && cd / && echo here`, "here", 0},
		{"again", `[ "$PWD" = "$W" ] && echo here`, "here", 0},
		{"its files", `$FILES/tool`, "tool", 0},
		{"no input", "cat", "", 0},
		{"what it leaves behind holds nobody up", "sleep 100 &", "", 0},
		{"the environment", "echo $DOCKER2013_PATH $DOCKER2013_LABEL $CHAPTER $LC_ALL", "classic docker2013.course=01-classic 01-x C.UTF-8", 0},
	} {
		out, status := s.lines(t, c.script)
		if got := strings.Join(out, "|"); got != c.want || status != c.status {
			t.Errorf("%s: %q, status %d; want %q, %d", c.name, got, status, c.want, c.status)
		}
	}
	if left := marked(s.mark); len(left) != 1 {
		t.Errorf("left in the background: %v, want sleep", left)
	}
	if killMarked(s.mark + "\x00"); len(marked(s.mark)) != 0 {
		t.Error("it can't be killed")
	}
}

// A script that is ended runs its traps, and the shell goes on.
func TestShellIsEnded(t *testing.T) {
	s := testShell(t)
	ctx, cancel := context.WithCancel(context.Background())
	var out []string
	begin := time.Now()
	_, err := s.Run(ctx, "test", "trap 'echo cleaned up' EXIT; echo begun; sleep 100; echo never", func(text string) {
		out = append(out, text)
		cancel()
	})
	said := strings.TrimSuffix(strings.Join(out, "|"), "|Terminated") // so bash of one that it was just starting
	if err == nil || said != "begun|cleaned up" || time.Since(begin) > 10*time.Second {
		t.Errorf("%q, %v after %s", out, err, time.Since(begin))
	}
	if out, status := s.lines(t, "echo on"); strings.Join(out, "|") != "on" || status != 0 {
		t.Errorf("afterwards: %q, %d", out, status)
	}
}

func TestOneShellAFolder(t *testing.T) {
	s := testShell(t)
	other := &Shell{host: s.host, dir: s.dir}
	if err := other.acquire("01-x"); err == nil || !strings.Contains(err.Error(), "somebody else plays") {
		t.Errorf("%v", err)
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name, check, lines, hint string
		passed, unclear          bool
	}{
		{"passed", `expect 'the PID' 1 1; expect more 'a b' 'a b'`, "the PID: 1|more: a b", "", true, false},
		{"wrong", `expect one 1 1; expect two 1 2 why; echo never`, "one: 1|two: found 1, expected 2", "why", false, false},
		{"nothing found", `expect one "" 2`, "one: found nothing, expected 2", "", false, false},
		{"failed", `fail "there is no answer" no-file`, "there is no answer", "no-file", false, false},
		{"in a pipe", `echo x | while read -r l; do expect it "$l" y; done`, "it: found x, expected y", "", false, false},
		{"an accident", `false`, "", "", false, true},
		{"lines", `expect it $'a\nb' $'a\nb'`, "it: a\nb", "", true, false},
	} {
		s := testShell(t)
		v := s.judge(context.Background(), c.check)
		var lines []string
		for _, j := range v.Lines {
			lines = append(lines, j.String())
		}
		if got := strings.Join(lines, "|"); got != c.lines || v.Hint != c.hint || v.Passed != c.passed || v.Unclear != c.unclear || v.Err != nil {
			t.Errorf("%s: %q, %+v", c.name, got, v)
		}
	}
}

// Removing a folder doesn't follow what is mounted in it.
func TestRemoveTree(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts")
	}
	outside, dir := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	inside := filepath.Join(dir, "a", "b c")
	if err := os.MkdirAll(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	s := testShell(t)
	if _, status := s.lines(t, "mount --bind "+outside+" '"+inside+"'"); status != 0 {
		t.Fatal("mount")
	}
	if err := removeTree(dir, true); err != nil {
		t.Error(err)
	}
	if exists(dir) || !exists(filepath.Join(outside, "file")) {
		t.Error("it removed too little or too much")
	}
}

func TestMissing(t *testing.T) {
	if m := Missing([]string{"nosuch"}); len(m) != 1 {
		t.Errorf("%v", m)
	}
	if os.Geteuid() == 0 && len(Missing([]string{"root"})) != 0 {
		t.Error("root is root")
	}
}
