package dockerd2013

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"docker2013/container"
	"docker2013/rcli"
)

// CmdInspect shows all that is known of a container or an image.
func (d *Daemon) CmdInspect(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "inspect")
	format := f.String("f", "", "Write each with this Go template, or as json")
	if err := f.parse(1, -1); err != nil {
		return err
	}
	var objects []any
	for _, name := range f.Args() {
		if ctr := d.Containers.Get(name); ctr != nil {
			objects = append(objects, ctr.Record())
		} else if img := d.Images.Find(name); img != nil {
			objects = append(objects, img)
		} else if d.Containers.Fitting(name) > 1 {
			_, err := d.find(name)
			return err
		} else {
			return noSuch("container or image", name)
		}
	}
	if *format != "" {
		return writeFormat(c.Stdout, "inspect", *format, objects)
	}
	var object any = objects
	if len(objects) == 1 { // the one of 2013
		object = objects[0]
	}
	data, err := json.MarshalIndent(object, "", "    ")
	if err != nil {
		return err
	}
	_, err = c.Stdout.Write(data) // no line break at its end, as in 2013
	return err
}

// CmdInfo counts, and says what the daemon stands on. The first three lines are
// those of February 2013 (docker@a608f5e3b8).
func (d *Daemon) CmdInfo(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "info")
	format := f.String("format", "", "With this template, or as json")
	if err := f.parse(0, 0); err != nil {
		return err
	}
	running := 0
	for _, ctr := range d.Containers.List() {
		if ctr.Record().State.Running {
			running++
		}
	}
	lines := []Fact{
		{"containers", strconv.Itoa(len(d.Containers.List()))}, {"version", Version}, {"images", strconv.Itoa(d.Images.Len())},
		{"running", strconv.Itoa(running)}, {"root", d.Root},
	}
	for _, path := range slices.Sorted(maps.Keys(d.Engines)) {
		lines = append(lines, Fact{path, fmt.Sprintf("union %s, runtime %s", d.Engines[path].Union.Name(), d.Engines[path].Runtime.Name())})
	}
	lines = append(lines, d.Facts...)
	if *format != "" {
		facts := map[string]string{}
		for _, l := range lines {
			facts[l.Name] = l.Value
		}
		return writeFormat(c.Stdout, "info", *format, []map[string]string{facts})
	}
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%s: %s\n", l.Name, l.Value)
	}
	_, err := c.Stdout.Write([]byte(b.String()))
	return err
}

// CmdVersion shows the versions of the daemon and of what it was built with.
func (d *Daemon) CmdVersion(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "version")
	if err := f.parse(0, 0); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.Stdout, "Server: dockerd2013 %s\nGo: %s\n", Version, runtime.Version())
	return err
}

// CmdTop lists a container's processes, as the host sees them.
func (d *Daemon) CmdTop(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "top")
	if err := f.parse(1, 1); err != nil {
		return err
	}
	ctr, err := d.find(f.Arg(0))
	if err != nil {
		return err
	}
	pids, err := ctr.Pids()
	if err != nil {
		return err
	}
	w := table(c.Stdout, 8)
	row(w, "UID", "PID", "PPID", "TIME", "CMD")
	for _, pid := range pids {
		if cells, err := processRow(pid); err == nil { // else it has just ended
			row(w, cells...)
		}
	}
	return w.Flush()
}

// clockTicks is the unit of times in /proc/PID/stat: 100 a second on Linux,
// whatever the kernel's own (proc_pid_stat(5), sysconf(_SC_CLK_TCK)).
const clockTicks = 100

func processRow(pid int) ([]string, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return nil, err
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return nil, err
	}
	uid := ""
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "Uid:"); ok {
			uid = strings.Fields(rest)[0]
		}
	}
	// The name is in parentheses and can hold anything, parentheses too.
	open, end := strings.IndexByte(string(stat), '('), strings.LastIndexByte(string(stat), ')')
	fields := strings.Fields(string(stat[end+1:])) // state ppid … utime is the 12th, stime the 13th
	if open < 0 || end < open || len(fields) < 13 {
		return nil, fmt.Errorf("read %s/stat: not as in proc_pid_stat(5)", dir)
	}
	utime, _ := strconv.ParseInt(fields[11], 10, 64)
	stime, _ := strconv.ParseInt(fields[12], 10, 64)
	cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return nil, err
	}
	command := strings.TrimSpace(strings.ReplaceAll(string(cmdline), "\x00", " "))
	if command == "" {
		command = "[" + string(stat[open+1:end]) + "]"
	}
	seconds := (utime + stime) / clockTicks
	return []string{uid, strconv.Itoa(pid), fields[1],
		fmt.Sprintf("%02d:%02d:%02d", seconds/3600, seconds/60%60, seconds%60), printable(command)}, nil
}

// CmdStats shows what running containers use, every second until the client
// has had enough.
func (d *Daemon) CmdStats(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "stats")
	once := f.Bool("no-stream", false, "Show it once")
	if err := f.parse(0, -1); err != nil {
		return err
	}
	var named []*container.Container
	if err := d.each(f.Args(), func(ctr *container.Container) error {
		named = append(named, ctr)
		return nil
	}); err != nil {
		return err
	}
	before, at := map[string]time.Duration{}, time.Now()
	for tick := 0; ; tick++ {
		list := named
		if len(list) == 0 {
			list = d.Containers.List()
		}
		now := time.Now()
		var rows [][]string
		for _, ctr := range list {
			s, err := ctr.Stats()
			if err != nil {
				continue // it doesn't run
			}
			used := s.CPU - before[ctr.Id()]
			if used < 0 { // it was started again
				used = s.CPU
			}
			rows = append(rows, statsRow(ctr.Id(), s, used, now.Sub(at)))
			before[ctr.Id()] = s.CPU
		}
		at = now
		if tick > 0 { // a share of CPU time needs two looks
			w := table(c.Stdout, 10)
			row(w, "CONTAINER", "CPU %", "MEM USAGE / LIMIT", "MEM %", "BLOCK I/O", "PIDS")
			for _, r := range rows {
				row(w, r...)
			}
			if err := w.Flush(); err != nil || *once {
				return err
			}
		}
		pause := time.Second
		if tick == 0 {
			pause = 200 * time.Millisecond
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// statsRow is a container's row: cpu was used during the time elapsed.
func statsRow(id string, s container.Stats, cpu, elapsed time.Duration) []string {
	const unknown = "-"
	size := func(n int64) string {
		if n < 0 {
			return unknown
		}
		return units.BytesSize(float64(n))
	}
	share, limit, part, pids := unknown, "none", unknown, unknown
	if s.CPU >= 0 && elapsed > 0 {
		share = fmt.Sprintf("%.2f%%", 100*float64(cpu)/float64(elapsed))
	}
	if s.MemoryLimit > 0 {
		limit = size(s.MemoryLimit)
		if s.Memory >= 0 {
			part = fmt.Sprintf("%.2f%%", 100*float64(s.Memory)/float64(s.MemoryLimit))
		}
	}
	if s.Pids >= 0 {
		pids = strconv.FormatInt(s.Pids, 10)
	}
	return []string{id, share, size(s.Memory) + " / " + limit, part, size(s.BlockRead) + " / " + size(s.BlockWrite), pids}
}
