// Package launch starts a process by a program of system calls.
//
// What makes a process a container's is a list of system calls, in the order in
// which the kernel needs them. Here the list is data: package native writes it,
// this package hands it to a shim and runs it there, in a child that has been
// cloned into its new namespaces and has nothing else of a program left.
//
//	native (daemon) ── Program, descriptors ──▶ shim ── clone3 ──▶ child: call, call, …, execve
//	                                             ◀── which call failed, and how ── (a pipe, closed by execve)
//
// Between clone3 and execve there is no Go: no scheduler, no allocation, no second
// start of a runtime. The child only walks along an array (child.go).
package launch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"golang.org/x/sys/unix"
)

// Program is what a new process does until it executes its own program.
type Program struct {
	// Flags are clone3's: the namespaces that are new (clone(2)).
	Flags uint64
	// Into is the cgroup on v2 in which the process is born: the index of a
	// descriptor that goes with the program, -1: the parent's.
	Into int
	// PidNamespace is one that the process is born in: the index of a pidfd of
	// a process in it, or -1. (setns(2) with it is for children only.)
	PidNamespace int
	// Calls are made by the new process, one after the other.
	Calls []Call
}

// Call is one system call.
type Call struct {
	Name   string  // for people: "mount proc on /proc"
	Number uintptr // unix.SYS_…
	Args   []Arg   // at most 6
	// Keep gives the result a slot, 1 to MaxSlots; 0: it isn't needed.
	Keep int
	// Skip is how many of the next calls are left out if this one fails with
	// one of Ok. The failure is then none.
	Skip int
	Ok   []unix.Errno // at most 3
	// Fork says that the call is a clone(2): the child goes on with the calls
	// behind it and is what Run starts, the caller ends. (Who has joined a user
	// namespace can't be born in a PID namespace of it; his child can.)
	Fork bool
	// Jump is how many of the next calls are left out if this one succeeds.
	Jump int
}

// MaxSlots is how many results a program can keep.
const MaxSlots = 250

// Arg is an argument of a call.
type Arg struct {
	kind   argKind
	number uint64
	bytes  []byte
	list   [][]byte
}

type argKind byte

const (
	kindNumber argKind = iota
	kindBytes          // a pointer to bytes
	kindList           // a pointer to a NULL-terminated array of strings
	kindFilter         // a pointer to a struct sock_fprog over the bytes
	kindSlot           // the result of an earlier call
	kindFile           // a descriptor that goes with the program, by its index
)

// Number is a number, as it is.
func Number[T ~int | ~int32 | ~int64 | ~uint | ~uint32 | ~uint64 | ~uintptr](n T) Arg {
	return Arg{kind: kindNumber, number: uint64(n)}
}

// String is a pointer to a NUL-terminated string.
func String(s string) Arg { return Arg{kind: kindBytes, bytes: append([]byte(s), 0)} }

// Bytes is a pointer to a buffer.
func Bytes(b []byte) Arg { return Arg{kind: kindBytes, bytes: b} }

// Strings is an argv or an envp.
func Strings(list []string) Arg {
	a := Arg{kind: kindList}
	for _, s := range list {
		a.list = append(a.list, append([]byte(s), 0))
	}
	return a
}

// Filter is a BPF program, an array of struct sock_filter, as seccomp(2) wants it.
func Filter(bpf []byte) Arg { return Arg{kind: kindFilter, bytes: bpf} }

// Slot is the result that an earlier call kept.
func Slot(n int) Arg { return Arg{kind: kindSlot, number: uint64(n)} }

// IsSlot tells that the argument is a result.
func (a Arg) IsSlot() bool { return a.kind == kindSlot }

// Slot is the number of the slot that the argument is.
func (a Arg) Slot() int { return int(a.number) }

// File is a descriptor that goes with the program.
func File(index int) Arg { return Arg{kind: kindFile, number: uint64(index)} }

