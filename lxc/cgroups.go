package lxc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hierarchies are the mount points of all cgroup hierarchies: one on a v2 host,
// one a controller on a v1 host, and v1's with /sys/fs/cgroup/unified on a hybrid.
func hierarchies() ([]string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &st); err != nil {
		return nil, fmt.Errorf("find cgroups at %s: %w", cgroupRoot, err)
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		return []string{cgroupRoot}, nil
	}
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return nil, fmt.Errorf("find cgroups: %w", err)
	}
	var dirs []string
	for _, e := range entries {
		dir := filepath.Join(cgroupRoot, e.Name())
		if e.IsDir() && unix.Statfs(dir, &st) == nil &&
			(st.Type == unix.CGROUP_SUPER_MAGIC || st.Type == unix.CGROUP2_SUPER_MAGIC) {
			dirs = append(dirs, dir)
		}
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("no cgroup hierarchy is mounted below %s: install cgroupfs-mount, or mount them", cgroupRoot)
	}
	return dirs, nil
}

// makeCgroups makes our own cgroup in every hierarchy, so that it is known who
// removes it.
func makeCgroups(name string) error {
	dirs, err := hierarchies()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	return nil
}

// removeCgroups removes a cgroup and those below it from every hierarchy. One
// that still holds a process stays, and is an error.
func removeCgroups(name string) error {
	dirs, err := hierarchies()
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		errs = append(errs, removeCgroup(filepath.Join(dir, name)))
	}
	return errors.Join(errs...)
}

func removeCgroup(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil // whatever is gone is fine
	})
	slices.Reverse(dirs) // children first
	for _, d := range dirs {
		if rerr := rmdirCgroup(d); err == nil {
			err = rerr
		}
	}
	return err
}

// rmdirCgroup removes one cgroup. A process that has ended leaves it a moment
// after its parent was told, on a busy machine seconds, so EBUSY is waited for.
func rmdirCgroup(dir string) error {
	var err error
	for range 500 {
		if err = os.Remove(dir); err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("remove cgroup: %w", err)
}

// thawCgroups lets the processes of a cgroup go on, whoever froze them.
func thawCgroups(name string) error {
	dirs, err := hierarchies()
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		for file, word := range map[string]string{"freezer.state": "THAWED", "cgroup.freeze": "0"} {
			err := os.WriteFile(filepath.Join(dir, name, file), []byte(word), 0) // it is there, or nothing is
			if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.EPERM) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// cgroupPids lists the processes in a cgroup and below it.
func cgroupPids(name string) ([]int, error) {
	dirs, err := hierarchies()
	if err != nil {
		return nil, err
	}
	seen := map[int]bool{}
	for _, dir := range dirs {
		_ = filepath.WalkDir(filepath.Join(dir, name), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() != "cgroup.procs" {
				return nil // whatever is gone holds no process
			}
			data, _ := os.ReadFile(path)
			for line := range strings.FieldsSeq(string(data)) {
				if pid, err := strconv.Atoi(line); err == nil {
					seen[pid] = true
				}
			}
			return nil
		})
	}
	pids := make([]int, 0, len(seen))
	for pid := range seen {
		pids = append(pids, pid)
	}
	slices.Sort(pids)
	return pids, nil
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
			thawCgroup(name)
			for _, pid := range pids {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if err := removeCgroups(name); err != nil {
			return err
		}
	}
	return nil
}

// thawCgroup lets frozen processes go on, so that they can die.
func thawCgroup(name string) {
	_ = os.WriteFile(filepath.Join(cgroupRoot, "freezer", name, "freezer.state"), []byte("THAWED"), 0)
	_ = os.WriteFile(filepath.Join(cgroupRoot, name, "cgroup.freeze"), []byte("0"), 0)
}
