// Package container is a container's record, state and life: created, started,
// watched, cleaned up. How its root file system is put together is a [Union]'s
// matter, and how its process is isolated a [Runtime]'s: the two interfaces this
// package needs and doesn't implement.
//
// # On disk
//
// Everything of a container is in one folder, mode 0700, below containers/:
//
//	config.json      the record: a Container's JSON (as in 2013, with fields more)
//	userdata.json    {"image": IMAGE ID, "comment": TEXT}
//	config.lxc       the classic runtime's description of it
//	rootfs/          the union mount's target, there only while it is mounted
//	rw/              the read-write branch
//	stdout, stderr   what the container wrote (with a terminal: all in stdout)
//	*.pipe           the named pipes it writes to while it runs
//
// # Life
//
//	Create ── Start ──▶ running ──▶ ended ── Start ──▶ running …
//	                      │  ▲
//	                Pause ▼  │ Unpause
//	                     paused
//
// # Invariants
//
//   - State is only changed under the container's lock, and every change is in
//     config.json (atomically) before anybody is told of it: see save.go. But for
//     one, which the next daemon finds out by itself: that the container runs.
//   - One goroutine, monitor, ends a run: it waits for the process, then for the
//     last byte of output, unmounts, cleans up, and only then is the container
//     "not running". So whoever saw Wait return can remove it or start it again.
//   - A run belongs to the container, not to the call that started it: a client
//     that goes away ends nothing.
//   - Output goes from a named pipe to a file as it comes. The container holds
//     both ends of its pipe, so a daemon that dies costs it no SIGPIPE; the next
//     daemon opens the pipe by its name and goes on where the file ends.
package container
