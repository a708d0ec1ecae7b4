package player

import (
	"fmt"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"docker2013/chapters"
)

// Sizes below which a page is laid out otherwise, or not at all.
const (
	minWidth, minHeight = 24, 8
	columnsFrom         = 100 // this wide: prose beside output
	threeFrom           = 150 // this wide: prose beside two outputs
	besideFrom          = 72  // this wide: two outputs beside each other
)

func (m *model) View() tea.View {
	v := tea.NewView(m.render())
	v.AltScreen = true
	v.WindowTitle = "docker2013 learn"
	return v
}

// render is the whole window, exactly as high as it is.
func (m *model) render() string {
	st, w := newStyles(m.Colour), chapters.In(m.Lang)
	if m.width == 0 {
		return ""
	}
	if m.width < minWidth || m.height < minHeight {
		return ansi.Truncate(w.Small, m.width, "")
	}
	var head string
	var body []string
	m.above, m.below = 0, 0
	switch {
	case m.over == source:
		head, body = m.sourceView(st)
	case m.over == xray:
		head, body = m.xrayView(st)
	case m.over == help:
		head, body = m.helpView(st)
	case m.screen == contents:
		head, body = m.contentsView(st)
	default:
		head, body = m.pageView(st)
	}
	foot := []string{m.keys(st)}
	if m.problem != "" { // it may need more lines than one
		foot = strings.Split(wrap(m.problem, m.width), "\n")
		foot = foot[:min(len(foot), m.inner())]
		body = body[:len(body)+1-len(foot)]
		for i := range foot {
			foot[i] = st.bad.Render(foot[i])
		}
	}
	path, hidden := "", "" // these are seen in the narrowest window too
	if m.screen == inChapter && m.over == nothing {
		path = " · " + m.played()
	}
	if m.above > 0 {
		hidden += fmt.Sprintf(" ▲ %d", m.above)
	}
	if m.below > 0 {
		hidden += fmt.Sprintf(" ▼ %d", m.below)
	}
	if hidden != "" {
		hidden += " "
	}
	head = ansi.Truncate(" "+head, m.width-lipgloss.Width(path+hidden), "…") + path
	lines := append([]string{st.bar.Render(pad(head, m.width-lipgloss.Width(hidden)) + hidden)}, body...)
	return strings.Join(append(lines, foot...), "\n")
}

// inner is the height between head and foot.
func (m *model) inner() int { return m.height - 2 }

// pad makes a line exactly as wide as asked.
func pad(s string, width int) string {
	s = ansi.Truncate(s, width, "…")
	return s + strings.Repeat(" ", max(0, width-lipgloss.Width(s)))
}

// window cuts lines to the height between head and foot, from an offset that it keeps in
// bounds, and notes how much there is above and below.
func (m *model) window(lines []string, offset *int) []string {
	height := m.inner()
	*offset = max(0, min(*offset, len(lines)-height))
	end := min(len(lines), *offset+height)
	m.above, m.below = max(m.above, *offset), max(m.below, len(lines)-end)
	cut := slices.Clone(lines[*offset:end])
	for len(cut) < height {
		cut = append(cut, "")
	}
	return cut
}

// hint is a key and what it does.
type hint struct{ key, does string }

