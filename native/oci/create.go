package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"docker2013/cgroups"
	"docker2013/native"
	"docker2013/native/shim"
	"docker2013/ociconfig"
)

// startSocket is the socket on which a created container's process waits.
const startSocket = "start.sock"

// Starting is how a process gets what isn't in its configuration; for the first one
// and for those of exec.
type Starting struct {
	PidFile       string
	ConsoleSocket string           // with a terminal: who takes its master side
	Console       func(f *os.File) // or this; one of both
	Preserve      int              // descriptors from 3 on that stay open
	NoPivot       bool
	NoKeyring     bool
}

func (o *Starting) check(terminal bool) error {
	switch {
	case terminal && o.ConsoleSocket == "" && o.Console == nil:
		return errors.New("process.terminal: say --console-socket, the terminal must go somewhere")
	case !terminal && o.ConsoleSocket != "":
		return errors.New("--console-socket is for a process with a terminal")
	}
	return nil
}

// Create makes a container of a bundle; it waits to be started. After an error
// nothing of it is left. ErrExists: there is one of this id.
func (rt *Runtime) Create(id, bundle string, o Starting) (_ *Container, err error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	if bundle, err = filepath.Abs(bundle); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(rt.Root, id)); err == nil {
		return nil, ErrExists
	}
	s, err := ociconfig.Load(bundle)
	if err != nil {
		return nil, err
	}
	if s.Process != nil {
		if err := o.check(s.Process.Terminal); err != nil {
			return nil, err
		}
		for _, name := range ociconfig.DropUnknown(s.Process.Capabilities) {
			rt.Warn("the capability %s is not to be had here: it is left out", name)
		}
	}
	c := &Container{rt: rt, spec: s, Record: Record{
		ID: id, Version: s.Version, Bundle: bundle, Rootfs: s.Root.Path, Created: time.Now().UTC(),
		Annotations: s.Annotations, Cgroup: cgroupPath(s.Linux.CgroupsPath, id), Creating: true,
	}}
	lock, err := c.claim()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := c.create(o); err != nil {
		return nil, errors.Join(err, c.destroy(c.made))
	}
	return c, nil
}

// ownParent is the cgroup of the containers that are given none.
const ownParent = "docker2013-oci"

// cgroupPath is where the container's cgroup is, below every hierarchy's root.
func cgroupPath(said, id string) string {
	if said == "" {
		return "/" + ownParent + "/" + id
	}
	return path.Clean("/" + said)
}

// claim makes the container's folder, and locks it.
func (c *Container) claim() (*os.File, error) {
	if err := os.MkdirAll(c.rt.Root, 0o711); err != nil {
		return nil, err
	}
	if err := os.Mkdir(c.dir(), 0o700); errors.Is(err, fs.ErrExist) {
		return nil, ErrExists
	} else if err != nil {
		return nil, err
	}
	return c.lock()
}

func (c *Container) create(o Starting) error {
	parent := path.Dir(c.Cgroup)[1:]
	if c.CgroupMade = c.rt.host.Missing(parent); parent == ownParent {
		c.CgroupMade = ownParent // whoever is the last takes it along
	}
	if err := c.save(); err != nil { // from here on, delete finds what there is
		return err
	}
	if err := c.keepConfig(); err != nil {
		return err
	}
	group, err := c.makeGroup()
	if err != nil {
		return err
	}
	join, err := group.Join()
	if err != nil {
		return err
	}
	defer join.Close()
	socket, err := c.listen()
	if err != nil {
		return err
	}
	defer unix.Close(socket)

	s := *c.spec
	s.Mounts = cgroupMounts(&s, group, c.rt.host.Version)
	b, err := c.rt.newBirth(&s, join, o)
	if err != nil {
		return err
	}
	defer b.close()
	b.setup.Wait = b.setup.Add(socket)
	held, err := b.prepare(&s)
	defer shim.CloseAll(held)
	if err != nil {
		return err
	}
	program, err := native.Compile(&s, b.setup)
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.file("program"), program.Encode(), 0o600); err != nil {
		return err
	}
	b.hooks = func(pid, pidfd int) error { return c.createHooks(pid, pidfd, join) }
	pid, pidfd, err := b.run(program)
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	c.note(pid)
	c.Creating = false
	if err := c.save(); err != nil {
		return err
	}
	return writePidFile(o.PidFile, pid)
}

func (c *Container) note(pid int) { c.Pid = pid; c.Born, _ = born(pid) }

