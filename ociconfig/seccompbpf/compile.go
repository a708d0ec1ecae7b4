// Package seccompbpf compiles a seccomp profile to the program that seccomp(2)
// takes, with libseccomp. It is a package of its own because that needs cgo.
package seccompbpf

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	libseccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

// Compiler compiles profiles. It remembers them: compiling the default one takes
// milliseconds, and most containers have it. Its zero value is ready for use.
type Compiler struct {
	mu   sync.Mutex
	done map[string][]byte // by the profile's JSON

	last    *specs.LinuxSeccomp
	program []byte // of last
}

// Compile returns the program, an array of struct sock_filter; nil for nil. A profile
// that was compiled isn't changed any more.
func (c *Compiler) Compile(p *specs.LinuxSeccomp) ([]byte, error) {
	if p == nil {
		return nil, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p == c.last {
		return c.program, nil
	}
	key, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("compile seccomp filter: %w", err)
	}
	program, ok := c.done[string(key)]
	if !ok {
		if program, err = compile(p); err != nil {
			return nil, fmt.Errorf("compile seccomp filter: %w", err)
		}
		if c.done == nil || len(c.done) > 100 { // as many users' own profiles
			c.done = map[string][]byte{}
		}
		c.done[string(key)] = program
	}
	c.last, c.program = p, program
	return program, nil
}

var actions = map[specs.LinuxSeccompAction]libseccomp.ScmpAction{
	specs.ActKill: libseccomp.ActKillThread, specs.ActKillProcess: libseccomp.ActKillProcess, specs.ActKillThread: libseccomp.ActKillThread,
	specs.ActTrap: libseccomp.ActTrap, specs.ActErrno: libseccomp.ActErrno, specs.ActTrace: libseccomp.ActTrace,
	specs.ActAllow: libseccomp.ActAllow, specs.ActLog: libseccomp.ActLog,
}

// Actions are those that a profile can have, sorted.
func Actions() []string { return names(actions) }

// Operators are those that a condition can have, sorted.
func Operators() []string { return names(operators) }

func names[K ~string, V any](m map[K]V) (list []string) {
	for k := range m {
		list = append(list, string(k))
	}
	slices.Sort(list)
	return list
}

func action(a specs.LinuxSeccompAction, errno *uint) (libseccomp.ScmpAction, error) {
	x, ok := actions[a]
	if !ok {
		return 0, fmt.Errorf("action %s is not supported", a)
	}
	if a == specs.ActErrno || a == specs.ActTrace {
		code := uint(unix.EPERM)
		if errno != nil {
			code = *errno
		}
		x = x.SetReturnCode(int16(code))
	}
	return x, nil
}

var operators = map[specs.LinuxSeccompOperator]libseccomp.ScmpCompareOp{
	specs.OpNotEqual: libseccomp.CompareNotEqual, specs.OpLessThan: libseccomp.CompareLess, specs.OpLessEqual: libseccomp.CompareLessOrEqual,
	specs.OpEqualTo: libseccomp.CompareEqual, specs.OpGreaterEqual: libseccomp.CompareGreaterEqual, specs.OpGreaterThan: libseccomp.CompareGreater,
	specs.OpMaskedEqual: libseccomp.CompareMaskedEqual,
}

func compile(p *specs.LinuxSeccomp) ([]byte, error) {
	def, err := action(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	f, err := libseccomp.NewFilter(def)
	if err != nil {
		return nil, err
	}
	defer f.Release()
	if err := f.SetNoNewPrivsBit(false); err != nil {
		return nil, err
	}
	// As a binary tree: the kernel tries every system call's number when the
	// filter is loaded (kernel/seccomp.c, seccomp_cache_prepare), and a list of
	// 400 comparisons makes that most of a millisecond.
	if err := f.SetOptimize(2); err != nil {
		return nil, err
	}
	for _, a := range p.Architectures {
		arch, err := libseccomp.GetArchFromString(string(a)[len("SCMP_ARCH_"):])
		if err != nil {
			continue // one that this library doesn't know
		}
		if err := f.AddArch(arch); err != nil {
			return nil, fmt.Errorf("%s: %w", a, err)
		}
	}
	for _, rule := range p.Syscalls {
		do, err := action(rule.Action, rule.ErrnoRet)
		if err != nil {
			return nil, err
		}
		if do == def {
			continue // libseccomp refuses what changes nothing
		}
		for _, name := range rule.Names {
			nr, err := libseccomp.GetSyscallFromName(name)
			if err != nil {
				continue // newer than this library: the default action holds
			}
			if err := add(f, nr, do, rule.Args); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return export(f)
}

func add(f *libseccomp.ScmpFilter, nr libseccomp.ScmpSyscall, do libseccomp.ScmpAction, args []specs.LinuxSeccompArg) error {
	if len(args) == 0 {
		return f.AddRule(nr, do)
	}
	var conditions []libseccomp.ScmpCondition
	seen := map[uint]bool{}
	twice := false
	for _, a := range args {
		op, ok := operators[a.Op]
		if !ok {
			return fmt.Errorf("operator %s is not supported", a.Op)
		}
		values := []uint64{a.Value}
		if a.Op == specs.OpMaskedEqual {
			values = append(values, a.ValueTwo)
		}
		c, err := libseccomp.MakeCondition(a.Index, op, values...)
		if err != nil {
			return err
		}
		conditions = append(conditions, c)
		twice = twice || seen[a.Index]
		seen[a.Index] = true
	}
	if !twice {
		return f.AddRuleConditional(nr, do, conditions)
	}
	// Two conditions on one argument mean either of them, as in runc.
	for _, c := range conditions {
		if err := f.AddRuleConditional(nr, do, []libseccomp.ScmpCondition{c}); err != nil {
			return err
		}
	}
	return nil
}

// export reads the program that libseccomp writes to a file.
func export(f *libseccomp.ScmpFilter) (_ []byte, err error) {
	fd, err := unix.MemfdCreate("seccomp", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "seccomp")
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := f.ExportBPF(file); err != nil {
		return nil, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(file)
}
