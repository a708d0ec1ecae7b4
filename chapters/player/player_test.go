package player

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"docker2013/chapters"
)

func testModel(t *testing.T) *model {
	t.Helper()
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	list, err := chapters.Course()
	if err != nil {
		t.Fatal(err)
	}
	return newModel(context.Background(), Options{
		Host: &chapters.Host{Root: t.TempDir()}, Chapters: list, Lang: chapters.English, Path: "classic", Colour: true,
	})
}

func (m *model) keysAre(keys ...string) {
	for _, k := range keys {
		if cmd := m.press(k); cmd != nil {
			m.Update(cmd())
		}
	}
}

// fits fails unless the window is filled exactly.
func fits(t *testing.T, m *model, where string) {
	t.Helper()
	lines := strings.Split(m.render(), "\n")
	if len(lines) != m.height {
		t.Errorf("%s, %dx%d: %d lines", where, m.width, m.height, len(lines))
	}
	for _, line := range lines {
		if w := lipgloss.Width(line); w > m.width {
			t.Errorf("%s, %dx%d: a line is %d wide: %q", where, m.width, m.height, w, ansi.Strip(line))
		}
	}
}

// Every page fits into every window, in every language, before and after its step was
// run.
func TestEveryPageFits(t *testing.T) {
	m := testModel(t)
	for _, window := range []struct {
		width, height int
		path          string
		colour        bool
	}{{24, 8, "both", true}, {40, 12, "classic", false}, {80, 24, "modern", true}, {90, 30, "both", false}, {110, 40, "classic", true}, {200, 60, "both", true}} {
		m.width, m.height, m.Path, m.Colour = window.width, window.height, window.path, window.colour
		for _, m.Lang = range chapters.Langs {
			m.screen = contents
			fits(t, m, "contents")
			m.results = map[key]*chapters.Result{}
			for _, c := range m.Chapters {
				for page, name := range pages(c) {
					m.screen, m.chapter, m.page, m.scroll, m.outScroll = inChapter, c, page, 0, 0
					fits(t, m, c.ID+" "+name)
					step := m.step()
					if step == nil {
						continue
					}
					fill(m, c, step)
					fits(t, m, c.ID+" "+name+", run")
					m.scroll, m.outScroll = 1000, 1000
					fits(t, m, c.ID+" "+name+", at its end")
					for _, m.over = range []overlay{source, xray, help} {
						fits(t, m, "over "+name)
					}
					m.over = nothing
					m.problem = strings.Repeat("it is long, and has to be told. ", 9)
					fits(t, m, "a problem on "+name)
					m.problem = ""
				}
			}
		}
	}
}

// fill makes results, as long and odd as they come.
func fill(m *model, c *chapters.Chapter, step *chapters.Step) {
	for _, path := range m.paths() {
		r := &chapters.Result{Path: path, Output: []string{
			strings.Repeat("long ", 80), "tab\tand \x1b[31mred\x1b[m and \x07 bell", strings.Repeat("中文，", 60), "",
		}, Err: errors.New("an error as long as a line may well become when it comes from three programs")}
		for _, e := range step.For(path) {
			r.Found = append(r.Found, chapters.Finding{Evidence: e, Lines: []int{0, 2}})
		}
		m.results[key{c.ID, step.ID, path}] = r
	}
}

func TestTooSmall(t *testing.T) {
	m := testModel(t)
	m.width, m.height = 10, 3
	if got := m.render(); lipgloss.Width(got) > 10 {
		t.Errorf("%q", got)
	}
}

// Keys turn pages, and what is left is found again.
func TestKeys(t *testing.T) {
	m := testModel(t)
	m.width, m.height = 80, 24
	c := m.Chapters[0]
	m.keysAre("enter", "n")
	if m.screen != inChapter || m.step() != c.Steps[0] {
		t.Fatalf("screen %v, page %d", m.screen, m.page)
	}
	m.keysAre("p", "l", "n")
	if m.Path != "modern" || m.Lang != chapters.Chinese || m.page != 2 {
		t.Errorf("%s, %s, page %d", m.Path, m.Lang, m.page)
	}
	p, err := chapters.ReadProgress()
	if err != nil || p.Chapter != c.ID || p.Step != pages(c)[2] || p.Language != chapters.Chinese || p.Path != "modern" {
		t.Errorf("%+v, %v", p, err)
	}
	again := newModel(context.Background(), Options{Host: m.Host, Chapters: m.Chapters, Lang: p.Language, Path: p.Path, Chapter: p.Chapter, Page: p.Step})
	if again.page != 2 || again.chapter != c {
		t.Errorf("resumed on page %d", again.page)
	}
	m.keysAre("b", "b", "b")
	if m.screen != contents {
		t.Errorf("back from the first page: screen %v, page %d", m.screen, m.page)
	}
	m.keysAre("enter")
	for range len(pages(c)) - 1 {
		m.keysAre("n")
	}
	if m.exercise() != c.Exercises[len(c.Exercises)-1] {
		t.Errorf("the last page is %d", m.page)
	}
	m.keysAre("h")
	if m.hint == nil || !strings.Contains(m.render(), chapters.In(m.Lang).Hint) {
		t.Error("no hint")
	}
	m.keysAre("n")
	if len(m.Chapters) > 1 && m.chapter != m.Chapters[1] {
		t.Error("the next chapter doesn't follow")
	}
	if cmd := m.press("q"); cmd == nil || fmt.Sprintf("%T", cmd()) != fmt.Sprintf("%T", tea.Quit()) {
		t.Error("q doesn't quit")
	}
}

