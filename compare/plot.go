package compare

import (
	"fmt"
	"html"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"math"

	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"
)

// A plot has a bar for each runtime: the dark part until the program starts, the
// light part until the command is back, and a line from quartile to quartile of that. The
// scale is logarithmic, because a virtual machine's bar would leave nothing of the others.
const (
	plotWidth, rowHeight = 860, 34
	labelWidth, barWidth = 110, 600
	plotTop              = 60
	barHeight            = 22
)

var (
	startColor = color.RGBA{0x1f, 0x5a, 0x96, 0xff}
	exitColor  = color.RGBA{0x9c, 0xc3, 0xe6, 0xff}
	textColor  = color.RGBA{0x22, 0x22, 0x22, 0xff}
	gridColor  = color.RGBA{0xdd, 0xdd, 0xdd, 0xff}
)

const plotTitle = "until the program starts (dark) and until the command is back (light; line: quartiles); logarithmic"

// plot is results as lengths in pixels.
type plot struct {
	bars   []bar
	ticks  []tick
	height int
}

type bar struct {
	name, label            string
	start, exit, low, high int // low, high: the quartiles of exit
}

type tick struct {
	at   int
	text string
}

func newPlot(results []Result) plot {
	low, high := math.Inf(1), 0.0
	for _, r := range results {
		if r.Failed == "" {
			low, high = min(low, r.Start.Median), max(high, r.Exit.Median, r.Exit.High)
		}
	}
	low /= 1.5 // so that the shortest bar is one
	scale := func(t float64) int {
		return int(barWidth * max(0, math.Log(t/low)/max(math.Log(high/low), 0.01)))
	}
	var p plot
	for _, r := range results {
		if r.Failed == "" {
			label := fmt.Sprintf("%.1f / %.1f ms", 1000*r.Start.Median, 1000*r.Exit.Median)
			p.bars = append(p.bars, bar{r.Name, label, scale(r.Start.Median), scale(r.Exit.Median), scale(r.Exit.Low), scale(r.Exit.High)})
		}
	}
	for decade := 1e-4; decade < high; decade *= 10 {
		for _, t := range []float64{decade, 2 * decade, 5 * decade} {
			if t < low || t > high {
				continue
			}
			text := fmt.Sprintf("%g ms", math.Round(t*1e4)/10)
			if t > 0.999 {
				text = fmt.Sprintf("%g s", math.Round(t))
			}
			if n := len(p.ticks); n > 0 && scale(t)-p.ticks[n-1].at < 55 {
				continue // no room for its text
			}
			p.ticks = append(p.ticks, tick{scale(t), text})
		}
	}
	p.height = plotTop + rowHeight*len(p.bars) + 30
	return p
}

// SVG draws the times.
func SVG(w io.Writer, results []Result) error {
	p := newPlot(results)
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="14">`+"\n", plotWidth, p.height)
	fmt.Fprintf(w, `<rect width="100%%" height="100%%" fill="white"/><text x="20" y="32" font-size="16">%s</text>`+"\n", html.EscapeString(plotTitle))
	line := func(x1, y1, x2, y2 int, c color.RGBA) {
		fmt.Fprintf(w, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s"/>`, x1, y1, x2, y2, hex(c))
	}
	for _, t := range p.ticks {
		line(labelWidth+t.at, plotTop-8, labelWidth+t.at, p.height-24, gridColor)
		fmt.Fprintf(w, `<text x="%d" y="%d" text-anchor="middle" font-size="12">%s</text>`+"\n", labelWidth+t.at, p.height-8, html.EscapeString(t.text))
	}
	for i, b := range p.bars {
		y := plotTop + i*rowHeight
		fmt.Fprintf(w, `<text x="%d" y="%d" text-anchor="end">%s</text>`, labelWidth-10, y+16, html.EscapeString(b.name))
		fmt.Fprintf(w, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`, labelWidth, y, b.exit, barHeight, hex(exitColor))
		fmt.Fprintf(w, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`, labelWidth, y, b.start, barHeight, hex(startColor))
		line(labelWidth+b.low, y+barHeight/2, labelWidth+b.high, y+barHeight/2, textColor)
		for _, x := range []int{b.low, b.high} {
			line(labelWidth+x, y+7, labelWidth+x, y+barHeight-7, textColor)
		}
		fmt.Fprintf(w, `<text x="%d" y="%d">%s</text>`+"\n", labelWidth+max(b.exit, b.high)+8, y+16, html.EscapeString(b.label))
	}
	_, err := fmt.Fprintln(w, "</svg>")
	return err
}

func hex(c color.RGBA) string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }

// PNG draws the same.
func PNG(w io.Writer, results []Result) error {
	p := newPlot(results)
	img := image.NewRGBA(image.Rect(0, 0, plotWidth, p.height))
	draw.Draw(img, img.Bounds(), image.White, image.Point{}, draw.Src)
	text := font.Drawer{Dst: img, Src: image.NewUniform(textColor), Face: basicfont.Face7x13}
	write := func(x, y int, s string) {
		text.Dot = fixed.P(x, y)
		text.DrawString(s)
	}
	fill := func(x, y, width, height int, c color.Color) {
		draw.Draw(img, image.Rect(x, y, x+width, y+height), image.NewUniform(c), image.Point{}, draw.Src)
	}
	write(20, 32, plotTitle)
	for _, t := range p.ticks {
		fill(labelWidth+t.at, plotTop-8, 1, p.height-24-plotTop+8, gridColor)
		write(labelWidth+t.at-text.MeasureString(t.text).Ceil()/2, p.height-8, t.text)
	}
	for i, b := range p.bars {
		y := plotTop + i*rowHeight
		write(labelWidth-10-text.MeasureString(b.name).Ceil(), y+15, b.name)
		fill(labelWidth, y, b.exit, barHeight, exitColor)
		fill(labelWidth, y, b.start, barHeight, startColor)
		fill(labelWidth+b.low, y+barHeight/2, b.high-b.low, 1, textColor)
		for _, x := range []int{b.low, b.high} {
			fill(labelWidth+x, y+7, 1, barHeight-14, textColor)
		}
		write(labelWidth+max(b.exit, b.high)+8, y+15, b.label)
	}
	return png.Encode(w, img)
}
