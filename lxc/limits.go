package lxc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"docker2013/cgroups"
	"docker2013/container"
)

// cgroupHost is what this host's cgroups can do.
type cgroupHost struct {
	// Version is 1 where the controllers are in v1 hierarchies (also on
	// hybrid hosts), 2 where there is only the one tree.
	Version int
	// Weight is the file that holds the weight of block I/O: the scheduler
	// that is compiled in decides its name. "" where there is none.
	Weight string
	// Missing are the v1 controllers that are not mounted.
	Missing map[string]bool
}

// v1Controllers are the controllers that config.lxc has lines for.
var v1Controllers = []string{"devices", "memory", "cpu", "cpuset", "pids", "blkio"}

// probeCgroups looks at the host. parent is a cgroup of ours: weights aren't
// shown in a hierarchy's root.
func probeCgroups(parent string) (cgroupHost, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(cgroups.Root, &st); err != nil {
		return cgroupHost{}, fmt.Errorf("no cgroups at %s: %w: mount them, or install cgroupfs-mount", cgroups.Root, err)
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		return cgroupHost{Version: 2, Weight: "io.weight"}, nil
	}
	h := cgroupHost{Version: 1, Missing: map[string]bool{}}
	for _, controller := range v1Controllers {
		if _, err := os.Stat(filepath.Join(cgroups.Root, controller, "cgroup.procs")); err != nil {
			h.Missing[controller] = true
		}
	}
	for _, name := range []string{"blkio.weight", "blkio.bfq.weight"} {
		if _, err := os.Stat(filepath.Join(cgroups.Root, "blkio", parent, name)); err == nil {
			h.Weight = name
			break
		}
	}
	return h, nil
}

func (h cgroupHost) prefix() string {
	if h.Version == 2 {
		return "lxc.cgroup2"
	}
	return "lxc.cgroup"
}

// period is what a CPU quota is a part of: 100 ms, the kernel's own default, in µs.
const period = 100_000

// limitLines are the lines of config.lxc for the limits that are set. A limit
// that this host can't keep is an error, before anything is created.
func limitLines(c container.Config, h cgroupHost) ([]string, error) {
	var lines []string
	add := func(file string, value any) {
		lines = append(lines, fmt.Sprintf("%s.%s = %v", h.prefix(), file, value))
	}
	need := func(controller string) error {
		if h.Missing[controller] {
			return fmt.Errorf("no cgroup controller %q on this host: leave that limit out, or mount it below %s", controller, cgroups.Root)
		}
		return nil
	}
	v2 := h.Version == 2
	var errs []error
	if c.Ram != 0 {
		errs = append(errs, need("memory"))
		if v2 {
			add("memory.max", c.Ram)
		} else {
			add("memory.limit_in_bytes", c.Ram)
		}
	}
	l := c.Limits
	if l.CPUShares != 0 {
		errs = append(errs, need("cpu"))
		if v2 {
			add("cpu.weight", cgroups.CPUWeight(l.CPUShares))
		} else {
			add("cpu.shares", l.CPUShares)
		}
	}
	if l.CPUs != 0 {
		errs = append(errs, need("cpu"))
		quota := l.CPUs * period / 1000
		if v2 {
			add("cpu.max", fmt.Sprintf("%d %d", quota, period))
		} else {
			add("cpu.cfs_period_us", period)
			add("cpu.cfs_quota_us", quota)
		}
	}
	if l.CPUSet != "" {
		errs = append(errs, need("cpuset"))
		add("cpuset.cpus", l.CPUSet)
	}
	if l.Pids != 0 {
		errs = append(errs, need("pids"))
		add("pids.max", l.Pids)
	}
	if l.BlkioWeight != 0 {
		switch {
		case h.Weight == "":
			errs = append(errs, errors.New("this kernel weighs no block I/O (neither blkio.weight nor blkio.bfq.weight): leave --blkio-weight out"))
		case v2:
			add(h.Weight, "default "+cgroups.IOWeight(l.BlkioWeight))
		default:
			add(h.Weight, l.BlkioWeight)
		}
	}
	return lines, errors.Join(errs...)
}
