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
// light part until the command is back. The scale is logarithmic, because a virtual
// machine's bar would leave nothing of the others.
const (
	plotWidth, rowHeight = 860, 34
	labelWidth, barWidth = 170, 560
	plotTop              = 60
)

var (
	startColor = color.RGBA{0x1f, 0x5a, 0x96, 0xff}
	exitColor  = color.RGBA{0x9c, 0xc3, 0xe6, 0xff}
	textColor  = color.RGBA{0x22, 0x22, 0x22, 0xff}
)

const plotTitle = "time to start (dark) and to exit (light), ms, logarithmic"

// bar is a result as lengths in pixels.
type bar struct {
	name, label string
	start, exit int
}

func bars(results []Result) []bar {
	low, high := math.Inf(1), 0.0
	for _, r := range results {
		if r.Failed == "" {
			low, high = min(low, r.Start.Median), max(high, r.Exit.Median)
		}
	}
	scale := func(t float64) int {
		return int(barWidth * (0.1 + 0.9*math.Log(t/low)/max(math.Log(high/low), 0.01)))
	}
	var list []bar
	for _, r := range results {
		if r.Failed == "" {
			list = append(list, bar{r.Name, fmt.Sprintf("%.1f / %.1f", 1000*r.Start.Median, 1000*r.Exit.Median), scale(r.Start.Median), scale(r.Exit.Median)})
		}
	}
	return list
}

// SVG draws the times.
func SVG(w io.Writer, results []Result) error {
	list := bars(results)
	height := plotTop + rowHeight*len(list) + 20
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="14">`+"\n", plotWidth, height)
	fmt.Fprintf(w, `<rect width="100%%" height="100%%" fill="white"/><text x="20" y="32" font-size="16">%s</text>`+"\n", html.EscapeString(plotTitle))
	for i, b := range list {
		y := plotTop + i*rowHeight
		fmt.Fprintf(w, `<text x="%d" y="%d" text-anchor="end">%s</text>`, labelWidth-10, y+17, html.EscapeString(b.name))
		fmt.Fprintf(w, `<rect x="%d" y="%d" width="%d" height="22" fill="%s"/>`, labelWidth, y, b.exit, hex(exitColor))
		fmt.Fprintf(w, `<rect x="%d" y="%d" width="%d" height="22" fill="%s"/>`, labelWidth, y, b.start, hex(startColor))
		fmt.Fprintf(w, `<text x="%d" y="%d">%s</text>`+"\n", labelWidth+b.exit+8, y+17, html.EscapeString(b.label))
	}
	_, err := fmt.Fprintln(w, "</svg>")
	return err
}

func hex(c color.RGBA) string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }

// PNG draws the same.
func PNG(w io.Writer, results []Result) error {
	list := bars(results)
	img := image.NewRGBA(image.Rect(0, 0, plotWidth, plotTop+rowHeight*len(list)+20))
	draw.Draw(img, img.Bounds(), image.White, image.Point{}, draw.Src)
	text := font.Drawer{Dst: img, Src: image.NewUniform(textColor), Face: basicfont.Face7x13}
	write := func(x, y int, s string) {
		text.Dot = fixed.P(x, y)
		text.DrawString(s)
	}
	fill := func(x, y, width int, c color.Color) {
		draw.Draw(img, image.Rect(x, y, x+width, y+22), image.NewUniform(c), image.Point{}, draw.Src)
	}
	write(20, 32, plotTitle)
	for i, b := range list {
		y := plotTop + i*rowHeight
		write(labelWidth-10-text.MeasureString(b.name).Ceil(), y+15, b.name)
		fill(labelWidth, y, b.exit, exitColor)
		fill(labelWidth, y, b.start, startColor)
		write(labelWidth+b.exit+8, y+15, b.label)
	}
	return png.Encode(w, img)
}