// makeGroup makes the cgroup, again if somebody takes its empty parent along meanwhile.
func (c *Container) makeGroup() (group *cgroups.Group, err error) {
	for range 10 {
		group, err = c.tryGroup()
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) { // it, or a file in it that was just open
			break
		}
	}
	return group, err
}

// tryGroup makes the cgroup. One that has processes is somebody else's.
func (c *Container) tryGroup() (*cgroups.Group, error) {
	dir, name := filepath.Split(c.Cgroup)
	parent, err := c.rt.host.Parent(filepath.Clean("/" + dir)[1:])
	if err != nil {
		return nil, err
	}
	plan, err := c.rt.host.Plan(c.spec.Linux.Resources)
	if err != nil {
		return nil, err
	}
	if pids, err := parent.Open(name).Pids(); err != nil || len(pids) > 0 {
		c.Cgroup = "" // not ours to remove
		return nil, errors.Join(fmt.Errorf("the cgroup of the container has %d processes already: say another cgroupsPath", len(pids)), err)
	}
	return parent.Create(name, plan)
}

// cgroupMounts makes of a mount of type cgroup what the host's version has: in v1
// a folder with a mount for every hierarchy, each with the container's own part. In
// v2 it is a file system; with a user namespace, but the host's cgroup namespace, it
// can't be mounted, and the host's is bound, as runc does.
func cgroupMounts(s *specs.Spec, group *cgroups.Group, version int) []specs.Mount {
	foreign := native.Joins(s).Is && !slices.ContainsFunc(s.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.CgroupNamespace })
	var list []specs.Mount
	for _, m := range s.Mounts {
		switch {
		case m.Type != "cgroup" && m.Type != "cgroup2":
			list = append(list, m)
			continue
		case version == 2 && foreign:
			list = append(list, specs.Mount{Destination: m.Destination, Type: "bind", Source: "/sys/fs/cgroup", Options: append([]string{"bind"}, m.Options...)})
			continue
		case version == 2:
			m.Type = "cgroup2"
			list = append(list, m)
			continue
		}
		list = append(list, specs.Mount{Destination: m.Destination, Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "noexec", "mode=755"}})
		for _, p := range group.Places() {
			names := []string{p.Hierarchy}
			if len(p.Controllers) > 1 {
				names = append(names, p.Controllers...)
			}
			for _, name := range names {
				list = append(list, specs.Mount{Destination: path.Join(m.Destination, name), Type: "bind", Source: p.Dir, Options: append([]string{"bind"}, m.Options...)})
			}
		}
		for _, o := range m.Options {
			if o == "ro" {
				list = append(list, specs.Mount{Destination: m.Destination, Type: "bind", Options: []string{"remount", "ro"}})
			}
		}
	}
	return list
}

// copyUp fills each tmpfs that wants it with what it covers. The new process's
// mounts are seen through its root, which still is the host's.
func (c *Container) copyUp(pid int) error {
	for _, m := range c.spec.Mounts {
		if !native.CopiesUp(m) {
			continue
		}
		from, err := securejoin.SecureJoin(c.Rootfs, m.Destination)
		if err != nil {
			return err
		}
		if entries, err := os.ReadDir(from); err != nil || len(entries) == 0 {
			continue // made for the mount, or empty
		}
		to := filepath.Join(fmt.Sprintf("/proc/%d/root", pid), from)
		cmd := exec.Command("cp", "-a", from+"/.", to)
		if native.Joins(c.spec).Is {
			// Who makes files in its tmpfs must be known to it: its root is, with what
			// only the host's root may.
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Credential:  &syscall.Credential{Uid: native.HostID(c.spec.Linux.UIDMappings, 0), Gid: native.HostID(c.spec.Linux.GIDMappings, 0)},
				AmbientCaps: []uintptr{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_SYS_PTRACE},
			}
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("copy %s up: %w%s", m.Destination, err, said(out))
		}
	}
	return nil
}

// listen makes the socket by which the container is started.
func (c *Container) listen() (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = shim.Named(c.dir(), startSocket, func(name string) error { return unix.Bind(fd, &unix.SockaddrUnix{Name: name}) })
	if err = errors.Join(err, unix.Listen(fd, 1)); err != nil {
		return -1, errors.Join(fmt.Errorf("make the start's socket: %w", err), unix.Close(fd))
	}
	return fd, nil
}

func writePidFile(file string, pid int) error {
	if file == "" {
		return nil
	}
	// Who waits for it must not find it empty.
	temp := file + ".new"
	if err := os.WriteFile(temp, fmt.Append(nil, pid), 0o644); err != nil {
		return err
	}
	return os.Rename(temp, file)
}
