package cgroups

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// On v2 there is no file for devices: the kernel asks a BPF program before each
// open and mknod of a device by a process of the cgroup (cgroup-v2.rst, "Device
// controller").

// deviceProgram does what v1's devices.allow and devices.deny do with the same
// rules. Rule by rule it keeps in R0 what may be done with the one device that is
// asked for, nothing at first; at the end it answers 1 when all that is asked is
// in that.
func deviceProgram(rules []specs.LinuxDeviceCgroup) (asm.Instructions, error) {
	// struct bpf_cgroup_dev_ctx { access_type, major, minor } (linux/bpf.h);
	// access_type is the type in the lower half, what is asked in the upper.
	p := asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Half),
		asm.LoadMem(asm.R3, asm.R1, 0, asm.Word),
		asm.RSh.Imm32(asm.R3, 16),
		asm.LoadMem(asm.R4, asm.R1, 4, asm.Word),
		asm.LoadMem(asm.R5, asm.R1, 8, asm.Word),
		asm.Mov.Imm32(asm.R0, 0),
	}
	here := "" // the label of what comes next
	add := func(i asm.Instruction) {
		if here != "" {
			i, here = i.WithSymbol(here), ""
		}
		p = append(p, i)
	}
	for n, rule := range rules {
		access, err := accessBits(rule.Access)
		if err != nil {
			return nil, err
		}
		next := fmt.Sprintf("rule %d", n+1)
		switch rule.Type {
		case "c":
			add(asm.JNE.Imm(asm.R2, unix.BPF_DEVCG_DEV_CHAR, next))
		case "b":
			add(asm.JNE.Imm(asm.R2, unix.BPF_DEVCG_DEV_BLOCK, next))
		case "", "a":
		default:
			return nil, fmt.Errorf("no such type of device: %q", rule.Type)
		}
		if rule.Major != nil && *rule.Major >= 0 {
			add(asm.JNE.Imm(asm.R4, int32(*rule.Major), next))
		}
		if rule.Minor != nil && *rule.Minor >= 0 {
			add(asm.JNE.Imm(asm.R5, int32(*rule.Minor), next))
		}
		if rule.Allow {
			add(asm.Or.Imm32(asm.R0, access))
		} else {
			add(asm.And.Imm32(asm.R0, ^access))
		}
		here = next
	}
	add(asm.And.Reg32(asm.R0, asm.R3))
	add(asm.JEq.Reg(asm.R0, asm.R3, "yes"))
	add(asm.Mov.Imm32(asm.R0, 0))
	add(asm.Return())
	add(asm.Mov.Imm32(asm.R0, 1).WithSymbol("yes"))
	add(asm.Return())
	return p, nil
}

func accessBits(access string) (bits int32, err error) {
	for _, c := range access {
		i := strings.IndexRune("mrw", c) // BPF_DEVCG_ACC_MKNOD, _READ, _WRITE
		if i < 0 {
			return 0, fmt.Errorf("access %q to a device: say r, w and m", access)
		}
		bits |= 1 << i
	}
	if access == "" {
		bits = unix.BPF_DEVCG_ACC_MKNOD | unix.BPF_DEVCG_ACC_READ | unix.BPF_DEVCG_ACC_WRITE
	}
	return bits, nil
}

// allowDevices makes rules hold in the cgroup whose folder is open as dir. They
// hold beside those of the cgroups above: all must say yes.
func allowDevices(dir int, rules []specs.LinuxDeviceCgroup) error {
	instructions, err := deviceProgram(rules)
	if err != nil {
		return err
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.CGroupDevice, Instructions: instructions, License: "Apache-2.0"})
	if err != nil {
		return fmt.Errorf("load a BPF program: %w", err)
	}
	// From here on it is the cgroup that keeps the program.
	return errors.Join(link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: dir, Program: program, Attach: ebpf.AttachCGroupDevice, Flags: unix.BPF_F_ALLOW_MULTI,
	}), program.Close())
}