// Enter shows the rest of a page before it does anything else.
func TestEnterShowsTheRest(t *testing.T) {
	m := testModel(t)
	m.width, m.height = 60, 12
	c := m.Chapters[0]
	m.open(c, 0)
	seen := ""
	for range 50 {
		seen += ansi.Strip(m.render())
		if m.below == 0 {
			break
		}
		m.keysAre("enter")
	}
	if m.page != 0 || m.below != 0 || m.above == 0 {
		t.Fatalf("page %d, %d lines above, %d below", m.page, m.above, m.below)
	}
	words := strings.Fields(chapters.For(c.Prose(chapters.English).Intro, chapters.Classic))
	if last := words[len(words)-1]; !strings.Contains(seen, last) {
		t.Errorf("%q was never seen", last)
	}
	m.keysAre("enter")
	if m.page != 1 {
		t.Errorf("then the next page: %d", m.page)
	}
}

// When a step has run, what it wrote is in sight, however small the window.
func TestOutputIsSeen(t *testing.T) {
	for _, height := range []int{10, 24, 60} {
		m := testModel(t)
		m.width, m.height = 80, height
		c := m.Chapters[0]
		m.open(c, 1)
		m.results[key{c.ID, m.step().ID, chapters.Classic}] = &chapters.Result{Path: chapters.Classic, Output: []string{"what it wrote"}}
		m.follow = true
		if got := m.render(); !strings.Contains(got, "what it wrote") {
			t.Errorf("%d high:\n%s", height, ansi.Strip(got))
		}
		m.keysAre("home")
		if m.render(); m.above != 0 {
			t.Errorf("%d high: home leaves %d lines above", height, m.above)
		}
	}
}

// A command that is the same on both paths stands there once; what differs, beside each
// other.
func TestBoth(t *testing.T) {
	m := testModel(t)
	m.width, m.height, m.Path = 200, 50, "both"
	c := m.Chapters[0]
	for page := 1; page <= len(c.Steps); page++ {
		m.open(c, page)
		step := m.step()
		first, _, _ := strings.Cut(step.Run[chapters.Classic], "\n")
		first = first[:min(len(first), 30)]
		want := 2
		if step.Run[chapters.Classic] == step.Run[chapters.Modern] {
			want = 1
		} else if !strings.HasPrefix(step.Run[chapters.Modern], first) {
			continue
		}
		if got := strings.Count(ansi.Strip(m.render()), "$ "+first); got != want {
			t.Errorf("step %s: %d times %q, want %d", step.ID, got, first, want)
		}
	}
}

// The language is the learner's only when it was chosen.
func TestLanguageIsChosen(t *testing.T) {
	m := testModel(t)
	m.width, m.height = 80, 24
	m.keysAre("enter")
	if p, err := chapters.ReadProgress(); err != nil || p.Language != "" {
		t.Errorf("%q, %v", p.Language, err)
	}
	m.keysAre("l")
	if p, err := chapters.ReadProgress(); err != nil || p.Language != chapters.Chinese {
		t.Errorf("%q, %v", p.Language, err)
	}
}

// The evidence is pointed at, with its note, in the language.
func TestEvidenceIsPointedAt(t *testing.T) {
	m := testModel(t)
	m.width, m.height = 120, 30
	c := m.Chapters[0]
	m.open(c, 1)
	step := m.step()
	note := map[chapters.Lang]string{chapters.English: "this is it", chapters.Chinese: "就是它"}
	m.results[key{c.ID, step.ID, chapters.Classic}] = &chapters.Result{
		Path: chapters.Classic, Output: []string{"before", "the line", "after"},
		Found: []chapters.Finding{{Evidence: chapters.Evidence{Match: regexp.MustCompile("line"), Note: note}, Lines: []int{1}}},
	}
	for lang, want := range map[chapters.Lang]string{chapters.English: `▶ the line *\n.*╰─ this is it`, chapters.Chinese: `▶ the line *\n.*╰─ 就是它`} {
		m.Lang = lang
		if got := ansi.Strip(m.render()); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  string
	}{
		{"one two three", 8, "one two\nthree"},
		{"use --path here", 8, "use\n--path\nhere"},
		{"用 Docker 的人，都知道它。", 10, "用 Docker\n的人，都知\n道它。"},
		{"他说（看）过了", 6, "他说\n（看）\n过了"},
		{"\x1b[1mbold text\x1b[m", 5, "\x1b[1mbold\x1b[m\n\x1b[1mtext\x1b[m"},
	} {
		if got := wrap(c.text, c.width); got != c.want {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}

func TestMarkdown(t *testing.T) {
	st := newStyles(false)
	for _, c := range []struct{ source, want string }{
		{"a\nb", "a b"},
		{"中\n文", "中文"},
		{"- one\n- two\n  more", "• one\n• two more"},
		{"1. one\n2. two", "1. one\n2. two"},
		{"200. It is a sentence.", "200. It is a sentence."},
		{"text\n\n- one\n\n- two", "text\n\n• one\n\n• two"},
		{"`code` and [a link](http://x)", "`code` and a link (http://x)"},
		{"```\n$ a\n  b\n```", "  $ a\n    b"},
		{"> quote", "│ quote"},
	} {
		if got := ansi.Strip(markdown(c.source, 40, st)); got != c.want {
			t.Errorf("%q: %q, want %q", c.source, got, c.want)
		}
	}
}
