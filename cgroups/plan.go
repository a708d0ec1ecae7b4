package cgroups

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Write is a value for a file of a cgroup.
type Write struct {
	Controller string
	File       string
	Value      string
}

// Plan is what is written to a new cgroup, in order. On v2, devices are not a
// file but a program.
type Plan struct {
	Writes  []Write
	Devices []specs.LinuxDeviceCgroup // v2 only
}

// defaultPeriod is what a CPU quota is a part of: the kernel's own default, in µs.
const defaultPeriod = 100_000

// Plan turns limits into what to write; 0 is none, as in runc. A limit that this host
// can't keep is an error, and nothing has been made.
func (h *Host) Plan(r *specs.LinuxResources) (Plan, error) {
	if r == nil {
		return Plan{}, nil
	}
	b := planner{host: h}
	switch h.Version {
	case 2:
		b.devices2(r.Devices)
	case 1:
		b.devices1(r.Devices)
	}
	b.memory(r.Memory)
	b.cpu(r.CPU)
	b.pids(r.Pids)
	b.blockIO(r.BlockIO)
	b.hugePages(r.HugepageLimits)
	b.network(r.Network)
	b.rdma(r.Rdma)
	b.unified(r.Unified)
	return b.plan, errors.Join(b.errs...)
}

type planner struct {
	host *Host
	plan Plan
	errs []error
}

func (b *planner) add(controller, file string, value any) {
	b.plan.Writes = append(b.plan.Writes, Write{controller, file, fmt.Sprint(value)})
}

// either adds the file that this host's version has.
func (b *planner) either(controller, v1, v2 string, value1, value2 any) {
	name := controller
	if b.host.Version == 2 && controller == "blkio" {
		name = "io"
	}
	if !b.host.has(name) {
		if b.host.Version == 0 {
			err := fmt.Errorf("an ordinary user has no cgroup controller %q: leave that limit out, or let root run the daemon", name)
			b.errs = append(b.errs, err)
			return
		}
		err := fmt.Errorf("this host has no cgroup controller %q: leave that limit out, or mount it below %s", name, Root)
		if !slices.ContainsFunc(b.errs, func(e error) bool { return e.Error() == err.Error() }) {
			b.errs = append(b.errs, err)
		}
		return
	}
	if b.host.Version == 2 {
		b.add(name, v2, value2)
	} else {
		b.add(name, v1, value1)
	}
}

// memory leaves out what kernels no longer have: limits of the kernel's own memory
// (memory.kernel, kernelTCP).
func (b *planner) memory(m *specs.LinuxMemory) {
	if m == nil {
		return
	}
	if m.Swappiness != nil {
		b.only(1, "memory.swappiness", "memory", "memory.swappiness", *m.Swappiness)
	}
	if m.DisableOOMKiller != nil && *m.DisableOOMKiller {
		b.only(1, "memory.disableOOMKiller", "memory", "memory.oom_control", 1)
	}
	if m.Limit != nil && *m.Limit != 0 {
		b.either("memory", "memory.limit_in_bytes", "memory.max", *m.Limit, orMax(*m.Limit))
	}
	if m.Reservation != nil && *m.Reservation != 0 {
		b.either("memory", "memory.soft_limit_in_bytes", "memory.low", *m.Reservation, orMax(*m.Reservation))
	}
	if m.Swap != nil && *m.Swap != 0 { // memory and swap together in v1, swap alone in v2
		swap := *m.Swap
		if swap > 0 && m.Limit != nil {
			swap -= *m.Limit
		}
		b.either("memory", "memory.memsw.limit_in_bytes", "memory.swap.max", *m.Swap, orMax(swap))
	}
}

// only adds a file that one version has; the other can't do it.
func (b *planner) only(version int, what, controller, file string, value any) {
	if b.host.Version != version {
		b.errs = append(b.errs, fmt.Errorf("%s is cgroup v%d's, and this host has v%d: leave it out", what, version, b.host.Version))
		return
	}
	b.either(controller, file, file, value, value)
}

