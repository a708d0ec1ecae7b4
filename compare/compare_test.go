package compare

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"image/png"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// shell is a runtime that contains nothing.
func shell(name, script string) Runtime {
	return Runtime{Name: name, Daemons: func(context.Context) []int { return nil }, Command: func(n int, program ...string) *exec.Cmd {
		return exec.Command("/bin/sh", append([]string{"-c", script, "sh"}, program...)...)
	}}
}

func TestMeasure(t *testing.T) {
	results := Measure(t.Context(), []Runtime{
		shell("plain", `exec "$@"`), shell("late", `sleep 0.2; exec "$@"`), shell("leaving", `"$@"; sleep 0.2`),
		shell("broken", `echo no container today >&2; exit 3`), {Name: "absent", Missing: "not installed"},
	}, 3, func(string) {})
	plain, late, leaving := results[0], results[1], results[2]
	if plain.Failed != "" || plain.Exit.Runs != 3 || plain.Start.Median <= 0 || plain.Exit.Median < plain.Start.Median {
		t.Errorf("%+v", plain)
	}
	if late.Start.Median < plain.Start.Median+0.15 || leaving.Start.Median > late.Start.Median || leaving.Exit.Median < 0.2 {
		t.Errorf("start and exit are mixed up: %+v %+v", late, leaving)
	}
	if len(plain.Isolation.Namespaces) != 0 {
		t.Errorf("a shell of the host's has namespaces of its own: %v", plain.Isolation.Namespaces)
	}
	if results[3].Failed != "no container today" || results[4].Failed != "not installed" {
		t.Errorf("%+v %+v", results[3], results[4])
	}
	var text, markdown, svg, picture bytes.Buffer
	if err := Text(&text, results); err != nil || !strings.Contains(text.String(), "broken: no container today") {
		t.Errorf("%v\n%s", err, text.String())
	}
	if err := Markdown(&markdown, results); err != nil || !strings.HasPrefix(markdown.String(), "| runtime | start ms |") {
		t.Errorf("%v\n%s", err, markdown.String())
	}
	if err := SVG(&svg, results); err != nil || strings.Count(svg.String(), "<rect") != 1+2*3 || !strings.Contains(svg.String(), " ms</text>") {
		t.Errorf("%v\n%s", err, svg.String())
	}
	for d := xml.NewDecoder(&svg); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("the svg is no XML: %v", err)
		}
	}
	if err := PNG(&picture, results); err != nil {
		t.Fatal(err)
	}
	if _, err := png.Decode(&picture); err != nil {
		t.Error(err)
	}
}

func TestParseIsolation(t *testing.T) {
	i := parseIsolation(`ns mnt mnt:[2]
ns user user:[1]
CapEff:	00000000a80425fb
CapBnd:	00000000a80425fb
NoNewPrivs:	1
Seccomp:	2
mount /proc rw,nosuid
mount /proc/kcore ro,nosuid
mount /proc/sys ro,nosuid
mount /sys rw
`, func(ns string) string { return fmt.Sprintf("%s:[1]", ns) })
	if got, want := fmt.Sprintf("%+v", *i), "{Namespaces:[mnt] Capabilities:14 Bounding:14 NoNewPrivs:true Seccomp:true Masked:[/proc/kcore] ReadOnly:[/proc/sys] Kernel:false}"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
