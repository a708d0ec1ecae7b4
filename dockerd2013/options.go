package dockerd2013

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"docker2013/container"
	"docker2013/rcli"
)

// runOptions is a `run` command line, understood.
type runOptions struct {
	image, comment, engine, name string
	command                      []string
	attach                       bool
	config                       container.Config
}

// parseRun understands the arguments of `run`. The flags up to -c are those of
// 2013; without -a the command returns when the container has started.
func parseRun(c *rcli.Call, name string) (o runOptions, err error) {
	f := flags(c, name)
	if name == "run" {
		f.BoolVar(&o.attach, "a", false, "Attach stdin and stdout")
	}
	f.BoolVar(&o.config.OpenStdin, "i", false, "Keep stdin open even if not attached")
	f.BoolVar(&o.config.Tty, "t", false, "Allocate a pseudo-tty")
	f.StringVar(&o.comment, "c", "", "Comment")
	limits := limitFlags(f, &o)
	var env envFlag
	f.Var(&env, "e", "Set an environment variable, KEY=VALUE")
	f.StringVar(&o.config.Hostname, "hostname", "", "Hostname (default: the container's id)")
	f.BoolVar(&o.config.AutoRemove, "rm", false, "Remove the container when it ends")
	f.StringVar(&o.engine, "path", container.Classic, "classic, as in 2013, or modern")
	f.StringVar(&o.config.Keys, "lxc-keys", "today", "Write config.lxc in the keys of today or of 2013")
	f.StringVar(&o.name, "name", "", "A second name, beside the id")
	entrypoint := f.String("entrypoint", "", "Run this program, with COMMAND as its arguments")
	f.BoolVar(&o.config.Init, "init", false, "A small init is PID 1: it passes signals on, and reaps")
	isolationFlags(f, &o.config)
	if err := f.parse(0, -1); err != nil {
		return o, err
	}
	o.image, o.command = f.Arg(0), f.Args()
	if len(o.command) > 0 {
		o.command = o.command[1:]
	}
	if o.image == "" {
		o.image = "base"
	}
	if *entrypoint != "" {
		o.command = append([]string{*entrypoint}, o.command...)
	}
	if len(o.command) == 0 {
		o.attach, o.config.OpenStdin, o.config.Tty = true, true, true
		o.command = []string{"/bin/bash", "-i"}
	}
	o.config.Env = environment(env, o.config.Tty)
	if err = limits(); err == nil {
		err = o.check()
	}
	if err == nil {
		err = checkIsolation(o.config)
	}
	if err != nil {
		return o, rcli.Exitf(rcli.StatusOurs, "%s: %w", name, err)
	}
	return o, nil
}

// initPath is where --init puts its program, as Docker does.
const initPath = "/sbin/docker-init"

// underInit makes program, of the host, PID 1, and the command its child.
func (o *runOptions) underInit(program string) {
	o.config.Mounts = append(slices.Clone(o.config.Mounts), container.Mount{Type: "bind", Source: program, Target: initPath, ReadOnly: true})
	o.command = append([]string{initPath, "--"}, o.command...)
}

// limitFlags adds the flags of limits, for run and update. The function it returns
// reads them after parsing.
func limitFlags(f *flagSet, o *runOptions) func() error {
	l := &o.config.Limits
	memory := f.String("m", "", "Memory limit: bytes, or 512m, 1g")
	f.Uint64Var(&l.CPUShares, "cpu-shares", 0, "CPU weight, 1024 is everybody's")
	cpus := f.String("cpus", "", "CPU limit in CPUs: 1.5")
	f.StringVar(&l.CPUSet, "cpuset-cpus", "", "CPUs that may be used: 0-2,4")
	f.Int64Var(&l.Pids, "pids-limit", 0, "Most processes and threads")
	f.Uint64Var(&l.BlkioWeight, "blkio-weight", 0, "Block I/O weight, 10 to 1000")
	listFlag(f, "memory-swap", "Limit of memory and swap together; -1: no limit of swap", func(s string) (err error) {
		if s == "-1" {
			l.MemorySwap = -1
			return nil
		}
		l.MemorySwap, err = parseSize(s)
		return err
	})
	return func() (err error) {
		if o.config.Ram, err = parseMemory(*memory); err == nil {
			l.CPUs, err = parseCPUs(*cpus)
		}
		if err == nil {
			err = checkLimits(*l)
		}
		return err
	}
}

