package dockerd2013

import (
	"context"
	"flag"
	"fmt"

	"docker2013/container"
	"docker2013/rcli"
)

// CmdUpdate changes limits, of running containers too. What isn't given stays.
func (d *Daemon) CmdUpdate(ctx context.Context, c *rcli.Call) error {
	f := flags(c, "update")
	var o runOptions
	limits := limitFlags(f, &o)
	listFlag(f, "restart", "Start it again: no, on-failure[:N], always or unless-stopped", func(s string) (err error) {
		o.config.Restart, err = parseRestart(s)
		return err
	})
	if err := f.parse(1, -1); err != nil {
		return err
	}
	if err := limits(); err != nil {
		return rcli.Exitf(rcli.StatusOurs, "update: %w", err)
	}
	given := map[string]bool{}
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if len(given) == 0 {
		return rcli.Exitf(rcli.StatusOurs, "update: say what to change, such as -m 512m")
	}
	return d.each(f.Args(), func(ctr *container.Container) error {
		if ctr.Record().Config.AutoRemove && o.config.Restart.Name != "" {
			return rcli.Exitf(rcli.StatusOurs, "update: --restart: container %s was made with --rm", ctr.Id())
		}
		err := ctr.Update(ctx, func(c *container.Config) { o.changes(c, given) })
		if err != nil {
			return rcli.Exitf(rcli.StatusOurs, "%w", err)
		}
		_, err = fmt.Fprintln(c.Stdout, ctr.Id())
		return err
	})
}

// changes writes the limits that were given.
func (o *runOptions) changes(c *container.Config, given map[string]bool) {
	from, to := &o.config.Limits, &c.Limits
	for name, set := range map[string]func(){
		"m":            func() { c.Ram = o.config.Ram },
		"memory-swap":  func() { to.MemorySwap = from.MemorySwap },
		"cpu-shares":   func() { to.CPUShares = from.CPUShares },
		"cpus":         func() { to.CPUs = from.CPUs },
		"cpuset-cpus":  func() { to.CPUSet = from.CPUSet },
		"pids-limit":   func() { to.Pids = from.Pids },
		"blkio-weight": func() { to.BlkioWeight = from.BlkioWeight },
		"restart":      func() { c.Restart = o.config.Restart },
	} {
		if given[name] {
			set()
		}
	}
}
