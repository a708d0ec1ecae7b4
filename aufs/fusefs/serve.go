package fusefs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// Order is what a waiting process is told: one line of JSON on its standard input.
type Order struct {
	Dir      string // to mount at
	Branches string // br:RW=rw:LAYER=ro:
	Log      string // a file for what goes wrong later
}

// Ready is the line that it answers on its standard output when the union is
// mounted. Another line says why it isn't.
const Ready = "mounted"

// Main is the life of a mount's process:
//
//	who mounts                    this process                        kernel
//	  ── exec ──────────────────▶
//	  ── Order ─────────────────▶
//	                              ── lock RW, mount DIR ───────────▶
//	  ◀──────────── "mounted" ────
//	                              ◀─────────────────── requests ────
//	  ── umount DIR ────────────────────────────────────────────────▶
//	                              ◀──────────────────── no more ────
//	  ◀───── exit, lock is gone ──
//
// By hand the order is on the command line: docker2013-aufs DIR br:RW=rw:LAYER=ro:
//
// Without an order it ends with who started it. With one it belongs to the mount: it
// ends when DIR is unmounted everywhere, and signals that end programs don't end it.
func Main() {
	debug.SetGCPercent(50) // there is one of us for each container
	// Few processors: a request is short, and what waits in the kernel needs none. More
	// wake each other in vain, which costs more than they do.
	runtime.GOMAXPROCS(max(1, min(4, runtime.NumCPU()/2)))
	if err := serve(os.Args[1:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func serve(args []string) error {
	order, err := readOrder(args)
	if err == io.EOF {
		return nil
	}
	if err != nil {
		return err
	}
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE)
	unix.Umask(0) // each request brings its own
	paths, err := parseBranches(order.Branches)
	if err != nil {
		return err
	}
	u, err := open(paths)
	if err != nil {
		return err
	}
	server, err := u.mount(order.Dir)
	if err != nil {
		return errors.Join(err, u.close())
	}
	fmt.Println(Ready)
	if len(args) == 0 { // who started us may be gone tomorrow
		if err := detach(order.Log); err != nil {
			return errors.Join(err, unix.Unmount(order.Dir, unix.MNT_DETACH))
		}
	}
	server.Serve()
	return u.close()
}

func readOrder(args []string) (o Order, err error) {
	switch len(args) {
	case 0:
		err = json.NewDecoder(os.Stdin).Decode(&o)
	case 2:
		o = Order{Dir: args[0], Branches: args[1]}
	default:
		err = errors.New("usage: docker2013-aufs DIR br:RW=rw:LAYER=ro")
	}
	return o, err
}

// detach gives up the standard streams, for a log.
func detach(log string) error {
	fd, err := unix.Open(log, unix.O_CREAT|unix.O_WRONLY|unix.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open log %s: %w", log, err)
	}
	for stream := range 3 {
		if err := unix.Dup3(fd, stream, 0); err != nil {
			return fmt.Errorf("redirect to %s: %w", log, err)
		}
	}
	return unix.Close(fd)
}
