package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"

	"docker2013/native/oci"
)

func printJSON(v any) error {
	e := json.NewEncoder(os.Stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// failedExec is runc's exit status of an exec that didn't come about.
const failedExec = 255

// execOptions are what exec can change of a process.
type execOptions struct {
	file, cwd, user, apparmor, label string
	env, caps                        []string
	gids                             []int64
	tty, noPrivs                     bool
}

func (a *app) execCommand() *cobra.Command {
	var o oci.Starting
	var x execOptions
	var detach, paused bool
	cmd := a.do("exec [OPTIONS] ID [COMMAND [ARG...]]", "Run a further process in a container", func(rt *oci.Runtime, id string, args []string) error {
		if err := seal(); err != nil {
			return err
		}
		change := func(p *specs.Process) (*specs.Process, error) { return x.process(p, args) }
		listenFDs(&o)
		t := &terminal{}
		if !detach && o.ConsoleSocket == "" {
			o.Console = t.take
		}
		pid, err := rt.Exec(id, change, o)
		if err != nil {
			a.status = failedExec
			return fmt.Errorf("exec failed: %w", err)
		}
		if !detach {
			a.status = t.wait(pid)
		}
		return nil
	}, cobra.MinimumNArgs(1))
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.StringVarP(&x.file, "process", "p", "", "all of it from a `file`, as in config.json")
	startFlags(cmd, &o)
	f.BoolVarP(&detach, "detach", "d", false, "don't wait")
	f.BoolVarP(&x.tty, "tty", "t", false, "give it a terminal")
	f.StringVar(&x.cwd, "cwd", "", "its working `folder` in the container")
	f.StringArrayVarP(&x.env, "env", "e", nil, "set a variable: `KEY=VALUE`; may be repeated")
	f.StringVarP(&x.user, "user", "u", "", "`UID[:GID]`, numbers")
	f.Int64SliceVarP(&x.gids, "additional-gids", "g", nil, "further groups, `numbers`")
	f.StringVar(&x.apparmor, "apparmor", "", "its AppArmor `profile`")
	f.StringVar(&x.label, "process-label", "", "its SELinux `label`")
	f.StringArrayVarP(&x.caps, "cap", "c", nil, "a further `capability`")
	f.BoolVar(&x.noPrivs, "no-new-privs", false, "it can't gain privileges")
	f.BoolVar(&paused, "ignore-paused", false, "not built: who execs in a paused container waits")
	return cmd
}

// process makes of the container's own process the one that is wanted.
func (o *execOptions) process(p *specs.Process, args []string) (*specs.Process, error) {
	if o.file != "" {
		p = &specs.Process{}
		data, err := os.ReadFile(o.file)
		if err == nil {
			err = json.Unmarshal(data, p)
		}
		return p, err
	}
	if len(args) == 0 {
		return nil, errors.New("exec: say a command, or --process FILE")
	}
	p.Args, p.Terminal = args, o.tty
	p.Env = append(slices.Clone(p.Env), o.env...)
	p.Cwd = cmp.Or(o.cwd, p.Cwd)
	p.ApparmorProfile, p.SelinuxLabel = cmp.Or(o.apparmor, p.ApparmorProfile), cmp.Or(o.label, p.SelinuxLabel)
	p.NoNewPrivileges = p.NoNewPrivileges || o.noPrivs
	if len(o.caps) > 0 {
		c := specs.LinuxCapabilities{}
		if p.Capabilities != nil {
			c = *p.Capabilities
		}
		for _, set := range []*[]string{&c.Bounding, &c.Effective, &c.Permitted} {
			*set = append(slices.Clone(*set), o.caps...)
		}
		p.Capabilities = &c
	}
	if o.user != "" {
		u, g, has := strings.Cut(o.user, ":")
		uid, err := strconv.ParseUint(u, 10, 32)
		var gid uint64
		if has && err == nil {
			gid, err = strconv.ParseUint(g, 10, 32)
		}
		if err != nil {
			return nil, fmt.Errorf("exec --user %s: say numbers, UID[:GID]", o.user)
		}
		p.User = specs.User{UID: uint32(uid), GID: uint32(gid), Umask: p.User.Umask}
	}
	for _, g := range o.gids {
		p.User.AdditionalGids = append(p.User.AdditionalGids, uint32(g))
	}
	return p, nil
}

func (a *app) listCommand() *cobra.Command {
	var format string
	var quiet bool
	cmd := &cobra.Command{Use: "list [-q] [-f json]", Aliases: []string{"ls"}, Short: "List the containers", Args: cobra.NoArgs, DisableFlagsInUseLine: true}
	cmd.Flags().StringVarP(&format, "format", "f", "table", "`table` or json")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "ids only")
	cmd.RunE = func(*cobra.Command, []string) error {
		rt, err := a.runtime()
		if err != nil {
			return err
		}
		list, err := rt.List()
		switch {
		case err != nil:
			return err
		case quiet:
			for _, s := range list {
				fmt.Println(s.ID)
			}
		case format == "json":
			return printJSON(list)
		case format == "table":
			w := tabwriter.NewWriter(os.Stdout, 12, 1, 3, ' ', 0)
			fmt.Fprintln(w, "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER")
			for _, s := range list {
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", s.ID, s.Pid, s.Status, s.Bundle, s.Created.Format(time.RFC3339Nano), s.Owner)
			}
			return w.Flush()
		default:
			return fmt.Errorf("list --format %s: say table or json", format)
		}
		return nil
	}
	return cmd
}

func (a *app) psCommand() *cobra.Command {
	var format string
	cmd := a.do("ps [-f json] ID [PS-OPTION...]", "List a container's processes", func(rt *oci.Runtime, id string, args []string) error {
		pids, err := rt.Pids(id)
		switch {
		case err != nil:
			return err
		case format == "json":
			return printJSON(pids)
		case format != "table":
			return fmt.Errorf("ps --format %s: say table or json", format)
		case len(args) == 0:
			args = []string{"-ef"}
		}
		out, err := exec.Command("ps", args...).Output()
		if err != nil {
			return fmt.Errorf("ps: %w", err)
		}
		column := -1
		for line := range strings.Lines(string(out)) {
			fields := strings.Fields(line)
			if column < 0 {
				if column = slices.Index(fields, "PID"); column < 0 {
					return errors.New("ps: its options must show the column PID")
				}
				fmt.Print(line)
				continue
			}
			if pid, err := strconv.Atoi(fields[column]); err == nil && slices.Contains(pids, pid) {
				fmt.Print(line)
			}
		}
		return nil
	}, cobra.MinimumNArgs(1))
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().StringVarP(&format, "format", "f", "table", "`table` or json")
	return cmd
}

func (a *app) updateCommand() *cobra.Command {
	var file string
	var memory, swap, pids int64
	var shares uint64
	var quota int64
	var period uint64
	var cpus, mems string
	cmd := &cobra.Command{Use: "update [OPTIONS] ID", Short: "Change a container's limits", Args: cobra.ExactArgs(1), DisableFlagsInUseLine: true}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&file, "resources", "r", "", "all from a `file`, as linux.resources; -: standard input")
	f.Int64Var(&memory, "memory", 0, "`bytes`")
	f.Int64Var(&swap, "memory-swap", 0, "memory and swap together: `bytes`")
	f.Int64Var(&pids, "pids-limit", 0, "a `number`")
	f.Uint64Var(&shares, "cpu-share", 0, "a `weight`")
	f.Int64Var(&quota, "cpu-quota", 0, "`µs` in a period")
	f.Uint64Var(&period, "cpu-period", 0, "`µs`")
	f.StringVar(&cpus, "cpuset-cpus", "", "a `list`")
	f.StringVar(&mems, "cpuset-mems", "", "a `list`")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		rt, err := a.runtime()
		if err != nil {
			return err
		}
		var r specs.LinuxResources
		if file != "" {
			in := io.Reader(os.Stdin)
			if file != "-" {
				opened, err := os.Open(file)
				if err != nil {
					return err
				}
				defer opened.Close()
				in = opened
			}
			if err := json.NewDecoder(in).Decode(&r); err != nil {
				return fmt.Errorf("update --resources: %w", err)
			}
			return rt.Update(args[0], &r)
		}
		if f.Changed("memory") || f.Changed("memory-swap") {
			r.Memory = &specs.LinuxMemory{}
			if f.Changed("memory") {
				r.Memory.Limit = &memory
			}
			if f.Changed("memory-swap") {
				r.Memory.Swap = &swap
			}
		}
		if f.Changed("pids-limit") {
			r.Pids = &specs.LinuxPids{Limit: &pids}
		}
		r.CPU = &specs.LinuxCPU{Cpus: cpus, Mems: mems}
		if f.Changed("cpu-share") {
			r.CPU.Shares = &shares
		}
		if f.Changed("cpu-quota") {
			r.CPU.Quota = &quota
		}
		if f.Changed("cpu-period") {
			r.CPU.Period = &period
		}
		return rt.Update(args[0], &r)
	}
	return cmd
}

