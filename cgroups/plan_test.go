package cgroups

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

var (
	v1 = &Host{Version: 1, ioWeight: "blkio.bfq.weight", hierarchies: []hierarchy{
		{"/v1/devices", []string{"devices"}}, {"/v1/memory", []string{"memory"}}, {"/v1/cpu,cpuacct", []string{"cpu", "cpuacct"}},
		{"/v1/cpuset", []string{"cpuset"}}, {"/v1/pids", []string{"pids"}}, {"/v1/blkio", []string{"blkio"}}}}
	v2   = &Host{Version: 2, hierarchies: []hierarchy{{"/v2", []string{"cpuset", "cpu", "io", "memory", "pids"}}}}
	bare = &Host{Version: 1, hierarchies: []hierarchy{{"/v1/freezer", []string{"freezer"}}}}
)

func TestPlan(t *testing.T) {
	throttle := specs.LinuxThrottleDevice{Rate: 1000}
	throttle.Major, throttle.Minor = 8, 16
	for name, x := range map[string]struct {
		limits *specs.LinuxResources
		v1, v2 []string
	}{
		"none": {nil, nil, nil},
		"memory": {&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(64)), Swap: new(int64(96))}},
			[]string{"memory.limit_in_bytes 64", "memory.memsw.limit_in_bytes 96"}, []string{"memory.max 64", "memory.swap.max 32"}},
		"no limit of swap": {&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(64)), Swap: new(int64(-1))}},
			[]string{"memory.limit_in_bytes 64", "memory.memsw.limit_in_bytes -1"}, []string{"memory.max 64", "memory.swap.max max"}},
		"cpu": {&specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: new(uint64(1024)), Quota: new(int64(150_000)), Cpus: "0-1"}},
			[]string{"cpu.shares 1024", "cpu.cfs_period_us 100000", "cpu.cfs_quota_us 150000", "cpuset.cpus 0-1"},
			[]string{"cpu.weight 39", "cpu.max 150000 100000", "cpuset.cpus 0-1"}},
		"pids": {&specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64(20))}}, []string{"pids.max 20"}, []string{"pids.max 20"}},
		"block I/O": {&specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: new(uint16(1000)), ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{throttle}}},
			[]string{"blkio.bfq.weight 1000", "blkio.throttle.read_bps_device 8:16 1000"}, []string{"io.weight default 10000", "io.max 8:16 rbps=1000"}},
		"devices": {&specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{}, {Allow: true, Type: "c", Major: new(int64(1)), Access: "rw"}}},
			[]string{"devices.deny a", "devices.allow c 1:* rw"}, nil},
	} {
		for _, host := range []*Host{v1, v2} {
			plan, err := host.Plan(x.limits)
			var got []string
			for _, w := range plan.Writes {
				got = append(got, w.File+" "+w.Value)
			}
			want := map[int][]string{1: x.v1, 2: x.v2}[host.Version]
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s on v%d: %q, %v; want %q", name, host.Version, got, err, want)
			}
			if host == v2 && x.limits != nil && len(plan.Devices) != len(x.limits.Devices) {
				t.Errorf("%s: %d device rules", name, len(plan.Devices))
			}
		}
	}
}

// What the host can't keep is said once for each controller.
func TestPlanForABareHost(t *testing.T) {
	_, err := bare.Plan(&specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: new(int64(64)), Swap: new(int64(96))},
		Pids:   &specs.LinuxPids{Limit: new(int64(20))},
	})
	if err == nil || strings.Count(err.Error(), `"memory"`) != 1 || strings.Count(err.Error(), `"pids"`) != 1 {
		t.Errorf("%v", err)
	}
	if _, err := (&Host{Version: 1, hierarchies: v1.hierarchies}).Plan(&specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: new(uint16(10))}}); err == nil {
		t.Error("a weight that the kernel doesn't have was planned")
	}
}

func TestStatsFiles(t *testing.T) {
	if r, w := ioStat([]string{"8:0 rbytes=1 wbytes=2 rios=9", "8:16 rbytes=10 wbytes=20", ""}); r != 11 || w != 22 {
		t.Errorf("io.stat: %d, %d", r, w)
	}
	if r, w := ioServiceBytes([]string{"8:0 Read 1", "8:0 Write 2", "8:0 Sync 9", "Total 12"}); r != 1 || w != 2 {
		t.Errorf("io_service_bytes: %d, %d", r, w)
	}
	if r, w := ioStat(nil); r != -1 || w != -1 {
		t.Errorf("no io.stat: %d, %d", r, w)
	}
	if r, w := ioServiceBytes(nil); r != -1 || w != -1 {
		t.Errorf("no io_service_bytes: %d, %d", r, w)
	}
	if n, ok := keyed([]string{"low 1", "oom_kill 3"}, "oom_kill"); !ok || n != 3 {
		t.Errorf("keyed: %d, %v", n, ok)
	}
}

func TestWeights(t *testing.T) {
	for shares, want := range map[uint64]uint64{0: 1, 2: 1, 1024: 39, 262144: 10000, 1 << 40: 10000} {
		if got := CPUWeight(shares); got != want {
			t.Errorf("CPUWeight(%d) = %d, want %d", shares, got, want)
		}
	}
	for weight, want := range map[uint64]string{10: "1", 500: "4950", 1000: "10000"} {
		if got := IOWeight(weight); got != want {
			t.Errorf("IOWeight(%d) = %q, want %q", weight, got, want)
		}
	}
}
