package e2e

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// census is what there is on this host that a container engine could leave:
// mounts, cgroups, network devices, processes, folders of LXC's. Only what
// belongs to these tests counts: other people work on the machine too.
func census() (map[string]bool, error) {
	found := map[string]bool{}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		if target := strings.Fields(line)[1]; ours(target) {
			found["mount "+target] = true
		}
	}
	for _, root := range []string{"/sys/fs/cgroup", "/run/lxc"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && (ours(path) || strings.Contains(path, fmt.Sprintf("docker2013-test-%d-", os.Getpid()))) {
				found["folder "+path] = true
			}
			return nil // what vanishes meanwhile is not left
		})
		if err != nil {
			return nil, err
		}
	}
	pids, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	for _, file := range pids {
		cmdline, err := os.ReadFile(file)
		if err == nil && ours(string(cmdline)) && file != fmt.Sprintf("/proc/%d/cmdline", os.Getpid()) {
			found["process "+strings.ReplaceAll(string(cmdline), "\x00", " ")] = true
		}
	}
	return found, nil
}

// ours reports whether a path or command line is of these tests: all that they
// make is below a folder of theirs.
func ours(s string) bool {
	return strings.Contains(s, filepath.Dir(binaries))
}

// leftovers is what is there now and wasn't before. Things on their way out get
// a moment.
func leftovers(before map[string]bool) []string {
	var left []string
	for range 50 {
		now, err := census()
		if err != nil {
			return []string{err.Error()}
		}
		left = slices.Sorted(maps.Keys(now))
		left = slices.DeleteFunc(left, func(s string) bool { return before[s] })
		if len(left) == 0 {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return left
}