// hints are the keys that do something here, the most important first.
func (m *model) hints() []hint {
	w := chapters.In(m.Lang)
	step, x := m.step(), m.exercise()
	enter := hint{"↵", w.KeyNext}
	if m.below > 0 {
		enter.does = w.KeyMore
	}
	var list []hint
	switch {
	case m.running:
		return []hint{{"esc", w.KeyStop}, {"q", w.KeyQuit}}
	case m.over != nothing:
		return []hint{{"esc", w.KeyClose}, {"↑↓", w.KeyScroll}, {"q", w.KeyQuit}, {"l", w.KeyLanguage}}
	case m.screen == contents:
		return []hint{{"↵", w.KeyOpen}, {"↑↓", w.KeyChoose}, {"q", w.KeyQuit}, {"p", w.KeyPath}, {"l", w.KeyLanguage}, {"?", w.KeyHelp}}
	case x != nil && !m.Host.Started(x):
		if m.below == 0 {
			enter.does = w.KeyStart
		}
		list = []hint{enter, {"n", w.KeyNext}, {"b", w.KeyBack}, {"?", w.KeyHelp}, {"q", w.KeyQuit}, {"h", w.KeyHint}, {"o", w.KeySolution}}
	case x != nil:
		if m.below == 0 && (m.verdict == nil || !m.verdict.Passed) {
			enter.does = w.KeyCheck
		}
		list = []hint{enter, {"e", w.KeyShell}, {"h", w.KeyHint}, {"?", w.KeyHelp}, {"q", w.KeyQuit}, {"n", w.KeyNext}, {"b", w.KeyBack}, {"u", w.KeyReset}, {"o", w.KeySolution}}
	case step != nil && !m.shown(step):
		if m.below == 0 {
			enter.does = w.KeyRun
		}
		list = []hint{enter, {"n", w.KeyNext}, {"b", w.KeyBack}, {"?", w.KeyHelp}, {"q", w.KeyQuit}, {"p", w.KeyPath}, {"s", w.KeySource}, {"x", w.KeyXray}}
	case step != nil:
		list = []hint{enter, {"b", w.KeyBack}, {"r", w.KeyAgain}, {"?", w.KeyHelp}, {"q", w.KeyQuit}, {"p", w.KeyPath}, {"s", w.KeySource}, {"x", w.KeyXray}}
	default:
		list = []hint{enter, {"b", w.KeyBack}, {"?", w.KeyHelp}, {"q", w.KeyQuit}, {"p", w.KeyPath}}
	}
	return append(list, hint{"l", w.KeyLanguage}, hint{"m", w.KeyContents}, hint{"↑↓", w.KeyScroll})
}

// keys is the last line: what can be pressed, as many as there is room for.
func (m *model) keys(st styles) string {
	line := ""
	for _, h := range m.hints() {
		next := line + " " + st.strong.Render(h.key) + " " + h.does + " "
		if lipgloss.Width(next) > m.width {
			break
		}
		line = next
	}
	return line
}

// helpView lists all keys.
func (m *model) helpView(st styles) (head string, body []string) {
	w := chapters.In(m.Lang)
	var lines []string
	for _, h := range []hint{
		{"↵", w.HelpEnter}, {"n  →", w.HelpNext}, {"b  ←", w.HelpBack}, {"↑ ↓", w.HelpScroll}, {"m", w.HelpContents},
		{"p", w.HelpPath}, {"l", w.HelpLanguage}, {"r", w.HelpAgain}, {"s", w.HelpSource}, {"x", w.HelpXray}, {"esc", w.HelpStop}, {"q", w.HelpQuit},
		{"", ""}, {"", w.Exercises},
		{"e", w.HelpShell}, {"h", w.HelpHint}, {"u", w.HelpReset}, {"o", w.HelpSolution},
	} {
		for i, text := range strings.Split(wrap(h.does, m.width-8), "\n") {
			key := st.strong.Render(pad([]string{h.key, ""}[min(i, 1)], 5))
			if h.key == "" { // a heading
				key, text = "", st.title.Render(text)
			}
			lines = append(lines, "  "+key+text)
		}
	}
	return w.KeyHelp, m.window(lines, &m.overScroll)
}

// xrayView is what xray says, or that it is on its way.
func (m *model) xrayView(st styles) (head string, body []string) {
	w := chapters.In(m.Lang)
	path := m.played()
	lines := []string{st.dim.Render(w.Running)}
	if found := m.xrays[path]; found != nil {
		lines = nil
		for _, line := range found {
			style := st.dim
			switch trimmed := strings.TrimLeft(line, " "); {
			case trimmed == line:
				style = st.title
			case strings.Contains(line, "• ") || !strings.HasPrefix(line, "      "):
				style = lipgloss.NewStyle()
			}
			for text := range strings.SplitSeq(ansi.Hardwrap(clean(line), m.width, true), "\n") {
				lines = append(lines, style.Render(text))
			}
		}
	}
	return fmt.Sprintf("%s · docker2013 xray --path %s run base /bin/true", w.KeyXray, path), m.window(lines, &m.overScroll)
}

