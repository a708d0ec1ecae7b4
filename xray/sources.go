package xray

import "strings"

// sources are the files of the symbols that Explain names; a test holds them true.
var sources = map[string]string{
	"launch.clone":                 "native/launch/child.go",
	"native.(*writer).namespaces":  "native/compile.go",
	"native.(*writer).joinCgroups": "native/compile.go",
	"native.(*writer).ownMounts":   "native/compile.go",
	"native.(*writer).changeRoot":  "native/compile.go",
	"native.(*writer).mount":       "native/compile.go",
	"native.(*writer).devices":     "native/compile.go",
	"native.(*writer).hide":        "native/compile.go",
	"native.(*writer).terminal":    "native/compile.go",
	"native.(*writer).session":     "native/compile.go",
	"native.(*writer).names":       "native/compile.go",
	"native.(*writer).loopback":    "native/compile.go",
	"native.(*writer).identity":    "native/process.go",
	"native.(*writer).filter":      "native/process.go",
	"native.(*writer).execute":     "native/process.go",
	"cgroups.(*Parent).Create":     "cgroups/group.go",
	"cgroups.(*Group).Apply":       "cgroups/group.go",
}

// Where says where a symbol of ours is: its file and its name.
func Where(symbol string) string {
	file, ok := sources[symbol]
	if !ok {
		return ""
	}
	_, name, _ := strings.Cut(symbol, ".")
	return file + " " + name
}