// Encode writes the program as bytes. The format is between a daemon and the shim
// that it starts: it needn't last.
func (p *Program) Encode() []byte {
	e := encoder{make([]byte, 0, 32<<10)} // most are shorter
	e.uint(p.Flags)
	e.uint(uint64(p.Into + 1))
	e.uint(uint64(p.PidNamespace + 1))
	e.uint(uint64(len(p.Calls)))
	for i := range p.Calls {
		c := &p.Calls[i]
		e.string(c.Name)
		e.uint(uint64(c.Number))
		e.uint(uint64(c.Keep))
		e.uint(uint64(c.Skip))
		e.uint(uint64(c.Jump))
		e.bool(c.Fork)
		e.uint(uint64(len(c.Ok)))
		for _, errno := range c.Ok {
			e.uint(uint64(errno))
		}
		e.uint(uint64(len(c.Args)))
		for _, a := range c.Args {
			e.b = append(e.b, byte(a.kind))
			switch a.kind {
			case kindBytes, kindFilter:
				e.bytes(a.bytes)
			case kindList:
				e.uint(uint64(len(a.list)))
				for _, s := range a.list {
					e.bytes(s)
				}
			default:
				e.uint(a.number)
			}
		}
	}
	return e.b
}

type encoder struct{ b []byte }

func (e *encoder) uint(n uint64) { e.b = binary.AppendUvarint(e.b, n) }

func (e *encoder) bool(b bool) {
	if b {
		e.uint(1)
	} else {
		e.uint(0)
	}
}

func (e *encoder) string(s string) {
	e.uint(uint64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) bytes(b []byte) {
	e.uint(uint64(len(b)))
	e.b = append(e.b, b...)
}

var errBadProgram = errors.New("not a program of system calls")

// Decode reads what Encode wrote.
func Decode(data []byte) (*Program, error) {
	d := decoder{b: data}
	p := &Program{Flags: d.uint(math.MaxUint64), Into: int(d.uint(1<<16)) - 1, PidNamespace: int(d.uint(1<<16)) - 1}
	p.Calls = make([]Call, d.uint(1<<16))
	for i := range p.Calls {
		c := &p.Calls[i]
		c.Name = string(d.bytes())
		c.Number = uintptr(d.uint(1 << 16))
		c.Keep = int(d.uint(MaxSlots))
		c.Skip = int(d.uint(1 << 16))
		c.Jump = int(d.uint(1 << 16))
		c.Fork = d.uint(1) == 1
		c.Ok = make([]unix.Errno, d.uint(3))
		for j := range c.Ok {
			c.Ok[j] = unix.Errno(d.uint(4095))
		}
		c.Args = make([]Arg, d.uint(6))
		for j := range c.Args {
			a := Arg{kind: argKind(d.byte())}
			switch a.kind {
			case kindBytes, kindFilter:
				a.bytes = d.bytes()
			case kindList:
				a.list = make([][]byte, d.uint(1<<20))
				for k := range a.list {
					a.list[k] = d.bytes()
				}
			case kindNumber, kindSlot, kindFile:
				a.number = d.uint(math.MaxUint64)
			default:
				d.err = errBadProgram
			}
			c.Args[j] = a
		}
		if d.err != nil {
			return nil, d.err
		}
	}
	if d.err == nil && len(d.b) > 0 {
		d.err = errBadProgram
	}
	return p, d.err
}

// decoder reads from b until the first error, and zeroes after it.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) uint(most uint64) uint64 {
	n, size := binary.Uvarint(d.b)
	if size <= 0 || n > most {
		d.err = errors.Join(d.err, errBadProgram, io.ErrUnexpectedEOF)
		d.b = nil
		return 0
	}
	d.b = d.b[size:]
	return n
}

func (d *decoder) bytes() []byte {
	n := d.uint(uint64(len(d.b)))
	if n > uint64(len(d.b)) {
		d.err = errBadProgram
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.err = errBadProgram
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

// Failure is the call that failed.
type Failure struct {
	Call  string // its name
	Errno unix.Errno
}

func (f *Failure) Error() string { return fmt.Sprintf("%s: %v", f.Call, f.Errno) }
func (f *Failure) Unwrap() error { return f.Errno }
