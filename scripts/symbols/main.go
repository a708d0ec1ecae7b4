// Command symbols resolves the references to our source that chapters and X-rays make,
// and writes where they are into chapters/source/symbols.json, there with their text, and
// xray/source/symbols.json. Both are built into the programs. It is run at the top of the
// checkout, before the build, and fails if a reference doesn't resolve.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"docker2013/chapters"
	"docker2013/xray"
)

func main() {
	if err := run("."); err != nil {
		fmt.Fprintf(os.Stderr, "symbols: %s\n", strings.ReplaceAll(err.Error(), "\n", "\nsymbols: "))
		os.Exit(1)
	}
}

func run(top string) error {
	list, err := chapters.Load(os.DirFS(filepath.Join(top, "chapters")))
	if err != nil {
		return err
	}
	table, err := resolve(top, chapters.Symbols(list))
	if err != nil {
		return err
	}
	found, err := resolve(top, xray.Sources)
	if err != nil {
		return err
	}
	places := map[string]xray.Place{}
	for symbol, at := range found {
		places[symbol] = xray.Place{File: at.File, Line: at.Line}
	}
	return errors.Join(write(filepath.Join(top, "chapters", "source", "symbols.json"), table),
		write(filepath.Join(top, "xray", "source", "symbols.json"), places))
}

// write writes a table, unless it is there: then there is nothing to build anew.
func write(file string, table any) error {
	data, err := json.MarshalIndent(table, "", " ")
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return os.WriteFile(file, data, 0o644)
}

// resolve finds the symbols in the checkout at top.
func resolve(top string, symbols []string) (map[string]chapters.Source, error) {
	table := map[string]chapters.Source{}
	decls := map[string]map[chapters.Symbol]chapters.Source{} // by package
	var errs error
	for _, text := range symbols {
		symbol, err := chapters.ParseSymbol(text)
		if err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		if decls[symbol.Package] == nil {
			found, err := declarations(top, symbol.Package)
			if err != nil {
				return nil, err
			}
			decls[symbol.Package] = found
		}
		source, ok := decls[symbol.Package][symbol]
		if !ok {
			errs = errors.Join(errs, fmt.Errorf("source %s: no such declaration in a package %s (renamed? say PACKAGE.NAME or PACKAGE.(*TYPE).METHOD)", text, symbol.Package))
			continue
		}
		table[text] = source
	}
	return table, errs
}

// declarations are those of all packages in folders of this name.
func declarations(top, pkg string) (map[chapters.Symbol]chapters.Source, error) {
	found := map[chapters.Symbol]chapters.Source{}
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != top && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Base(filepath.Dir(path)) != pkg || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		return inFile(top, path, pkg, found)
	})
	return found, err
}

// inFile adds a file's declarations.
func inFile(top, path, pkg string, found map[chapters.Symbol]chapters.Source) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(top, path)
	if err != nil {
		return err
	}
	add := func(typ, name string, doc *ast.CommentGroup, node ast.Node) {
		from := node.Pos()
		if doc != nil {
			from = doc.Pos()
		}
		found[chapters.Symbol{Package: pkg, Type: typ, Name: name}] = chapters.Source{
			File: filepath.ToSlash(rel), Line: fset.Position(node.Pos()).Line,
			Text: string(text[fset.Position(from).Offset:fset.Position(node.End()).Offset]),
		}
	}
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			add(receiver(d), d.Name.Name, d.Doc, d)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				var node ast.Node = spec
				var doc *ast.CommentGroup
				if !d.Lparen.IsValid() { // alone: with its keyword
					node, doc = d, d.Doc
				}
				switch s := spec.(type) {
				case *ast.TypeSpec:
					if doc == nil {
						doc = s.Doc
					}
					add("", s.Name.Name, doc, node)
				case *ast.ValueSpec:
					if doc == nil {
						doc = s.Doc
					}
					for _, name := range s.Names {
						add("", name.Name, doc, node)
					}
				}
			}
		}
	}
	return nil
}

// receiver is the type that a method is of, without the star.
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil || len(f.Recv.List) == 0 {
		return ""
	}
	t := f.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	if generic, ok := t.(*ast.IndexExpr); ok {
		t = generic.X
	}
	if name, ok := t.(*ast.Ident); ok {
		return name.Name
	}
	return ""
}
