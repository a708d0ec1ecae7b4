package lxc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"docker2013/cgroups"
)

// inHierarchies are the folders of a cgroup of this name, one in every hierarchy:
// lxc-start uses all there are.
func inHierarchies(name string) ([]string, error) {
	dirs, err := cgroups.Hierarchies()
	for i := range dirs {
		dirs[i] = filepath.Join(dirs[i], name)
	}
	return dirs, err
}

// makeCgroups makes our own cgroup in every hierarchy, so that it is known who
// removes it.
func makeCgroups(name string) error {
	dirs, err := inHierarchies(name)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	return nil
}

// removeCgroups removes a cgroup and those below it from every hierarchy. One
// that still holds a process stays, and is an error.
func removeCgroups(name string) error {
	dirs, err := inHierarchies(name)
	errs := []error{err}
	for _, dir := range dirs {
		errs = append(errs, cgroups.Remove(dir))
	}
	return errors.Join(errs...)
}

// thawCgroups lets the processes of a cgroup go on, whoever froze them.
func thawCgroups(name string) error {
	dirs, err := inHierarchies(name)
	errs := []error{err}
	for _, dir := range dirs {
		for file, word := range map[string]string{"freezer.state": "THAWED", "cgroup.freeze": "0"} {
			f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
			if errors.Is(err, os.ErrNotExist) {
				continue // another hierarchy's
			}
			if err == nil {
				_, err = f.WriteString(word)
				err = errors.Join(err, f.Close())
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// cgroupPids lists the processes in a cgroup and below it.
func cgroupPids(name string) ([]int, error) {
	dirs, err := inHierarchies(name)
	if err != nil {
		return nil, err
	}
	return cgroups.Pids(dirs...)
}

// sweep kills what is left of a container whose lxc-start is gone, and removes
// its cgroups.
func (rt *Runtime) sweep(id string) error {
	for _, name := range []string{rt.parent + "/" + id, rt.parent + "/" + id + ".monitor"} {
		for range 100 {
			pids, err := cgroupPids(name)
			if err != nil {
				return err
			}
			if len(pids) == 0 {
				break
			}
			for _, pid := range pids {
				_ = unix.Kill(pid, unix.SIGKILL) // gone is what we want
			}
			_ = thawCgroups(name) // the frozen die when they go on; whoever doesn't is in the way below
			time.Sleep(10 * time.Millisecond)
		}
		if err := removeCgroups(name); err != nil {
			return err
		}
	}
	return nil
}
