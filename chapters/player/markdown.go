package player

import (
	"fmt"
	"strings"
	"unicode"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/text"
)

// markdown lays a text out for a width. Chinese is broken between any two
// characters, but never before a closing mark or after an opening one.
func markdown(source string, width int, st styles) string {
	src := []byte(source)
	p := page{src: src, st: st}
	p.blocks(goldmark.DefaultParser().Parse(text.NewReader(src)), max(width, 8), "")
	return strings.TrimRight(strings.Join(p.lines, "\n"), "\n ")
}

// Text lays out a text of a chapter for a width.
func Text(source string, width int, colour bool) string {
	return markdown(source, width, newStyles(colour))
}

// page is a text while it is laid out.
type page struct {
	src   []byte
	st    styles
	lines []string
}

// blocks lays out the blocks in a node, below each other, each line after indent.
func (p *page) blocks(node ast.Node, width int, indent string) {
	for n := node.FirstChild(); n != nil; n = n.NextSibling() {
		if n.PreviousSibling() != nil && tight(n) == nil {
			p.lines = append(p.lines, "")
		}
		switch n := n.(type) {
		case *ast.List:
			p.list(n, width, indent)
		case *ast.FencedCodeBlock, *ast.CodeBlock:
			for i := range n.Lines().Len() {
				line := n.Lines().At(i)
				code := p.st.code.Render(strings.ReplaceAll(strings.TrimRight(string(line.Value(p.src)), "\n"), "\t", "    "))
				p.add(ansi.Hardwrap("  "+code, width, true), indent)
			}
		case *ast.Blockquote:
			p.blocks(n, width-2, indent+"│ ")
		case *ast.Heading:
			p.add(wrap(p.st.title.Render(p.inline(n)), width), indent)
		case *ast.ThematicBreak:
			p.add(strings.Repeat("─", width), indent)
		default:
			p.add(wrap(p.inline(n), width), indent)
		}
	}
}

// tight is the item of a list without blank lines that n is directly in.
func tight(n ast.Node) ast.Node {
	if item, ok := n.Parent().(*ast.ListItem); ok && item.Parent().(*ast.List).IsTight {
		return item
	}
	return nil
}

func (p *page) list(list *ast.List, width int, indent string) {
	number := list.Start
	// A paragraph that begins with a number, "200. That is…", is no list.
	if item := list.FirstChild(); number > 1 && list.ChildCount() == 1 && item.ChildCount() == 1 {
		p.add(wrap(fmt.Sprintf("%d. %s", number, p.inline(item.FirstChild())), width), indent)
		return
	}
	for item := list.FirstChild(); item != nil; item = item.NextSibling() {
		if item.PreviousSibling() != nil && !list.IsTight {
			p.lines = append(p.lines, "")
		}
		mark := "• "
		if list.IsOrdered() {
			mark = fmt.Sprintf("%d. ", number)
			number++
		}
		first := len(p.lines)
		p.blocks(item, width-len([]rune(mark)), indent+strings.Repeat(" ", len([]rune(mark))))
		if first < len(p.lines) {
			p.lines[first] = indent + mark + strings.TrimPrefix(p.lines[first], indent+strings.Repeat(" ", len([]rune(mark))))
		}
	}
}

func (p *page) add(block, indent string) {
	for line := range strings.SplitSeq(block, "\n") {
		p.lines = append(p.lines, indent+line)
	}
}

// inline is the running text of a node.
func (p *page) inline(node ast.Node) string {
	var b strings.Builder
	for n := node.FirstChild(); n != nil; n = n.NextSibling() {
		switch n := n.(type) {
		case *ast.Text:
			b.Write(n.Segment.Value(p.src))
			switch {
			case n.HardLineBreak():
				b.WriteByte('\n')
			case n.SoftLineBreak() && !p.insideChinese(n):
				b.WriteByte(' ')
			}
		case *ast.String:
			b.Write(n.Value)
		case *ast.CodeSpan:
			b.WriteString(p.st.inlineCode(p.inline(n)))
		case *ast.Emphasis:
			style := p.st.emphasis
			if n.Level > 1 {
				style = p.st.strong
			}
			b.WriteString(style.Render(p.inline(n)))
		case *ast.Link:
			b.WriteString(p.inline(n))
			if to := string(n.Destination); !strings.HasPrefix(to, "#") {
				fmt.Fprintf(&b, " (%s)", to)
			}
		case *ast.AutoLink:
			b.Write(n.URL(p.src))
		default:
			b.WriteString(p.inline(n))
		}
	}
	return b.String()
}