func (a *app) specCommand() *cobra.Command {
	var bundle string
	var rootless bool
	cmd := &cobra.Command{Use: "spec [-b FOLDER]", Short: "Write a config.json to begin with", Args: cobra.NoArgs, DisableFlagsInUseLine: true}
	cmd.Flags().StringVarP(&bundle, "bundle", "b", ".", "the `folder`")
	cmd.Flags().BoolVar(&rootless, "rootless", false, "one that an ordinary user's runtime can run (runc, crun): his id alone, the host's network, no limits")
	cmd.RunE = func(*cobra.Command, []string) error {
		s := oci.Example()
		if rootless {
			oci.Rootless(s, uint32(os.Geteuid()), uint32(os.Getegid()))
		}
		data, err := json.MarshalIndent(s, "", "\t")
		if err != nil {
			return err
		}
		file := filepath.Join(bundle, "config.json")
		f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("%s is there already: remove it first", file)
		}
		if err != nil {
			return err
		}
		_, err = f.Write(append(data, '\n'))
		return errors.Join(err, f.Close())
	}
	return cmd
}

func (a *app) featuresCommand() *cobra.Command {
	return &cobra.Command{Use: "features", Short: "Print what this runtime can do, as JSON", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		return printJSON(oci.Features())
	}}
}
