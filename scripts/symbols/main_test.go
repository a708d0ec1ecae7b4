package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"docker2013/chapters"
	"docker2013/xray"
)

// Every reference of the course to our source is of something that is there.
func TestCourse(t *testing.T) {
	list, err := chapters.Course()
	if err != nil {
		t.Fatal(err)
	}
	symbols := chapters.Symbols(list)
	table, err := resolve(filepath.Join("..", ".."), symbols)
	if err != nil {
		t.Fatal(err)
	}
	if len(symbols) == 0 || len(table) != len(symbols) {
		t.Errorf("%d symbols, %d found", len(symbols), len(table))
	}
}

// So is every reference of an X-ray.
func TestXray(t *testing.T) {
	if _, err := resolve(filepath.Join("..", ".."), xray.Sources); err != nil {
		t.Error(err)
	}
}

func TestResolve(t *testing.T) {
	top := t.TempDir()
	write := func(name, text string) {
		file := filepath.Join(top, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("a/b/x.go", "package b\n\n// F does.\nfunc F() {}\n\ntype T[P any] struct{}\n\n// M does.\nfunc (t *T[P]) M() {\n\treturn\n}\n\nfunc (T2) N() {}\n\ntype T2 int\n\n// Group of them.\nconst (\n\t// One is 1.\n\tOne = 1\n\tTwo = 2\n)\n\n// V is.\nvar V = 3\n")
	write("b/x_test.go", "package b\n\nfunc InTest() {}\n")
	write("b/testdata/b/x.go", "package b\n\nfunc InTestdata() {}\n")
	for symbol, want := range map[string]string{
		"b.F":          "a/b/x.go:4 // F does.\nfunc F() {}",
		"b.(*T).M":     "a/b/x.go:9 // M does.\nfunc (t *T[P]) M() {\n\treturn\n}",
		"b.(T2).N":     "a/b/x.go:13 func (T2) N() {}",
		"b.One":        "a/b/x.go:20 // One is 1.\n\tOne = 1",
		"b.Two":        "a/b/x.go:21 Two = 2",
		"b.V":          "a/b/x.go:25 // V is.\nvar V = 3",
		"b.T2":         "a/b/x.go:15 type T2 int",
		"b.M":          "no such declaration",
		"b.(*T2).M":    "no such declaration",
		"c.F":          "no such declaration",
		"b.InTest":     "no such declaration",
		"b.InTestdata": "no such declaration",
		"F":            "say PACKAGE.NAME",
	} {
		table, err := resolve(top, []string{symbol})
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			s := table[symbol]
			got = chapters.SourceRef{Symbol: "", File: s.File, Line: s.Line}.String() + s.Text
		}
		if err != nil && strings.Contains(got, want) {
			continue
		}
		if got != want {
			t.Errorf("%s: %q, want %q", symbol, got, want)
		}
	}
}