// insideChinese: the line break after a text stands between two characters that are
// written without a space.
func (p *page) insideChinese(t *ast.Text) bool {
	before := []rune(strings.TrimRight(string(t.Segment.Value(p.src)), " "))
	var after []rune
	if next, ok := t.NextSibling().(*ast.Text); ok {
		after = []rune(string(next.Segment.Value(p.src)))
	}
	return len(before) > 0 && len(after) > 0 && (wide(before[len(before)-1]) && wide(after[0]))
}

func wide(r rune) bool {
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana) || r >= 0x3000 && r < 0x3040 || r >= 0xff00 && r < 0xfff0
}

const (
	mayBreak  = "\u200b" // zero width space
	stayTrue  = "\u2011" // non-breaking hyphen
	noBefore  = "，。、；：？！）》」』】〉…—,.;:?!)”’"
	noAfter   = "（《「『【〈(“‘"
	breakHere = mayBreak
)

// wrap breaks styled text into lines.
func wrap(s string, width int) string {
	var b strings.Builder
	runes := []rune(strings.ReplaceAll(s, "-", stayTrue))
	escape := false
	var last rune // the last one that is seen
	for i, r := range runes {
		if r == '\x1b' {
			escape = true
		}
		if !escape {
			if i > 0 && (wide(r) || wide(last)) && !strings.ContainsRune(noBefore, r) && !strings.ContainsRune(noAfter, last) && last != 0 && last != ' ' && r != ' ' {
				b.WriteString(mayBreak)
			}
			last = r
		}
		if escape && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			escape = false
		}
		b.WriteRune(r)
	}
	wrapped := ansi.Wrap(b.String(), width, breakHere)
	lines := strings.Split(strings.NewReplacer(mayBreak, "", stayTrue, "-").Replace(wrapped), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	return closeStyles(lines)
}

// closeStyles makes every line stand for itself: a style that goes on over its end is
// closed there and opened again.
func closeStyles(lines []string) string {
	open := ""
	for i, line := range lines {
		start := open
		rest := line
		for {
			at := strings.Index(rest, "\x1b[")
			if at < 0 {
				break
			}
			end := strings.IndexByte(rest[at:], 'm')
			if end < 0 {
				break
			}
			if code := rest[at : at+end+1]; code == "\x1b[m" || code == "\x1b[0m" {
				open = ""
			} else {
				open += code
			}
			rest = rest[at+end+1:]
		}
		lines[i] = start + line
		if open != "" {
			lines[i] += "\x1b[m"
		}
	}
	return strings.Join(lines, "\n")
}

// styles are how things look. Without colours nothing is lost: what they tell is told
// by marks too.
type styles struct {
	title, dim, strong, emphasis, code, match, good, bad, note, bar, chosen lipgloss.Style
	colour                                                                  bool
}

func newStyles(colour bool) styles {
	s := lipgloss.NewStyle
	st := styles{
		title: s().Bold(true), dim: s(), strong: s().Bold(true), emphasis: s().Italic(true), code: s(), match: s().Bold(true),
		good: s(), bad: s().Bold(true), note: s(), bar: s().Reverse(true), chosen: s().Reverse(true), colour: colour,
	}
	if colour {
		c := lipgloss.Color
		st.title = st.title.Foreground(c("12"))
		st.dim = st.dim.Faint(true)
		st.code = st.code.Foreground(c("6"))
		st.match = st.match.Foreground(c("2"))
		st.good = st.good.Foreground(c("2"))
		st.bad = st.bad.Foreground(c("1"))
		st.note = st.note.Foreground(c("3"))
	}
	return st
}

// inlineCode keeps the marks where there is no colour.
func (s styles) inlineCode(code string) string {
	if !s.colour {
		return "`" + code + "`"
	}
	return s.code.Render(code)
}
