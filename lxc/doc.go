// Package lxc is the classic runtime: it describes a container in config.lxc and
// runs lxc-start on it, as Docker did in January 2013.
//
//	Configure   template + record ──▶ config.lxc         (template.go, limits.go)
//	Start       exec lxc-start -n ID -f config.lxc -F …  (start.go)
//	monitor     what lxc-start tells: running, ended     (monitor.go)
//	process     what the 2013 helper programs did        (process.go)
//	exec        a further program inside                 (exec.go)
//
// lxc-start makes the namespaces, mounts, cgroups and capabilities; liblxc (by
// github.com/lxc/go-lxc) answers for the rest: the first process's PID,
// freezing, attaching, accounting.
//
// # The exit status
//
// The lxc-start of 2013 exited with its container's status; today's exits with
// 0. But it still reports to lxc-monitor, through a named pipe, how the first
// process ended. So we are the one who listens there. See monitor.go.
//
// # Who owns what
//
// The LXC path (-P) is the folder of the containers, so that two daemons don't
// see each other's. Below it liblxc names an abstract socket ID/command for
// each container. The cgroups are docker2013/ID (the container),
// docker2013/ID.monitor (lxc-start) and docker2013/pivot (where lxc-start goes
// to remove its own), in every hierarchy; LXC removes the first two, Close and
// Adopt what LXC left.
package lxc