// minMemory is the least that a shell can start in, with room to say so.
const minMemory = 6 << 20

func parseMemory(s string) (int64, error) {
	if s == "" || s == "0" {
		return 0, nil
	}
	n, err := units.RAMInBytes(s)
	if err != nil {
		return 0, fmt.Errorf("-m %s: not a size: say bytes, or 512m, or 1g", s)
	}
	if n < minMemory {
		return 0, fmt.Errorf("-m %s: at least 6m, or nothing can start", s)
	}
	return n, nil
}

func parseCPUs(s string) (int64, error) {
	if s == "" || s == "0" {
		return 0, nil
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(n) || n < 0.01 || n > float64(runtime.NumCPU()) {
		return 0, fmt.Errorf("--cpus %s: say a number from 0.01 to %d, the CPUs of this host", s, runtime.NumCPU())
	}
	return int64(math.Round(n * 1000)), nil
}

var cpuList = regexp.MustCompile(`^\d+(-\d+)?(,\d+(-\d+)?)*$`)

// hostname(7): up to 64 bytes, and what a DNS label may have.
var hostname = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?$`)

// check finds what no host could do. What this host can't is found by the
// runtime, before it creates anything.
func (o *runOptions) check() error {
	switch {
	case o.engine != container.Classic && o.engine != container.Modern:
		return fmt.Errorf("--path %s: say classic or modern", o.engine)
	case o.config.Keys != "today" && o.config.Keys != "2013":
		return fmt.Errorf("--lxc-keys %s: say today or 2013", o.config.Keys)
	case o.config.Hostname != "" && !hostname.MatchString(o.config.Hostname):
		return fmt.Errorf("--hostname %q: say up to 64 letters, digits, dots and dashes", o.config.Hostname)
	case strings.ContainsRune(o.comment, 0):
		return errors.New("-c: a comment can't hold a NUL byte")
	}
	if o.config.Keys == "today" {
		o.config.Keys = ""
	}
	return nil
}

func checkLimits(l container.Limits) error {
	switch {
	case l.CPUShares != 0 && (l.CPUShares < 2 || l.CPUShares > 262144):
		return fmt.Errorf("--cpu-shares %d: say 2 to 262144", l.CPUShares)
	case l.CPUSet != "" && !cpuList.MatchString(l.CPUSet):
		return fmt.Errorf("--cpuset-cpus %q: say a list such as 0-2,4", l.CPUSet)
	case l.CPUSet != "" && highestCPU(l.CPUSet) >= runtime.NumCPU():
		return fmt.Errorf("--cpuset-cpus %s: this host has the CPUs 0 to %d", l.CPUSet, runtime.NumCPU()-1)
	case l.Pids < 0:
		return fmt.Errorf("--pids-limit %d: say how many processes, or leave it out", l.Pids)
	case l.BlkioWeight != 0 && (l.BlkioWeight < 10 || l.BlkioWeight > 1000):
		return fmt.Errorf("--blkio-weight %d: say 10 to 1000", l.BlkioWeight)
	}
	return nil
}

func highestCPU(list string) int {
	highest := 0
	for _, n := range regexp.MustCompile(`\d+`).FindAllString(list, -1) {
		cpu, err := strconv.Atoi(n)
		if err != nil {
			return math.MaxInt
		}
		highest = max(highest, cpu)
	}
	return highest
}

// envFlag collects -e KEY=VALUE.
type envFlag []string

func (e *envFlag) String() string { return strings.Join(*e, " ") }

func (e *envFlag) Set(kv string) error {
	key, _, ok := strings.Cut(kv, "=")
	if !ok || key == "" {
		return errors.New("say KEY=VALUE")
	}
	if strings.ContainsAny(kv, "\n\r") {
		return errors.New("config.lxc can't hold a line break in a variable")
	}
	*e = append(*e, kv)
	return nil
}

// environment is what a program finds in its environment: today's customs, and
// the user's own on top. In 2013 it was whatever LXC left.
func environment(own []string, tty bool) []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
	if tty {
		env = append(env, "TERM=xterm")
	}
	for _, kv := range own {
		key, _, _ := strings.Cut(kv, "=")
		env = slices.DeleteFunc(env, func(old string) bool { return strings.HasPrefix(old, key+"=") })
		env = append(env, kv)
	}
	return env
}