func (m *model) contentsView(st styles) (head string, body []string) {
	w := chapters.In(m.Lang)
	var lines []string
	stateAt := max(10, min(48, m.width-16))
	for i, c := range m.Chapters {
		mark := "  "
		if i == m.cursor {
			mark = "▶ "
		}
		passed := 0
		for _, x := range c.Exercises {
			if m.progress.State(x.ID) == "passed" {
				passed++
			}
		}
		done := m.progress.Done(c)
		state := fmt.Sprintf("%d/%d · %d/%d", done, len(c.Steps), passed, len(c.Exercises))
		if done == len(c.Steps) && passed == len(c.Exercises) {
			state += " ✓"
		}
		name := fmt.Sprintf("%s%2d  %s", mark, c.Number, c.Prose(m.Lang).Title)
		line := pad(name, stateAt) + "  " + state
		if i == m.cursor {
			line = st.strong.Render(line)
		}
		lines = append(lines, ansi.Truncate(line, m.width, "…"))
	}
	// The cursor stays in sight; what room is left below tells of its chapter.
	height := m.inner()
	fit := len(lines) <= height
	intro := strings.Split(markdown(chapters.For(m.Chapters[m.cursor].Prose(m.Lang).Intro, m.paths()...), min(m.width-4, 76), st), "\n")
	if room := height - len(lines) - 2; room >= 3 {
		lines = append(lines, "")
		for _, text := range intro[:min(len(intro), room)] {
			lines = append(lines, "    "+text)
		}
	}
	offset := max(0, m.cursor-height/2)
	body = m.window(lines, &offset)
	if fit { // all chapters are in sight
		m.above, m.below = 0, 0
	}
	head = pad(fmt.Sprintf("%s · %s", w.Course, m.Path), stateAt-1)
	return head + "  " + w.Done, body
}

func (m *model) sourceView(st styles) (head string, body []string) {
	var lines []string
	for _, ref := range m.step().References(m.Sources) {
		title := ansi.Hardwrap(ref.String(), m.width, true)
		lines = append(append(lines, strings.Split(st.title.Render(title), "\n")...), "")
		text := strings.ReplaceAll(m.Sources[ref.Symbol].Text, "\t", "    ")
		for line := range strings.SplitSeq(text, "\n") {
			if strings.HasPrefix(strings.TrimSpace(line), "//") {
				line = st.dim.Render(line)
			}
			lines = append(lines, strings.Split(ansi.Hardwrap(line, m.width, true), "\n")...)
		}
		lines = append(lines, "")
	}
	return chapters.In(m.Lang).KeySource + " · " + m.step().ID, m.window(lines, &m.overScroll)
}

// twoColumns: the prose stands beside the output.
func (m *model) twoColumns() bool {
	if m.step() == nil {
		return false
	}
	return m.width >= threeFrom || m.width >= columnsFrom && len(m.paths()) == 1
}

func (m *model) pageView(st styles) (head string, body []string) {
	c, prose := m.chapter, m.chapter.Prose(m.Lang)
	title := prose.Title
	step, x := m.step(), m.exercise()
	switch {
	case step != nil:
		title = prose.Steps[step.ID].Title
	case x != nil:
		title = fmt.Sprintf("%s %s: %s", chapters.In(m.Lang).Exercise, x.ID, x.Text(m.Lang).Title)
	}
	head = fmt.Sprintf("%d.%d/%d %s", c.Number, m.page, len(pages(c))-1, title)
	switch {
	case step == nil && x == nil:
		width := min(m.width-2, 80)
		lines := strings.Split(wrap(st.title.Render(title), width)+"\n\n"+m.text(prose.Intro, width, st), "\n")
		return head, m.window(lines, &m.scroll)
	case x != nil:
		lines, news := m.exerciseLines(x, st)
		m.toNews(&m.scroll, len(lines), len(lines), news, news)
		return head, m.window(lines, &m.scroll)
	}
	if !m.twoColumns() {
		width := m.width - 1
		lines := m.proseLines(step, min(width, 90), st, false)
		at := len(lines) + 1
		outs, begin := m.outputs(step, width, st)
		lines = append(append(lines, ""), outs...)
		end := len(lines)
		lines = append(append(lines, ""), m.afterLines(step, min(width, 90), st)...)
		m.toNews(&m.scroll, len(lines), end, at, at+begin)
		return head, m.window(lines, &m.scroll)
	}
	left := min(m.width*2/5, 68)
	right := m.width - left - 3
	texts := m.window(m.proseLines(step, left, st, true), &m.scroll)
	lines, begin := m.outputs(step, right, st)
	m.toNews(&m.outScroll, len(lines), len(lines), 0, begin)
	outs := m.window(lines, &m.outScroll)
	for i := range texts {
		body = append(body, pad(texts[i], left)+" "+st.dim.Render("│")+" "+outs[i])
	}
	return head, body
}

