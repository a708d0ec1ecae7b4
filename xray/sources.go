package xray

import (
	"embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Sources are the symbols that Explain names; a test holds them complete, and
// scripts/symbols resolves them to places when the programs are built.
var Sources = []string{
	"launch.clone",
	"native.(*writer).namespaces",
	"native.(*writer).joinCgroups",
	"native.(*writer).ownMounts",
	"native.(*writer).changeRoot",
	"native.(*writer).mount",
	"native.(*writer).devices",
	"native.(*writer).hide",
	"native.(*writer).terminal",
	"native.(*writer).session",
	"native.(*writer).names",
	"native.(*writer).loopback",
	"native.(*writer).identity",
	"native.(*writer).filter",
	"native.(*writer).execute",
	"cgroups.(*Parent).Create",
	"cgroups.(*Group).Apply",
}

//go:embed all:source
var source embed.FS

// Place is where a symbol of ours is.
type Place struct {
	File string
	Line int
}

// places is what scripts/symbols has found. There is nothing in a program that was
// built without it.
var places = sync.OnceValue(func() (table map[string]Place) {
	if data, err := source.ReadFile("source/symbols.json"); err == nil {
		_ = json.Unmarshal(data, &table) // what can't be read is as if it weren't there
	}
	return table
})

// Where says where a symbol of ours is: file, line and name.
func Where(symbol string) string {
	if !slices.Contains(Sources, symbol) {
		return ""
	}
	at, ok := places()[symbol]
	if !ok {
		return symbol
	}
	_, name, _ := strings.Cut(symbol, ".")
	return fmt.Sprintf("%s:%d %s", at.File, at.Line, name)
}
