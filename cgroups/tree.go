package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Hierarchies are the folders on which cgroup hierarchies are mounted: [Root] itself
// on a v2 host; on a v1 host one a controller, those that only have a name, and on
// a hybrid one v2's.
func Hierarchies() ([]string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(Root, &st); err != nil {
		return nil, fmt.Errorf("no cgroups at %s: %w: mount them, or install cgroupfs-mount", Root, err)
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		return []string{Root}, nil
	}
	entries, err := os.ReadDir(Root)
	if err != nil {
		return nil, fmt.Errorf("find cgroups: %w", err)
	}
	var dirs []string
	for _, e := range entries { // links are left out: cpu and cpuacct may be in one hierarchy
		dir := filepath.Join(Root, e.Name())
		if e.IsDir() && unix.Statfs(dir, &st) == nil &&
			(st.Type == unix.CGROUP_SUPER_MAGIC || st.Type == unix.CGROUP2_SUPER_MAGIC) {
			dirs = append(dirs, dir)
		}
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("no cgroup hierarchy is mounted below %s: install cgroupfs-mount, or mount them", Root)
	}
	return dirs, nil
}

// Pids lists the processes in the cgroups of these folders and below them, sorted.
// A folder that isn't there has none.
func Pids(dirs ...string) ([]int, error) {
	seen := map[int]bool{}
	for _, dir := range dirs {
		if err := addPids(seen, dir); err != nil {
			return nil, err
		}
	}
	return sorted(seen), nil
}

// sorted is never nil: as JSON, none are [].
func sorted(seen map[int]bool) []int {
	pids := slices.AppendSeq(make([]int, 0, len(seen)), maps.Keys(seen))
	slices.Sort(pids)
	return pids
}

func addPids(seen map[int]bool, dir string) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "cgroup.procs" {
			return ignoreGone(err)
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, unix.EOPNOTSUPP) {
			return nil // a threaded cgroup: the one above lists its processes (cgroups(7))
		}
		for line := range strings.FieldsSeq(string(data)) {
			if pid, err := strconv.Atoi(line); err == nil {
				seen[pid] = true
			}
		}
		return ignoreGone(err)
	})
	if err != nil {
		return fmt.Errorf("list processes of cgroup: %w", err)
	}
	return nil
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// Remove removes a cgroup, by its folder, and those below it; one that isn't there is
// no error. A process that has ended leaves its cgroup a moment after its parent was
// told, on a busy machine seconds, so EBUSY is waited for, five seconds in all.
func Remove(dir string) error {
	var dirs []string
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil // whatever is gone is fine
	})
	slices.Reverse(dirs) // children first
	deadline := time.Now().Add(5 * time.Second)
	var errs []error
	for _, d := range dirs {
		err := unix.Rmdir(d)
		for errors.Is(err, unix.EBUSY) && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
			err = unix.Rmdir(d)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, &os.PathError{Op: "remove cgroup", Path: d, Err: err})
		}
	}
	return errors.Join(errs...)
}
