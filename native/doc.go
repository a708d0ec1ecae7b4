// Package native is the modern runtime: the same container from the same record,
// made with the kernel of today and nothing of LXC.
//
//	record ─ociconfig─▶ bundle/config.json ─compile─▶ a program of system calls
//	                                                  │
//	daemon ── cgroups ── the program, descriptors ──▶ shim ── clone3 ──▶ container
//
// [Runtime] is container.Runtime. The program (compile.go, mounts.go, process.go) reads
// in the order in which the kernel needs it, and writer.go is how it is written down;
// package launch runs it in a new process; the process's parent is a shim (package
// shim), which outlives the daemon. Package oci makes containers of other people's
// configurations in the same way, for other engines.
package native