// toNews scrolls to what has come, until the learner scrolls: so that all of it is in
// sight with the command, else from the output on; while it runs, the newest line. all,
// end, command and output are lines: the page's end, and where its parts are.
func (m *model) toNews(offset *int, all, end, command, output int) {
	height := m.inner()
	switch {
	case !m.follow:
	case !m.running && all-command <= height:
		*offset = max(0, all-height)
	case m.running || end-command <= height:
		*offset = max(0, end-height)
	default:
		*offset = output
	}
}

func (m *model) text(source string, width int, st styles) string {
	return markdown(chapters.For(source, m.paths()...), width, st)
}

// proseLines is a step's text up to the question, and, with after, what was to be seen.
func (m *model) proseLines(step *chapters.Step, width int, st styles, after bool) []string {
	text, w := m.chapter.Prose(m.Lang).Steps[step.ID], chapters.In(m.Lang)
	all := m.text(text.Claim, width, st)
	question := m.text(text.Question, width-2, st)
	all += "\n\n" + st.strong.Render(strings.TrimSpace(w.Question)) + "\n" + indent(question, "┃ ")
	lines := strings.Split(all, "\n")
	if after {
		lines = append(append(lines, ""), m.afterLines(step, width, st)...)
	}
	return lines
}

func indent(s, with string) string {
	return with + strings.ReplaceAll(s, "\n", "\n"+with)
}

// afterLines is what is told once the step has run.
func (m *model) afterLines(step *chapters.Step, width int, st styles) []string {
	if !m.shown(step) || m.running {
		return nil
	}
	w := chapters.In(m.Lang)
	all := st.strong.Render(w.After) + "\n" + m.text(m.chapter.Prose(m.Lang).Steps[step.ID].After, width, st)
	lines := append(strings.Split(all, "\n"), "")
	for _, ref := range step.References(m.Sources) {
		lines = append(lines, strings.Split(st.dim.Render(wrap(w.Source+ref.String(), width)), "\n")...)
	}
	for _, cite := range step.Cites {
		lines = append(lines, strings.Split(st.dim.Render(wrap(w.Cites+cite, width)), "\n")...)
	}
	return lines
}

// outputs are the commands and outputs of the paths, beside each other where there is
// room; a command that is the same on both stands above them. begin is the line where
// what they wrote begins.
func (m *model) outputs(step *chapters.Step, width int, st styles) (lines []string, begin int) {
	paths := m.paths()
	if len(paths) == 1 {
		lines = m.command(step, paths[0], width, st)
		return append(append(lines, ""), m.output(step, paths[0], width, st)...), len(lines) + 1
	}
	same := step.Run[paths[0]] == step.Run[paths[1]] && step.Fails[paths[0]] == step.Fails[paths[1]]
	if same {
		lines = append(m.command(step, paths[0], width, st), "")
		begin = len(lines)
	}
	beside := width >= besideFrom
	half := width
	if beside {
		half = (width - 3) / 2
	}
	var sides [][]string
	for i, path := range paths {
		side := []string{st.title.Render(string(path))}
		if !same {
			side = append(append(side, m.command(step, path, half, st)...), "")
			if i == 0 || beside && len(side) < begin {
				begin = len(side)
			}
		}
		sides = append(sides, append(side, m.output(step, path, half, st)...))
	}
	if !beside {
		return append(append(append(lines, sides[0]...), ""), sides[1]...), begin
	}
	for i := range max(len(sides[0]), len(sides[1])) {
		line := func(side []string) string {
			if i < len(side) {
				return side[i]
			}
			return ""
		}
		lines = append(lines, pad(line(sides[0]), half)+" "+st.dim.Render("│")+" "+line(sides[1]))
	}
	return lines, begin
}

