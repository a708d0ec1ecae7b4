package cgroups

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Group is a container's cgroup: one folder in every hierarchy.
type Group struct {
	parent *Parent
	name   string
}

// Create makes a cgroup and writes the plan. After an error nothing of it is left.
//
// It is in the way of every start, so it uses bare system calls: 8 hierarchies
// cost a quarter of a millisecond.
func (p *Parent) Create(name string, plan Plan) (_ *Group, err error) {
	g := p.Open(name)
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make cgroup %s/%s: %w", p.name, name, err), g.Remove())
		}
	}()
	for _, dir := range p.dirs {
		if err := unix.Mkdirat(dir, name, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, err
		}
	}
	if x := g.dir("cpuset"); p.name == "" && p.host.Version == 1 && x != "" {
		if err := inheritCPUs(filepath.Dir(x), name); err != nil {
			return nil, err
		}
	}
	return g, g.Apply(plan)
}

// Open is the cgroup of a container that has one.
func (p *Parent) Open(name string) *Group { return &Group{parent: p, name: name} }

// Apply writes a plan to a cgroup that is there.
func (g *Group) Apply(plan Plan) error {
	for _, w := range plan.Writes {
		i := g.hierarchyOf(w.Controller)
		if err := writeAt(g.parent.dirs[i], g.name+"/"+w.File, w.Value); err != nil {
			return fmt.Errorf("write %s to %s: %w", w.Value, w.File, err)
		}
	}
	if len(plan.Devices) == 0 {
		return nil
	}
	dir, err := unix.Openat(g.parent.dirs[0], g.name, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("device rules: %w", err)
	}
	defer unix.Close(dir)
	if err := allowDevices(dir, plan.Devices); err != nil {
		return fmt.Errorf("device rules: %w", err)
	}
	return nil
}

func (g *Group) hierarchyOf(controller string) int {
	if g.parent.host.Version == 2 {
		return 0
	}
	return slices.IndexFunc(g.parent.host.hierarchies, func(h hierarchy) bool { return slices.Contains(h.controllers, controller) })
}

func writeAt(dir int, path, value string) error {
	fd, err := unix.Openat(dir, path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte(value))
	return errors.Join(err, unix.Close(fd))
}

// Join is what a process needs to get into the cgroup.
type Join struct {
	// Tasks are the "tasks" files of v1's hierarchies, open for writing: the
	// process writes 0 to each.
	Tasks []int
	// Into is the folder in v2, for clone3; -1 on v1.
	Into int
}

// Close closes the descriptors.
func (j Join) Close() {
	for _, fd := range append(slices.Clone(j.Tasks), j.Into) {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// Join opens what a new process needs.
func (g *Group) Join() (j Join, err error) {
	j.Into = -1
	if g.parent.host.Version == 2 {
		j.Into, err = unix.Openat(g.parent.dirs[0], g.name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return j, fmt.Errorf("join cgroup: %w", err)
		}
		return j, nil
	}
	for _, dir := range g.parent.dirs {
		fd, err := unix.Openat(dir, g.name+"/tasks", unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			j.Close()
			return j, fmt.Errorf("join cgroup: %w", err)
		}
		j.Tasks = append(j.Tasks, fd)
	}
	return j, nil
}

// dir is the cgroup's folder in the hierarchy of a controller.
func (g *Group) dir(controller string) string {
	i := g.hierarchyOf(controller)
	if i < 0 {
		return ""
	}
	return filepath.Join(g.parent.host.hierarchies[i].dir, g.parent.name, g.name)
}

// Place is a cgroup's folder in one hierarchy.
type Place struct {
	Dir         string
	Hierarchy   string // the name of the folder on which the hierarchy is mounted
	Controllers []string
}

// Places are the cgroup's folders, as the host sees them.
func (g *Group) Places() []Place {
	var list []Place
	for _, h := range g.parent.host.hierarchies {
		list = append(list, Place{filepath.Join(h.dir, g.parent.name, g.name), filepath.Base(h.dir), h.controllers})
	}
	return list
}

// Frozen reports whether it is frozen.
func (g *Group) Frozen() bool {
	if g.parent.host.Version == 2 {
		return slices.Contains(g.lines("", "cgroup.events"), "frozen 1")
	}
	return slices.Contains(g.lines("freezer", "freezer.state"), "FROZEN")
}

// Freeze stops all processes where they are, Thaw lets them go on. Both return
// when it has happened.
func (g *Group) Freeze() error { return g.freezer("FROZEN", "1", "frozen 1") }

// Thaw undoes Freeze.
func (g *Group) Thaw() error { return g.freezer("THAWED", "0", "frozen 0") }

func (g *Group) freezer(v1, v2, event string) error {
	dir := g.dir("freezer")
	file, value, state, want := "freezer.state", v1, "freezer.state", v1
	if g.parent.host.Version == 2 {
		file, value, state, want = "cgroup.freeze", v2, "cgroup.events", event
	}
	if dir == "" {
		return errors.New("this host has no cgroup controller \"freezer\": its containers can't be paused")
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		// v1 may stay FREEZING while a process is about to fork: ask again.
		if err := os.WriteFile(filepath.Join(dir, file), []byte(value), 0); err != nil {
			return fmt.Errorf("freeze or thaw: %w", err)
		}
		data, err := os.ReadFile(filepath.Join(dir, state))
		if err != nil {
			return fmt.Errorf("freeze or thaw: %w", err)
		}
		if strings.Contains(string(data), want) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("freeze or thaw: still %s after 10 s", strings.TrimSpace(string(data)))
		}
	}
}

// Kill ends all processes, frozen ones too, and returns when there are none.
func (g *Group) Kill() error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		pids, err := g.Pids()
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("kill cgroup %s: processes %v are still there after 10 s", g.name, pids)
		}
		if g.parent.host.Version == 2 && os.WriteFile(filepath.Join(g.dir(""), "cgroup.kill"), []byte("1"), 0) == nil {
			continue // Linux 5.14
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL) // gone is what we want
		}
		if dir := g.dir("freezer"); dir != "" && g.parent.host.Version == 1 {
			_ = os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("THAWED"), 0)
		}
	}
}

// Pids lists the processes in the cgroup and below it, sorted. One that isn't
// there has none.
func (g *Group) Pids() ([]int, error) {
	seen := map[int]bool{}
	for _, h := range g.parent.host.hierarchies {
		if err := addPids(seen, filepath.Join(h.dir, g.parent.name, g.name)); err != nil {
			return nil, err
		}
		if g.parent.host.Version == 1 && len(seen) > 0 {
			break // they are in all hierarchies, or on their way
		}
	}
	return sorted(seen), nil
}

// End kills what is left in the cgroup, and removes it. In general nothing is left,
// and removing it is the quickest way to see that.
func (g *Group) End() error {
	for _, dir := range g.parent.dirs {
		if err := unix.Unlinkat(dir, g.name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
			return errors.Join(g.Kill(), g.Remove())
		}
	}
	return nil
}

// Remove removes the cgroup, which must have no process, and those below it. One
// that isn't there is no error.
func (g *Group) Remove() error {
	var errs []error
	for i, dir := range g.parent.dirs {
		err := unix.Unlinkat(dir, g.name, unix.AT_REMOVEDIR)
		if err != nil && !errors.Is(err, unix.ENOENT) { // busy, or with children
			err = Remove(filepath.Join(g.parent.host.hierarchies[i].dir, g.parent.name, g.name))
		} else {
			err = nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
