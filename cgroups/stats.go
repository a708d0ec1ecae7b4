package cgroups

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Stats is what a cgroup's processes have used. What the host doesn't count is -1.
type Stats struct {
	CPU         time.Duration // CPU time
	Memory      int64         // bytes, now
	MemoryLimit int64         // bytes; -1: none
	BlockRead   int64         // bytes, so far
	BlockWrite  int64
	Pids        int64 // processes and threads
}

// Stats reads the accounting.
func (g *Group) Stats() Stats { return ReadStats(g.parent.host.Version, g.lines) }

// ReadStats makes a cgroup's accounting of the lines of its files, which lines gives;
// nil: there is no such file. version is where the controllers are, 1 or 2.
func ReadStats(version int, lines func(controller, file string) []string) Stats {
	number := func(controller, file string) int64 {
		if n, err := strconv.ParseInt(strings.Join(lines(controller, file), ""), 10, 64); err == nil {
			return n
		}
		return -1 // it isn't there, or says "max"
	}
	s := Stats{CPU: -1, Pids: number("pids", "pids.current")}
	if version == 2 {
		s.Memory, s.MemoryLimit = number("memory", "memory.current"), number("memory", "memory.max")
		if usec, ok := keyed(lines("cpu", "cpu.stat"), "usage_usec"); ok {
			s.CPU = time.Duration(usec) * time.Microsecond
		}
		s.BlockRead, s.BlockWrite = ioStat(lines("io", "io.stat"))
		return s
	}
	s.Memory, s.MemoryLimit = number("memory", "memory.usage_in_bytes"), number("memory", "memory.limit_in_bytes")
	if s.MemoryLimit >= 1<<62 { // v1 writes "no limit" as the largest number of pages
		s.MemoryLimit = -1
	}
	if ns := number("cpuacct", "cpuacct.usage"); ns >= 0 {
		s.CPU = time.Duration(ns)
	}
	s.BlockRead, s.BlockWrite = ioServiceBytes(lines("blkio", "blkio.throttle.io_service_bytes"))
	return s
}

// OOMKills is how many of its processes the kernel has killed for memory; 0 where
// it doesn't count them.
func (g *Group) OOMKills() int64 {
	file := "memory.oom_control"
	if g.parent.host.Version == 2 {
		file = "memory.events"
	}
	n, _ := keyed(g.lines("memory", file), "oom_kill")
	return n
}

// lines reads a file of the cgroup; none where it isn't there.
func (g *Group) lines(controller, file string) []string {
	dir := g.dir(controller)
	if dir == "" {
		return nil
	}
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

// keyed finds the number behind a key in a flat keyed file, "KEY VALUE" a line.
func keyed(lines []string, key string) (int64, bool) {
	for _, line := range lines {
		if k, v, _ := strings.Cut(line, " "); k == key {
			n, err := strconv.ParseInt(v, 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// ioStat adds up v2's io.stat: "8:0 rbytes=1 wbytes=2 …" a device.
func ioStat(lines []string) (read, write int64) {
	if lines == nil {
		return -1, -1
	}
	for _, line := range lines {
		for field := range strings.FieldsSeq(line) {
			k, v, _ := strings.Cut(field, "=")
			n, _ := strconv.ParseInt(v, 10, 64)
			switch k {
			case "rbytes":
				read += n
			case "wbytes":
				write += n
			}
		}
	}
	return read, write
}

// ioServiceBytes adds up v1's file: "8:0 Read 4096" a device and kind.
func ioServiceBytes(lines []string) (read, write int64) {
	if lines == nil {
		return -1, -1
	}
	for _, line := range lines {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		n, _ := strconv.ParseInt(f[2], 10, 64)
		switch f[1] {
		case "Read":
			read += n
		case "Write":
			write += n
		}
	}
	return read, write
}
