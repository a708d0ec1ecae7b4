package chapters

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Cleanup removes everything that the course has made on the host's daemon, ends
// that daemon if the course started it, and proves by lists of before and after that
// nothing is left.
func (h *Host) Cleanup(ctx context.Context, list []*Chapter, out io.Writer) error {
	if err := h.nobodyPlays(); err != nil {
		return err
	}
	before, all := h.ofCourse(ctx), inventory()
	var err error
	for _, c := range list {
		for _, x := range c.Exercises {
			if h.Started(x) {
				err = errors.Join(err, h.TakeAway(ctx, x, func(text string) { fmt.Fprintf(out, "%s: %s\n", x.ID, text) }))
			}
		}
	}
	killMarked(markKey + h.Root + "/")
	_, rerr := h.removeContainers(ctx, labelKey)
	err = errors.Join(err, rerr)
	_, rerr = h.removeImages(ctx, nil)
	err = errors.Join(err, rerr, removeRun(h.dir()), removeTree(h.dir(), true))
	if ownDaemon(h.Root) != 0 {
		err = errors.Join(err, endDaemon(h.Root))
	}
	for _, thing := range slices.Backward(slices.Sorted(maps.Keys(before))) { // what is inside first
		removeStray(thing)
	}

	left := settle(func() []string { return slices.Sorted(maps.Keys(h.ofCourse(ctx))) })
	for _, thing := range slices.Sorted(maps.Keys(before)) {
		if !slices.Contains(left, thing) {
			fmt.Fprintf(out, "gone: %s\n", thing)
		}
	}
	fmt.Fprintf(out, "%-28s %8s %8s\n", "on this host", "before", "after")
	now := inventory()
	for _, kind := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(out, "%-28s %8d %8d\n", kind, all[kind], now[kind])
	}
	for _, thing := range left {
		err = errors.Join(err, fmt.Errorf("still there: %s", thing))
	}
	if err == nil {
		fmt.Fprintln(out, "nothing of the course is left")
	}
	return err
}

// CleanupWithout is Cleanup where no daemon runs: it starts one if there is anything for
// it to clean up.
func CleanupWithout(ctx context.Context, list []*Chapter, addr, bin string, out io.Writer) error {
	root := daemonRoot()
	h := &Host{Addr: addr, Root: root, Bin: bin}
	index := content(filepath.Join(root, "images", "index.json"))
	if len(h.ofCourse(ctx)) == 0 && !strings.Contains(index, `"`+imagePrefix) {
		fmt.Fprintln(out, "nothing of the course is left")
		return nil
	}
	h, err := Have(ctx, addr, bin, func(text string) { fmt.Fprintln(out, text) })
	if err != nil {
		return err
	}
	return h.Cleanup(ctx, list, out)
}

// removeStray removes what a killed script has left beside our folders: things named
// course…. That it is gone is for the lists to prove.
func removeStray(thing string) {
	slash := strings.IndexByte(thing, '/')
	if slash < 0 {
		return
	}
	kind, path := strings.TrimSpace(thing[:slash]), thing[slash:]
	name := filepath.Base(path)
	if !strings.HasPrefix(name, "course") {
		return
	}
	switch kind {
	case "the cgroup":
		_ = os.Remove(path) // rmdir: the kernel refuses one that is in use
	case "the network device":
		_ = exec.Command("ip", "link", "delete", name).Run()
	case "the network namespace":
		_ = exec.Command("ip", "netns", "delete", name).Run()
	case "the mount":
		_ = unix.Unmount(path, unix.MNT_DETACH)
	}
}

// nobodyPlays makes sure that no chapter is being played.
func (h *Host) nobodyPlays() error {
	dirs, err := filepath.Glob(filepath.Join(h.dir(), "*"))
	for _, dir := range dirs {
		f, oerr := os.Open(dir)
		if oerr != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			err = errors.Join(err, fmt.Errorf("somebody plays %s: end that first", filepath.Base(dir)))
		}
		_ = f.Close()
	}
	return err
}

// ofCourse is what there is of the course's.
func (h *Host) ofCourse(ctx context.Context) census {
	c := census{}
	for thing := range h.census() {
		if !strings.HasPrefix(thing, "the mount ") || strings.Contains(thing, h.dir()+"/") || strings.HasPrefix(filepath.Base(thing), "course") {
			c[thing] = true
		}
		if !strings.HasPrefix(thing, "the container ") {
			continue
		}
		// What a container has on the host goes with it.
		folder := filepath.Dir(strings.TrimPrefix(thing, "the container "))
		for _, m := range mountsBelow(folder) {
			c["the mount "+m] = true
		}
		for _, dir := range cgroupsNamed(filepath.Base(folder)) {
			c["the cgroup "+dir] = true
		}
	}
	images, _ := h.courseImages(ctx) // no daemon: none that anybody could tell of
	for _, id := range images {
		c["the image "+id] = true
	}
	if exists(h.dir()) {
		c["the folder "+h.dir()] = true
	}
	if pid := ownDaemon(h.Root); pid != 0 {
		c[fmt.Sprintf("the process %d dockerd2013, which the course has started", pid)] = true
	}
	return c
}

// inventory counts what there is on this host, whosever it is.
func inventory() map[string]int {
	count := func(pattern string) int {
		found, _ := filepath.Glob(pattern)
		return len(found)
	}
	return map[string]int{
		"mounts":              len(mountPoints()),
		"cgroups":             len(cgroupsNamed("")),
		"network devices":     count("/sys/class/net/*"),
		"network namespaces":  count("/run/netns/*"),
		"loop devices in use": count("/sys/block/loop*/loop/backing_file"),
		"processes":           count("/proc/[0-9]*"),
	}
}
