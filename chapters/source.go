package chapters

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
)

// Source is where a symbol of ours is, as scripts/symbols found it when this program
// was built.
type Source struct {
	File string `json:"file"` // from the top of the checkout
	Line int    `json:"line"`
	Text string `json:"text"` // its doc comment and itself
}

// Symbol is a parsed reference to our source.
type Symbol struct {
	Package string // its folder's last name
	Type    string // "" for what is no method
	Name    string
}

var symbolForm = regexp.MustCompile(`^([a-z0-9_-]+)\.(?:\(\*?([A-Za-z0-9_]+)\)\.)?([A-Za-z0-9_]+)$`)

// ParseSymbol reads PACKAGE.NAME, PACKAGE.(*TYPE).METHOD or PACKAGE.(TYPE).METHOD.
func ParseSymbol(s string) (Symbol, error) {
	m := symbolForm.FindStringSubmatch(s)
	if m == nil {
		return Symbol{}, fmt.Errorf("source %q: say PACKAGE.NAME or PACKAGE.(*TYPE).METHOD", s)
	}
	return Symbol{Package: m[1], Type: m[2], Name: m[3]}, nil
}

// Symbols are all that chapters refer to, sorted.
func Symbols(list []*Chapter) []string {
	set := map[string]bool{}
	for _, c := range list {
		for _, s := range c.Steps {
			for _, symbol := range s.Source {
				set[symbol] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// Sources is what was found for them. There is none in a program that was built
// without scripts/build.sh.
func Sources() (map[string]Source, error) {
	data, err := fs.ReadFile(course, "source/symbols.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("this program was built without its source's table: make build")
	}
	if err != nil {
		return nil, err
	}
	var table map[string]Source
	if err := json.Unmarshal(data, &table); err != nil {
		return nil, fmt.Errorf("source/symbols.json: %w", err)
	}
	return table, nil
}
