// Package docker2013_test holds the house together: which room may import which.
package docker2013_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// module is the path of this module.
const module = "docker2013"

// everything stands for every room.
const everything = "*"

// arrows says which rooms a room may import, itself and what is inside it
// always. A room is the first folder of a package's path, except that every
// command below cmd is one of its own.
var arrows = map[string][]string{
	"cmd/docker2013":       {everything}, // what they link is held by another test
	"cmd/dockerd2013":      {everything},
	"cmd/docker2013-shim":  {"native"},
	"cmd/docker2013-oci":   {"native"},
	"cmd/docker2013-learn": {"chapters", "cli2013"},
	"cmd/docker2013-aufs":  {"aufs"},

	"cli2013":     {"rcli", "trace"},
	"chapters":    {"cli2013", "durable", "evidence", "trace"},
	"doctor":      {"evidence"},
	"dockerd2013": {"container", "images", "rcli", "trace"},

	"aufs":    {"container", "trace"},
	"overlay": {"container", "durable", "trace"},
	"lxc":     {"container", "trace"},
	"native":  {"cgroups", "container", "durable", "ociconfig", "trace"},

	"ociconfig": {"container"},
	"cgroups":   {},

	"container": {"durable", "trace"},
	"images":    {"durable", "trace"},
	"evidence":  {"trace"},

	"durable": {},
	"rcli":    {},
	"trace":   {},

	"xray": {}, "compare": {},

	"e2e":     {},                              // drives the programs from outside
	"scripts": {"chapters", "xray", "compare"}, // what the Makefile runs; symbols reads the chapters, and what xray names
}

// room is the room that a package of ours is in; "" for the module's top.
func room(pkg string) string {
	parts := strings.Split(strings.TrimPrefix(pkg, module+"/"), "/")
	switch {
	case pkg == module:
		return ""
	case parts[0] == "cmd" && len(parts) > 1:
		return "cmd/" + parts[1]
	}
	return parts[0]
}

func ours(pkg string) bool { return pkg == module || strings.HasPrefix(pkg, module+"/") }

// check compares imports, from each package to what it imports, with the
// allowed arrows. It returns a sentence for each thing that is wrong.
func check(arrows map[string][]string, imports map[string][]string) []string {
	var wrong []string
	for _, pkg := range slices.Sorted(maps.Keys(imports)) {
		from := room(pkg)
		allowed, known := arrows[from]
		if !known && from != "" {
			wrong = append(wrong, fmt.Sprintf("package %s is in the room %s, which is not in the table of arrows", pkg, from))
			continue
		}
		for _, imported := range imports[pkg] {
			to := room(imported)
			if !ours(imported) || to == from || slices.Contains(allowed, everything) {
				continue
			}
			if !slices.Contains(allowed, to) {
				wrong = append(wrong, fmt.Sprintf("%s imports %s: there is no arrow from %s to %s", pkg, imported, from, to))
			}
		}
	}
	return wrong
}

// list runs go list with a template, and gives its lines.
func list(t *testing.T, env []string, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, stderr.String())
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func TestArrows(t *testing.T) {
	imports := map[string][]string{}
	for _, line := range list(t, nil, "-e", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...") {
		fields := strings.Fields(line)
		imports[fields[0]] = fields[1:]
	}
	for _, sentence := range check(arrows, imports) {
		t.Error(sentence)
	}
}

// The check itself finds what it is there for.
func TestArrowsCheck(t *testing.T) {
	table := map[string][]string{"cli2013": {"rcli"}, "rcli": {}, "cmd/tool": {"cli2013"}, "cmd/main": {everything}}
	for _, c := range []struct {
		name    string
		imports map[string][]string
		want    string
	}{
		{"allowed", map[string][]string{"docker2013/cli2013": {"fmt", "docker2013/rcli"}}, ""},
		{"a command", map[string][]string{"docker2013/cmd/tool": {"docker2013/cli2013"}}, ""},
		{"a command that wires it all", map[string][]string{"docker2013/cmd/main": {"docker2013/rcli"}}, ""},
		{"inside a room", map[string][]string{"docker2013/rcli/frame": {"docker2013/rcli"}}, ""},
		{"another module of like name", map[string][]string{"docker2013/rcli": {"docker2013x/cli2013"}}, ""},
		{"the tests at the top", map[string][]string{"docker2013": {"fmt"}}, ""},
		{
			"upwards", map[string][]string{"docker2013/rcli": {"io", "docker2013/cli2013"}},
			"docker2013/rcli imports docker2013/cli2013: there is no arrow from rcli to cli2013",
		},
		{
			"from deep inside", map[string][]string{"docker2013/rcli/frame": {"docker2013/cli2013/term"}},
			"docker2013/rcli/frame imports docker2013/cli2013/term: there is no arrow from rcli to cli2013",
		},
		{
			"a jump over a room", map[string][]string{"docker2013/cmd/tool": {"docker2013/rcli"}},
			"docker2013/cmd/tool imports docker2013/rcli: there is no arrow from cmd/tool to rcli",
		},
		{
			"a new room", map[string][]string{"docker2013/utils": {"fmt"}},
			"package docker2013/utils is in the room utils, which is not in the table of arrows",
		},
		{
			"a new command", map[string][]string{"docker2013/cmd/other": {"fmt"}},
			"package docker2013/cmd/other is in the room cmd/other, which is not in the table of arrows",
		},
	} {
		if got := strings.Join(check(table, c.imports), "\n"); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// Only the daemon links liblxc; the command line is static and starts fast.
func TestWhatTheProgramsLink(t *testing.T) {
	const lxc, http = "github.com/lxc/go-lxc", "net/http"
	static := []string{"CGO_ENABLED=0"}
	for _, command := range list(t, nil, "./cmd/...") {
		deps := list(t, nil, "-deps", command)
		if linked, daemon := slices.Contains(deps, lxc), command == module+"/cmd/dockerd2013"; linked != daemon {
			t.Errorf("%s depends on %s: %v, want %v", command, lxc, linked, daemon)
		}
	}
	client := module + "/cmd/docker2013"
	if deps := list(t, static, "-deps", client); slices.Contains(deps, http) {
		t.Errorf("%s depends on %s: starting it takes too long", client, http)
	}
	build := exec.Command("go", "build", "-o", filepath.Join(t.TempDir(), "docker2013"), client)
	build.Env = append(os.Environ(), static...)
	if out, err := build.CombinedOutput(); err != nil {
		t.Errorf("%s doesn't build without cgo: %v\n%s", client, err, out)
	}
}
