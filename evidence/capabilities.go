package evidence

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/capability"

	"docker2013/trace"
)

// Caps is a set of capabilities: bit N is capability N of capabilities(7).
type Caps uint64

// known are the capabilities that have a name, in the kernel's order.
var known = capability.ListKnown()

// AllCaps is every capability that has a name here.
var AllCaps = Caps(1)<<len(known) - 1

// Names lists the set's members in the kernel's order. One that is newer than
// this program is called by its number.
func (c Caps) Names() []string {
	var names []string
	for n := range 64 {
		switch {
		case c&(1<<n) == 0:
		case n < len(known):
			names = append(names, known[n].String()) // as lxc.cap.drop wants it
		default:
			names = append(names, strconv.Itoa(n))
		}
	}
	return names
}

// Has reports whether the named capability, such as "sys_admin", is in the set.
func (c Caps) Has(name string) bool {
	n := slices.IndexFunc(known, func(k capability.Cap) bool { return k.String() == name })
	return n >= 0 && c&(1<<n) != 0
}

// Privileges is what /proc/PID/status says of what a process may do.
type Privileges struct {
	Inheritable, Permitted, Effective, Bounding, Ambient Caps

	NoNewPrivs bool // execve can't add privileges: prctl(2)
	Seccomp    int  // 0: off, 1: strict, 2: filtered
}

// ReadPrivileges reads the privileges of a process.
func ReadPrivileges(pid int) (Privileges, error) {
	data, _, err := readRegular(proc(pid, "status"), fileLimit)
	if err != nil {
		return Privileges{}, fmt.Errorf("read privileges of process %d: %w", pid, err)
	}
	return parsePrivileges(string(data))
}

// parsePrivileges picks the fields out of a proc_pid_status(5). One that an old
// kernel doesn't have stays 0.
func parsePrivileges(status string) (Privileges, error) {
	var p Privileges
	sets := map[string]*Caps{
		"CapInh": &p.Inheritable, "CapPrm": &p.Permitted, "CapEff": &p.Effective,
		"CapBnd": &p.Bounding, "CapAmb": &p.Ambient,
	}
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		var err error
		switch {
		case sets[name] != nil:
			var bits uint64
			bits, err = strconv.ParseUint(value, 16, 64)
			*sets[name] = Caps(bits)
		case name == "NoNewPrivs":
			p.NoNewPrivs = value != "0"
		case name == "Seccomp":
			p.Seccomp, err = strconv.Atoi(value)
		}
		if err != nil {
			return Privileges{}, fmt.Errorf("parse status line %q: %w", name, err)
		}
	}
	return p, nil
}

// Capabilities is a process's capability sets, as numbers and by the names that
// are kept (effective) and dropped (not even in the bounding set, so that no
// program it ever executes gets them back), its no_new_privs and its seccomp.
func Capabilities(pid int) trace.Evidence {
	ev := trace.Evidence{Kind: "privileges", From: proc(pid, "status")}
	p, err := ReadPrivileges(pid)
	switch {
	case err != nil && gone(err):
		ev.Text = ended(pid)
	case err != nil:
		ev.Text = unreadable(err)
	default:
		ev.Text = p.text()
	}
	return ev
}

func (p Privileges) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "CapEff: %016x\n", uint64(p.Effective))
	names(&b, "kept", p.Effective)
	fmt.Fprintf(&b, "CapBnd: %016x\n", uint64(p.Bounding))
	names(&b, "dropped", AllCaps&^p.Bounding)
	fmt.Fprintf(&b, "CapPrm: %016x  CapInh: %016x  CapAmb: %016x\n",
		uint64(p.Permitted), uint64(p.Inheritable), uint64(p.Ambient))
	nnp := 0
	if p.NoNewPrivs {
		nnp = 1
	}
	fmt.Fprintf(&b, "NoNewPrivs: %d\n", nnp)
	mode := map[int]string{0: "off", 1: "strict", 2: "filtered"}[p.Seccomp]
	fmt.Fprintf(&b, "Seccomp: %d (%s)\n", p.Seccomp, mode)
	return b.String()
}

// names writes the set below a heading, in lines that fit an indented terminal.
func names(b *strings.Builder, heading string, set Caps) {
	const width = 64
	all := set.Names()
	fmt.Fprintf(b, "  %s (%d):", heading, len(all))
	column := 0
	for _, name := range all {
		if column+len(name) > width || column == 0 {
			b.WriteString("\n    ")
			column = 0
		} else {
			b.WriteByte(' ')
		}
		b.WriteString(name)
		column += len(name) + 1
	}
	b.WriteByte('\n')
}