// command is what a step runs on a path.
func (m *model) command(step *chapters.Step, path chapters.Path, width int, st styles) (lines []string) {
	if !step.On(path) {
		return nil
	}
	for i, line := range strings.Split(strings.TrimRight(step.Run[path], "\n"), "\n") {
		for n, text := range codeLines(line, width-2) {
			lines = append(lines, st.code.Render([]string{"$ ", "  "}[min(i+n, 1)]+text))
		}
	}
	if step.Fails[path] {
		for line := range strings.SplitSeq(wrap("("+chapters.In(m.Lang).MeantToFail+")", width), "\n") {
			lines = append(lines, st.note.Render(line))
		}
	}
	return lines
}

// output is what a path's command wrote, with the evidence, and how it ended.
func (m *model) output(step *chapters.Step, path chapters.Path, width int, st styles) (lines []string) {
	w := chapters.In(m.Lang)
	if !step.On(path) {
		return []string{st.dim.Render(w.NotHere)}
	}
	add := func(style lipgloss.Style, lead, text string) {
		for i, line := range strings.Split(wrap(text, max(8, width-2)), "\n") {
			lines = append(lines, style.Render([]string{lead, "  "}[min(i, 1)]+line))
		}
	}
	r := m.results[key{m.chapter.ID, step.ID, path}]
	if r == nil {
		return []string{st.dim.Render(w.Ready)}
	}
	notes := map[int][]string{} // by line
	matched := map[int]bool{}
	for _, f := range r.Found {
		for i, at := range f.Lines {
			matched[at] = true
			if note := f.Note[m.Lang]; i == 0 && note != "" {
				notes[at] = append(notes[at], note)
			}
		}
	}
	for i, line := range r.Output {
		line = clean(line)
		if !matched[i] {
			add(lipgloss.NewStyle(), "  ", line)
			continue
		}
		add(st.match, "▶ ", line)
		for _, note := range notes[i] {
			for n, text := range strings.Split(wrap(note, max(8, width-5)), "\n") {
				lines = append(lines, st.note.Render([]string{"  ╰─ ", "     "}[min(n, 1)]+text))
			}
		}
	}
	if m.running && r.Status < 0 && r.Err == nil && len(r.Missing) == 0 {
		text := w.Running
		if m.catching != "" {
			text = fmt.Sprintf(w.Before, m.catching)
		}
		return append(lines, st.dim.Render(text))
	}
	return append(lines, m.ending(r, width, st)...)
}

// codeLines breaks a line of a script at its spaces; what goes on stands further in.
func codeLines(line string, width int) []string {
	line = strings.ReplaceAll(line, "\t", "    ")
	code := strings.TrimLeft(line, " ")
	margin := line[:min(len(line)-len(code), width/2)]
	broken := strings.Split(wrap(code, max(8, width-len(margin)-4)), "\n")
	if len(broken) > 1 && lipgloss.Width(code)+len(margin) <= width {
		broken = []string{code}
	}
	for i := range broken {
		broken[i] = margin + []string{"", "    "}[min(i, 1)] + broken[i]
	}
	return broken
}

