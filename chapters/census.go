package chapters

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// census is what there is on the host that the course could leave: a sentence each.
type census map[string]bool

// elsewhere are places in which other daemons, other sessions and tests make things.
var elsewhere = regexp.MustCompile(`/containers/[0-9a-f]{8}(/|$)|^/tmp/|/course/|^/run/netns(/|$)|^/proc/|^/run/user/`)

// takeCensus looks at mounts, cgroups, network devices and namespaces, loop devices,
// processes and folders. Of what others may be making at the same time only what can
// be told to be this daemon's course's counts.
func (h *Host) census() census {
	root := h.Root
	c := census{}
	for _, m := range mountPoints() {
		if strings.HasPrefix(m, root+"/") || !elsewhere.MatchString(m) && !h.others(m) {
			c["the mount "+m] = true
		}
	}
	for _, dir := range cgroupsNamed("course") {
		if !h.others(dir) {
			c["the cgroup "+dir] = true
		}
	}
	for _, place := range []struct{ what, pattern string }{
		{"network device", "/sys/class/net/course*"},
		{"network namespace", "/run/netns/course*"},
		{"folder", "/tmp/course*"},
		{"folder", filepath.Join(root, "course", "*")},
		{"folder", "/run/lxc/lock" + filepath.Join(root, "course", "*")},
		{"folder", "/run/lxc" + filepath.Join(root, "course", "*")},
		{"container", filepath.Join(root, "containers", "*", "config.json")},
	} {
		found, _ := filepath.Glob(place.pattern)
		for _, path := range found {
			if place.what == "container" && !strings.Contains(content(path), labelKey) || h.others(path) {
				continue
			}
			c["the "+place.what+" "+path] = true
		}
	}
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, file := range files { // such a device goes when it is unmounted
		if backing := strings.TrimSpace(content(file)); strings.HasPrefix(backing, root+"/course/") {
			c["the device "+filepath.Base(filepath.Dir(filepath.Dir(file)))+" of "+backing] = true
		}
	}
	for _, name := range marked(markKey + root + "/") {
		c["the process "+name] = true
	}
	return c
}

// others reports whether a thing is of another daemon's course, by its name.
func (h *Host) others(path string) bool {
	name := filepath.Base(path)
	return strings.HasPrefix(name, "course") && !h.ours(name)
}

// cgroupsNamed are the cgroups with a word in their name.
func cgroupsNamed(word string) []string {
	var found []string
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(d.Name(), word) {
			found = append(found, path)
		}
		return nil // what vanishes meanwhile isn't there
	})
	return found
}

// since is what there is now and wasn't then.
func (c census) since(h *Host) []string {
	return settle(func() (list []string) {
		for thing := range h.census() {
			if !c[thing] {
				list = append(list, thing)
			}
		}
		return list
	})
}

// settle looks until nothing is found: what is on its way out gets a moment.
func settle(find func() []string) (found []string) {
	for range 30 {
		if found = find(); len(found) == 0 {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return found
}
