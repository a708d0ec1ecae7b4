package cgroups

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Root is where cgroups are mounted.
const Root = "/sys/fs/cgroup"

// Host is what a host's cgroups are.
type Host struct {
	// Version is 1 or 2: where the controllers are; 0: there are none for us.
	Version int

	hierarchies []hierarchy // in the order in which they are joined
	ioWeight    string      // v1's file for the weight of block I/O, "": none
}

// hierarchy is one tree of cgroups.
type hierarchy struct {
	dir         string // where it is mounted
	controllers []string
}

// v1Controllers are those that we use. The others' hierarchies are left alone.
var v1Controllers = []string{"devices", "memory", "cpu", "cpuacct", "cpuset", "pids", "blkio", "freezer", "hugetlb", "net_cls", "net_prio", "rdma"}

// None is a host whose cgroups are not ours to make: an ordinary user's. Groups in
// it are empty words, and a limit is an error.
func None() *Host { return &Host{} }

// Detect looks at the host.
func Detect() (*Host, error) {
	dirs, err := Hierarchies()
	if err != nil {
		return nil, err
	}
	if dirs[0] == Root {
		data, err := os.ReadFile(filepath.Join(Root, "cgroup.controllers"))
		if err != nil {
			return nil, fmt.Errorf("detect cgroups: %w", err)
		}
		return &Host{Version: 2, hierarchies: []hierarchy{{Root, strings.Fields(string(data))}}}, nil
	}
	h := &Host{Version: 1}
	for _, dir := range dirs {
		var have []string
		for c := range strings.SplitSeq(filepath.Base(dir), ",") {
			if slices.Contains(v1Controllers, c) {
				have = append(have, c)
			}
		}
		if len(have) > 0 {
			h.hierarchies = append(h.hierarchies, hierarchy{dir, have})
		}
	}
	if len(h.hierarchies) == 0 {
		return nil, fmt.Errorf("no cgroup controller is mounted below %s: install cgroupfs-mount, or mount them", Root)
	}
	return h, nil
}

func (h *Host) has(controller string) bool {
	return slices.ContainsFunc(h.hierarchies, func(x hierarchy) bool { return slices.Contains(x.controllers, controller) })
}

// Parent is a cgroup of ours in every hierarchy, in which containers' cgroups are
// made. It belongs to one daemon, which removes it.
type Parent struct {
	host *Host
	name string
	dirs []int // its folder in each hierarchy, open
}

// Parent makes the cgroup name in every hierarchy, unless it is there; "" is the
// root. On v2 it hands all controllers down.
func (h *Host) Parent(name string) (_ *Parent, err error) {
	p := &Parent{host: h, name: name}
	defer func() {
		if err != nil {
			p.closeDirs()
		}
	}()
	for i := range h.hierarchies {
		x := &h.hierarchies[i]
		dir := filepath.Join(x.dir, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make cgroup: %w", err)
		}
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, &os.PathError{Op: "open cgroup", Path: dir, Err: err}
		}
		p.dirs = append(p.dirs, fd)
		if h.Version == 2 {
			if err := handDown(x.dir, name, x.controllers); err != nil {
				return nil, err
			}
			continue
		}
		if slices.Contains(x.controllers, "cpuset") && name != "" { // the root has all, see Create
			if err := inheritCPUs(x.dir, name); err != nil {
				return nil, err
			}
		}
		if slices.Contains(x.controllers, "blkio") {
			h.ioWeight = firstFile(dir, "blkio.weight", "blkio.bfq.weight")
		}
	}
	return p, nil
}

// OpenParent is a parent as it is: nothing is made.
func (h *Host) OpenParent(name string) (*Parent, error) {
	p := &Parent{host: h, name: name}
	for _, x := range h.hierarchies {
		dir := filepath.Join(x.dir, name)
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil && err != unix.ENOENT {
			p.closeDirs()
			return nil, &os.PathError{Op: "open cgroup", Path: dir, Err: err}
		}
		p.dirs = append(p.dirs, fd) // -1: it isn't there
	}
	return p, nil
}

// handDown enables the controllers in every cgroup from the root down to name.
func handDown(root, name string, controllers []string) error {
	dir := root
	for _, part := range append([]string{""}, strings.Split(name, "/")...) {
		dir = filepath.Join(dir, part)
		for _, c := range controllers { // one by one: one that can't be must not cost the others
			file := filepath.Join(dir, "cgroup.subtree_control")
			if err := os.WriteFile(file, []byte("+"+c), 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("hand cgroup controller %s down: %w", c, err)
			}
		}
	}
	return nil
}

// inheritCPUs fills in what v1's cpuset leaves empty, in every cgroup down to
// name: a process can't be in one without CPUs or memory nodes. Children of the
// last get a copy.
func inheritCPUs(root, name string) error {
	dir := root
	for part := range strings.SplitSeq(name, "/") {
		parent := dir
		dir = filepath.Join(dir, part)
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			own, err := os.ReadFile(filepath.Join(dir, file))
			if err == nil && strings.TrimSpace(string(own)) == "" {
				var theirs []byte
				if theirs, err = os.ReadFile(filepath.Join(parent, file)); err == nil {
					err = os.WriteFile(filepath.Join(dir, file), theirs, 0)
				}
			}
			if err != nil {
				return fmt.Errorf("fill cpuset: %w", err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.clone_children"), []byte("1"), 0); err != nil {
		return fmt.Errorf("fill cpuset: %w", err)
	}
	return nil
}

func firstFile(dir string, names ...string) string {
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return name
		}
	}
	return ""
}

// Name is the parent's name.
func (p *Parent) Name() string { return p.name }

func (p *Parent) closeDirs() {
	for _, fd := range p.dirs {
		_ = unix.Close(fd)
	}
	p.dirs = nil
}

// Missing is the topmost of the cgroups down to name that is in no hierarchy yet, ""
// if all are there.
func (h *Host) Missing(name string) string {
	there := func(name string) bool {
		return slices.ContainsFunc(h.hierarchies, func(x hierarchy) bool {
			_, err := os.Stat(filepath.Join(x.dir, name))
			return err == nil
		})
	}
	missing := ""
	for ; name != "" && name != "." && !there(name); name = filepath.Dir(name) {
		missing = name
	}
	return missing
}

// Prune removes the parent and those above it, up to and with the cgroup top, as
// far as they are empty. top "": none.
func (p *Parent) Prune(top string) {
	p.closeDirs()
	for name := p.name; top != "" && (name == top || strings.HasPrefix(name, top+"/")); name = filepath.Dir(name) {
		for _, x := range p.host.hierarchies {
			_ = unix.Rmdir(filepath.Join(x.dir, name)) // busy: another's
		}
	}
}

// Close removes the parent, which must be empty.
func (p *Parent) Close() error {
	p.closeDirs()
	var errs []error
	for _, x := range p.host.hierarchies {
		errs = append(errs, Remove(filepath.Join(x.dir, p.name)))
	}
	return errors.Join(errs...)
}