// ending tells how a step ended, and what of its evidence isn't a line of its output.
func (m *model) ending(r *chapters.Result, width int, st styles) []string {
	w := chapters.In(m.Lang)
	var lines []string
	tell := func(style lipgloss.Style, text string) {
		for line := range strings.SplitSeq(wrap(text, width), "\n") {
			lines = append(lines, style.Render(line))
		}
	}
	for _, f := range r.Found {
		if note := f.Note[m.Lang]; f.Absent != nil && f.Holds() && note != "" {
			tell(st.note, w.NoLine+": "+note)
		}
	}
	switch {
	case len(r.Missing) > 0:
		tell(st.bad, w.NotRun+" "+strings.Join(r.Missing, ", "))
		return lines
	case r.Fails && r.EndedRight():
		tell(st.note, fmt.Sprintf(w.Failed, r.Status))
	}
	if r.Holds() {
		tell(st.good, w.Held)
	}
	for _, wrong := range r.Wrong() {
		tell(st.bad, "✗ "+wrong)
	}
	return lines
}

// clean makes a line of output harmless to our screen.
func clean(line string) string {
	line = strings.ReplaceAll(ansi.Strip(line), "\t", "    ")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '·'
		}
		return r
	}, line)
}

// exerciseLines are an exercise's page; news is the line where what was said of the
// learner's work begins.
func (m *model) exerciseLines(x *chapters.Exercise, st styles) (lines []string, news int) {
	w := chapters.In(m.Lang)
	width := min(m.width-1, 90)
	text := x.Text(m.Lang)
	add := func(block string) { lines = append(lines, strings.Split(block, "\n")...) }
	about := fmt.Sprintf("%s · "+w.Level+" · %s · %s", x.ID, x.Level, w.Name(x.Kind), w.Name(m.progress.State(x.ID)))
	add(st.title.Render(wrap(text.Title, width)))
	add(st.dim.Render(wrap(about, width)))
	lines = append(lines, "")
	add(m.text(text.Task, width, st))
	lines = append(lines, "")
	started := m.Host.Started(x)
	switch {
	case m.running:
		add(st.dim.Render(w.Running))
	case started:
		add(st.strong.Render(ansi.Hardwrap("W="+m.Host.W(x), width, true)))
		if m.verdict == nil || !m.verdict.Passed {
			add(wrap(w.CheckIt, width))
		}
	default:
		add(wrap(w.StartIt, width))
	}
	news = len(lines)
	for _, line := range m.said {
		add(ansi.Hardwrap("  "+clean(line), width, true))
	}
	if m.verdict != nil {
		lines = append(lines, "")
		m.addVerdict(x, width, st, add)
	}
	if m.hint != nil {
		add("\n" + st.strong.Render(w.Hint))
		add(markdown(chapters.For(x.Hint(m.Lang, *m.hint), x.Path), width, st))
	}
	if m.solution || m.verdict != nil && m.verdict.Passed {
		add("\n" + st.strong.Render(w.OurSolution))
		if m.solution {
			news = len(lines) - 1
		}
		for line := range strings.SplitSeq(x.Shown(), "\n") {
			for _, text := range codeLines(line, width-2) {
				lines = append(lines, st.code.Render("  "+text))
			}
		}
	}
	return lines, news
}

// maxFound is how many lines are told of a thing that a check has found.
const maxFound = 12

// addVerdict tells what a check found.
func (m *model) addVerdict(x *chapters.Exercise, width int, st styles, add func(string)) {
	v, w := m.verdict, chapters.In(m.Lang)
	for _, text := range v.Output {
		add(ansi.Hardwrap("  "+clean(text), width, true))
	}
	for _, j := range v.Lines {
		style, mark := st.good, "✓ "
		if !j.OK {
			style, mark = st.bad, "✗ "
		}
		found := strings.Split(j.String(), "\n")
		if more := len(found) - maxFound; more > 0 {
			found = append(found[:maxFound], fmt.Sprintf("… %d", more))
		}
		for i, text := range found {
			for line := range strings.SplitSeq(wrap([]string{mark, "  "}[min(i, 1)]+clean(text), width), "\n") {
				add(style.Render(line))
			}
		}
	}
	switch {
	case v.Passed:
		add(st.good.Render(w.Passed))
	case !v.Unclear && v.Err == nil:
		add("\n" + st.strong.Render(w.Hint))
		add(markdown(chapters.For(x.Hint(m.Lang, v.Hint), x.Path), width, st))
	}
}