// orMax is v2's way to say a limit; -1 is none.
func orMax(n int64) string {
	if n < 0 {
		return "max"
	}
	return strconv.FormatInt(n, 10)
}

func (b *planner) cpu(c *specs.LinuxCPU) {
	if c == nil {
		return
	}
	if c.Shares != nil && *c.Shares != 0 {
		b.either("cpu", "cpu.shares", "cpu.weight", *c.Shares, CPUWeight(*c.Shares))
	}
	var quota, period int64
	if c.Quota != nil {
		quota = *c.Quota
	}
	if c.Period != nil {
		period = int64(*c.Period)
	}
	if quota != 0 || period != 0 {
		period = cmp.Or(period, defaultPeriod)
		if b.host.Version == 1 {
			b.either("cpu", "cpu.cfs_period_us", "", period, nil)
			b.either("cpu", "cpu.cfs_quota_us", "", cmp.Or(quota, -1), nil)
		} else {
			b.either("cpu", "", "cpu.max", nil, fmt.Sprintf("%s %d", orMax(cmp.Or(quota, -1)), period))
		}
	}
	if c.Burst != nil {
		b.either("cpu", "cpu.cfs_burst_us", "cpu.max.burst", *c.Burst, *c.Burst)
	}
	if c.RealtimePeriod != nil && *c.RealtimePeriod != 0 {
		b.only(1, "cpu.realtimePeriod", "cpu", "cpu.rt_period_us", *c.RealtimePeriod)
	}
	if c.RealtimeRuntime != nil && *c.RealtimeRuntime != 0 {
		b.only(1, "cpu.realtimeRuntime", "cpu", "cpu.rt_runtime_us", *c.RealtimeRuntime)
	}
	if c.Idle != nil {
		b.either("cpu", "cpu.idle", "cpu.idle", *c.Idle, *c.Idle)
	}
	if c.Cpus != "" {
		b.either("cpuset", "cpuset.cpus", "cpuset.cpus", c.Cpus, c.Cpus)
	}
	if c.Mems != "" {
		b.either("cpuset", "cpuset.mems", "cpuset.mems", c.Mems, c.Mems)
	}
}

// CPUWeight turns v1's CPU shares (2 to 262144, 1024 the default) into v2's
// weight (1 to 10000, 100 the default), on a straight line from end to end, as
// crun and runc do.
func CPUWeight(shares uint64) uint64 {
	shares = min(max(shares, 2), 262144)
	return 1 + (shares-2)*9999/262142
}

func (b *planner) pids(p *specs.LinuxPids) {
	switch {
	case p == nil || p.Limit == nil || *p.Limit == 0:
	case *p.Limit < 0:
		b.either("pids", "pids.max", "pids.max", "max", "max")
	default:
		b.either("pids", "pids.max", "pids.max", *p.Limit, *p.Limit)
	}
}

func (b *planner) blockIO(io *specs.LinuxBlockIO) {
	if io == nil {
		return
	}
	if io.LeafWeight != nil || slices.ContainsFunc(io.WeightDevice, func(d specs.LinuxWeightDevice) bool { return d.LeafWeight != nil }) {
		b.errs = append(b.errs, errors.New("kernels since 5.0 have no blockIO.leafWeight: leave it out"))
	}
	for _, d := range io.WeightDevice {
		if d.Weight != nil {
			b.only(1, "blockIO.weightDevice", "blkio", cmp.Or(b.host.ioWeight, "blkio.weight")+"_device", fmt.Sprintf("%d:%d %d", d.Major, d.Minor, *d.Weight))
		}
	}
	if io.Weight != nil && *io.Weight != 0 {
		if b.host.Version == 1 && b.host.ioWeight == "" {
			b.errs = append(b.errs, errors.New("this kernel weighs no block I/O (neither blkio.weight nor blkio.bfq.weight): leave --blkio-weight out"))
		} else {
			b.either("blkio", b.host.ioWeight, "io.weight", *io.Weight, "default "+IOWeight(uint64(*io.Weight)))
		}
	}
	for _, t := range []struct {
		v1, v2 string
		list   []specs.LinuxThrottleDevice
	}{
		{"blkio.throttle.read_bps_device", "rbps", io.ThrottleReadBpsDevice},
		{"blkio.throttle.write_bps_device", "wbps", io.ThrottleWriteBpsDevice},
		{"blkio.throttle.read_iops_device", "riops", io.ThrottleReadIOPSDevice},
		{"blkio.throttle.write_iops_device", "wiops", io.ThrottleWriteIOPSDevice},
	} {
		for _, d := range t.list {
			b.either("blkio", t.v1, "io.max", fmt.Sprintf("%d:%d %d", d.Major, d.Minor, d.Rate),
				fmt.Sprintf("%d:%d %s=%d", d.Major, d.Minor, t.v2, d.Rate))
		}
	}
}

