// Package evidence reads kernel state that shows what a step of the engine did:
// the namespaces of a process, its cgroups and capabilities, a mount's line, a
// tree of files.
//
// # What a reader gives
//
// Every reader returns one [trace.Evidence]. From is a path that a learner can
// open to see the same thing; Text is what was read there, or the part of it
// that matters.
//
// # Invariants
//
//   - A reader never fails: what can't be read (a process that has ended, a
//     folder that is gone) is said in Text.
//   - A reader is bounded in time and size, whatever a container has done to
//     the files it looks at, and never follows a symbolic link out of a tree.
//   - Text holds no control characters but newline and tab: it is printed on
//     terminals, and names come from containers.
//
// The package changes nothing in the system and keeps no state. [Register]
// connects the readers to the steps they are evidence for.
package evidence

import (
	"strings"

	"docker2013/trace"
)

// Register lets r read the evidence for every step that has some. To be called
// before r's first event.
func Register(r *trace.Recorder) {
	for step, collect := range collectors() {
		r.Collect(step, collect)
	}
}

// collectors maps the names of steps to readers of their evidence. The readers
// find what to look at in the event's values; a value that isn't there means
// that there is nothing to read.
func collectors() map[string]trace.Collector {
	return map[string]trace.Collector{
		"images.find":       layers,
		"container.create":  tree("dir"),
		"runtime.config":    config,
		"union.mount":       mount,
		"network.attach":    network,
		"runtime.isolate":   isolation,
		"union.umount":      tree("rw"),
		"container.cleanup": tree("rw"),
	}
}

// layers lists the image's layer directories, top layer first.
func layers(e *trace.Event) []trace.Evidence {
	var dirs []string
	switch v := e.Values["layers"].(type) {
	case []string:
		dirs = v
	case string:
		dirs = []string{v}
	}
	if len(dirs) == 0 {
		return nil
	}
	return []trace.Evidence{{
		Kind: "layers, top first",
		From: commonParent(dirs),
		Text: printable(strings.Join(dirs, "\n")),
	}}
}

func config(e *trace.Event) []trace.Evidence {
	path := text(e, "config")
	if path == "" {
		return nil
	}
	return []trace.Evidence{File(path)}
}

func mount(e *trace.Event) []trace.Evidence {
	var found []trace.Evidence
	if rootfs := text(e, "rootfs"); rootfs != "" {
		found = append(found, Mount(rootfs))
	}
	if rw := text(e, "rw"); rw != "" {
		found = append(found, Tree(rw))
	}
	return found
}

// network shows the interfaces of a container that has a process already; a
// network namespace that nobody is in can't be looked into.
func network(e *trace.Event) []trace.Evidence {
	if pid, ok := e.Values["pid"].(int); ok && pid > 0 {
		return []trace.Evidence{Interfaces(pid)}
	}
	return nil
}

func isolation(e *trace.Event) []trace.Evidence {
	pid, ok := e.Values["pid"].(int)
	if !ok || pid <= 0 {
		return nil
	}
	return []trace.Evidence{Namespaces(pid), Cgroups(pid), Capabilities(pid), UserMap(pid)}
}

// tree is the reader of the tree of the folder that a value names.
func tree(value string) trace.Collector {
	return func(e *trace.Event) []trace.Evidence {
		dir := text(e, value)
		if dir == "" {
			return nil
		}
		return []trace.Evidence{Tree(dir)}
	}
}

// text is a value that is a string, else "".
func text(e *trace.Event, value string) string {
	s, _ := e.Values[value].(string)
	return s
}
