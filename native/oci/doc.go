// Package oci runs containers for others: the operations of the OCI runtime
// specification, as runc's command line has them, on our own program of system
// calls. podman, containerd and Docker call them through cmd/docker2013-oci.
//
// # State
//
//	ROOT/ID/             made by create, removed by delete
//	    state.json       Record, replaced by rename
//	    config.json      the configuration as create has read and completed it
//	    program          the program of system calls: it has the names of those that fail
//	    start.sock       the container's process listens here until it is started
//
// There is no daemon and no shim. The container's first process is a child of
// create, which exits; so it belongs to whoever is its subreaper (conmon,
// containerd-shim, the shell's init), who learns how it ends. start, delete and
// exec hold a lock (flock(2)) on the folder; create holds it until the container
// is made. One that died leaves a folder that `delete --force` removes, with the
// cgroup and whatever runs in it.
//
// # From create to start
//
// The process does everything but executing its program, and then waits in
// accept(2) on a socket that it was given: nothing is looked up for that in a
// root file system that isn't ours, and no /proc is needed. start connects, hears
// whether execve or a call before it has failed, and removes the socket (package
// native, wait).
package oci
