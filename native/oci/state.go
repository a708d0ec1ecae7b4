package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"docker2013/cgroups"
	"docker2013/durable"
	"docker2013/ociconfig/seccompbpf"
)

// What callers can act on; the texts are runc's, which engines look for.
var (
	ErrExists     = errors.New("container with given ID already exists")
	ErrNotExist   = errors.New("container does not exist")
	ErrNotRunning = errors.New("container not running")
)

// Paused is a status beside the specification's.
const Paused specs.ContainerState = "paused"

// Runtime has the containers below one folder.
type Runtime struct {
	Root    string // absolute
	Warn    func(format string, args ...any)
	host    *cgroups.Host
	filters seccompbpf.Compiler
}

// New makes a runtime; nothing is written.
func New(root string, warn func(string, ...any)) (*Runtime, error) {
	host, err := cgroups.Detect()
	if err != nil {
		return nil, err
	}
	return &Runtime{Root: root, Warn: warn, host: host}, nil
}

// Record is what is kept of a container.
type Record struct {
	ID          string
	Version     string // of the specification that its configuration follows
	Bundle      string
	Rootfs      string
	Pid         int
	Born        uint64 // of the process, in clock ticks after boot: numbers are given anew
	Created     time.Time
	Annotations map[string]string `json:",omitempty"`
	Cgroup      string            // its path below every hierarchy's root
	CgroupMade  string            `json:",omitempty"` // the topmost above it that create has made
	Creating    bool              `json:",omitempty"`
}

// State is what the operation `state` tells: the specification's, and what runc adds.
type State struct {
	Version     string               `json:"ociVersion"`
	ID          string               `json:"id"`
	Pid         int                  `json:"pid"`
	Status      specs.ContainerState `json:"status"`
	Bundle      string               `json:"bundle"`
	Rootfs      string               `json:"rootfs"`
	Created     time.Time            `json:"created"`
	Annotations map[string]string    `json:"annotations,omitempty"`
	Owner       string               `json:"owner"`
}

// Container is one that there is.
type Container struct {
	rt *Runtime
	Record
	spec *specs.Spec
	made bool // create has come as far as the hooks
}

var validID = regexp.MustCompile(`^[\w+.-]+$`)

func checkID(id string) error {
	if !validID.MatchString(id) || id == "." || id == ".." {
		return fmt.Errorf("invalid container ID %q: say letters, digits, and any of _+-. only", id)
	}
	return nil
}

func (c *Container) dir() string { return filepath.Join(c.rt.Root, c.ID) }

func (c *Container) file(name string) string { return filepath.Join(c.dir(), name) }

// Load finds a container. ErrNotExist: there is none.
func (rt *Runtime) Load(id string) (*Container, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	c := &Container{rt: rt, Record: Record{ID: id}}
	if err := readJSON(c.file("state.json"), &c.Record); err != nil {
		if _, derr := os.Stat(c.dir()); errors.Is(derr, fs.ErrNotExist) {
			return nil, ErrNotExist
		}
		return nil, fmt.Errorf("container %s: %w", id, err)
	}
	return c, nil
}

// config is the configuration that create has read.
func (c *Container) config() (*specs.Spec, error) {
	if c.spec != nil {
		return c.spec, nil
	}
	s := &specs.Spec{}
	err := readJSON(c.file("config.json"), s)
	c.spec = s
	return s, err
}

func (c *Container) keepConfig() error {
	data, err := json.Marshal(c.spec)
	if err == nil {
		err = os.WriteFile(c.file("config.json"), data, 0o600)
	}
	return err
}

func readJSON(file string, v any) error {
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	return err
}

// save replaces state.json.
func (c *Container) save() error {
	data, err := json.Marshal(c.Record)
	if err != nil {
		return err
	}
	return durable.Replace(c.file("state.json"), data, 0o600)
}

// lock keeps others from changing the container, until the file is closed.
func (c *Container) lock() (*os.File, error) {
	f, err := os.Open(c.dir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	for {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); err != unix.EINTR {
			break
		}
	}
	if _, serr := os.Stat(c.dir()); err == nil && serr != nil { // deleted meanwhile
		err = ErrNotExist
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// locked runs f with the container as it is now.
func (rt *Runtime) locked(id string, f func(*Container) error) error {
	c, err := rt.Load(id)
	if err != nil {
		return err
	}
	l, err := c.lock()
	if err != nil {
		return err
	}
	defer l.Close()
	if c, err = rt.Load(id); err != nil {
		return err
	}
	return f(c)
}

// born is when a process began, in clock ticks after boot. ok false: there is none,
// or it has ended (proc(5), /proc/PID/stat, fields 3 and 22).
func born(pid int) (ticks uint64, ok bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	f := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:]) // the name may have anything
	if len(f) < 20 || bytes.ContainsAny(f[0], "ZX") {
		return 0, false
	}
	ticks, err = strconv.ParseUint(string(f[19]), 10, 64)
	return ticks, err == nil
}

func (c *Container) alive() bool {
	ticks, ok := born(c.Pid)
	return c.Pid > 0 && ok && ticks == c.Born
}

// Status is what the container is just now.
func (c *Container) Status() specs.ContainerState {
	switch {
	case c.Creating && c.beingMade():
		return specs.StateCreating
	case !c.alive() || c.Creating:
		return specs.StateStopped
	}
	if _, err := os.Stat(c.file(startSocket)); err == nil {
		return specs.StateCreated
	}
	if g, err := c.group(); err == nil && g.Frozen() {
		return Paused
	}
	return specs.StateRunning
}

// beingMade: somebody has the lock.
func (c *Container) beingMade() bool {
	f, err := os.Open(c.dir())
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

// State is what others are told.
func (c *Container) State() State {
	s := State{Version: c.Version, ID: c.ID, Status: c.Status(), Bundle: c.Bundle, Rootfs: c.Rootfs, Created: c.Created, Annotations: c.Annotations, Owner: "root"}
	if s.Status != specs.StateStopped {
		s.Pid = c.Pid
	}
	return s
}

// hookState is what a hook gets on its standard input.
func (c *Container) hookState(status specs.ContainerState, pid int) []byte {
	data, err := json.Marshal(specs.State{Version: c.Version, ID: c.ID, Status: status, Pid: pid, Bundle: c.Bundle, Annotations: c.Annotations})
	if err != nil {
		panic(err) // strings and numbers
	}
	return data
}

// List are all containers, the oldest first.
func (rt *Runtime) List() ([]State, error) {
	entries, err := os.ReadDir(rt.Root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	list := []State{}
	for _, e := range entries {
		if c, err := rt.Load(e.Name()); err == nil {
			list = append(list, c.State())
		}
	}
	slices.SortFunc(list, func(a, b State) int { return a.Created.Compare(b.Created) })
	return list, nil
}

// group is the container's cgroup.
func (c *Container) group() (*cgroups.Group, error) {
	g, _, err := c.openGroup()
	return g, err
}

// join has a new process be in the container's cgroup.
func (c *Container) join() (join cgroups.Join, err error) {
	group, err := c.group()
	if err != nil {
		return join, err
	}
	return group.Join()
}

func (c *Container) openGroup() (*cgroups.Group, *cgroups.Parent, error) {
	dir, name := filepath.Split(c.Cgroup)
	p, err := c.rt.host.OpenParent(filepath.Clean("/" + dir)[1:])
	if err != nil {
		return nil, nil, err
	}
	return p.Open(name), p, nil
}