func (b *planner) hugePages(list []specs.LinuxHugepageLimit) {
	for _, l := range list {
		b.either("hugetlb", "hugetlb."+l.Pagesize+".limit_in_bytes", "hugetlb."+l.Pagesize+".max", l.Limit, l.Limit)
	}
}

func (b *planner) network(n *specs.LinuxNetwork) {
	if n == nil {
		return
	}
	if n.ClassID != nil {
		b.only(1, "network.classID", "net_cls", "net_cls.classid", *n.ClassID)
	}
	for _, p := range n.Priorities {
		b.only(1, "network.priorities", "net_prio", "net_prio.ifpriomap", fmt.Sprintf("%s %d", p.Name, p.Priority))
	}
}

func (b *planner) rdma(limits map[string]specs.LinuxRdma) {
	for _, device := range slices.Sorted(maps.Keys(limits)) {
		l, line := limits[device], device
		if l.HcaHandles != nil {
			line += fmt.Sprintf(" hca_handle=%d", *l.HcaHandles)
		}
		if l.HcaObjects != nil {
			line += fmt.Sprintf(" hca_object=%d", *l.HcaObjects)
		}
		b.either("rdma", "rdma.max", "rdma.max", line, line)
	}
}

// unified are v2's files by name.
func (b *planner) unified(files map[string]string) {
	for _, file := range slices.Sorted(maps.Keys(files)) {
		controller, _, _ := strings.Cut(file, ".")
		if strings.Contains(file, "/") || controller == file || controller == "cgroup" {
			b.errs = append(b.errs, fmt.Errorf("unified: %q is no controller's file", file))
			continue
		}
		b.only(2, "unified: "+file, controller, file, files[file])
	}
}

// IOWeight turns v1's weight of block I/O (10 to 1000) into v2's (1 to 10000).
func IOWeight(weight uint64) string {
	weight = min(max(weight, 10), 1000)
	return strconv.FormatUint(1+(weight-10)*9999/990, 10)
}

// devices1 are lines for devices.allow and devices.deny: TYPE MAJOR:MINOR rwm
// (Documentation/admin-guide/cgroup-v1/devices.rst).
func (b *planner) devices1(rules []specs.LinuxDeviceCgroup) {
	for _, d := range rules {
		file := "devices.deny"
		if d.Allow {
			file = "devices.allow"
		}
		b.either("devices", file, "", deviceRule(d), nil)
	}
}

func deviceRule(d specs.LinuxDeviceCgroup) string {
	number := func(n *int64) string {
		if n == nil || *n < 0 {
			return "*"
		}
		return strconv.FormatInt(*n, 10)
	}
	kind := d.Type
	if kind == "" {
		kind = "a"
	}
	if kind == "a" && d.Major == nil && d.Minor == nil {
		return "a" // this clears the list; "a *:* rwm" doesn't
	}
	access := d.Access
	if access == "" {
		access = "rwm"
	}
	return strings.Join([]string{kind, number(d.Major) + ":" + number(d.Minor), access}, " ")
}

func (b *planner) devices2(rules []specs.LinuxDeviceCgroup) { b.plan.Devices = rules }
