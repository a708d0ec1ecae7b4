package fusefs

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// Ready is what the process of a mount writes to its standard output when the union
// is mounted, on a line.
const Ready = "mounted"

// Main is the life of a mount's process:
//
//	docker2013-aufs DIR br:RW=rw:LAYER=ro:
//
//	who mounts                     this process                        kernel
//	  ── exec ──────────────────▶
//	                               ── lock RW, mount DIR ───────────▶
//	  ◀──────────── "mounted" ────
//	                               ◀─────────────────── requests ────
//	  ── umount DIR ────────────────────────────────────────────────▶
//	                               ◀──────────────────── no more ────
//	  ◀───── exit, lock is gone ──
//
// It belongs to the mount, not to who started it: it ends when DIR is unmounted
// everywhere, and signals that end programs don't end it.
func Main() {
	if err := serve(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "docker2013-aufs: %v\n", err)
		os.Exit(1)
	}
}

func serve(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: docker2013-aufs DIR br:RW=rw:LAYER=ro:")
	}
	debug.SetGCPercent(50) // there is one of us for each container
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE)
	unix.Umask(0) // each request brings its own
	paths, err := parseBranches(args[1])
	if err != nil {
		return err
	}
	u, err := open(paths)
	if err != nil {
		return err
	}
	server, err := u.mount(args[0])
	if err != nil {
		return errors.Join(err, u.close())
	}
	fmt.Println(Ready)
	os.Stdout.Close()
	server.Serve()
	return u.close()
}
