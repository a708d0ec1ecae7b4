package shim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"docker2013/native/launch"
)

// Other is another OCI runtime, which makes the container of a bundle in our place.
// Its container's first process becomes our child when the runtime exits: we are
// its subreaper (prctl(2)). From there on all is as with one that we have made.
//
//	shim                               runtime                      container
//	  ── create --bundle --pid-file ────▶ ── makes it ───────────────▶ waits
//	  ◀──────────── its exit; the child ──
//	  ── start ─────────────────────────▶ ───────────────────────────▶ its program
//	  ◀─────────────────────────────────────────────────── its status ──
//	  ── delete ────────────────────────▶
type Other struct {
	Path   string // the program, absolute
	Bundle string
	ID     string
}

// What it keeps in the container's folder.
const (
	otherState = "runtime"
	otherLog   = "runtime.log"
	otherPid   = "runtime.pid"
)

// create makes the container, and starts it.
func (o *Other) create(streams *streams, order StartOrder) (pid, pidfd int, err error) {
	dir := order.Dir
	if err := errors.Join(os.RemoveAll(filepath.Join(dir, otherState)), os.RemoveAll(filepath.Join(dir, otherLog))); err != nil {
		return 0, -1, err // of an earlier run that nobody has ended
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, -1, err
	}
	args := []string{"create", "--bundle", o.Bundle, "--pid-file", filepath.Join(dir, otherPid)}
	socket := -1
	if order.Terminal {
		var name string
		var folder int
		if socket, folder, name, err = listenForTerminal(dir); err != nil {
			return 0, -1, err
		}
		defer unix.Close(socket)
		defer unix.Close(folder)
		defer os.Remove(filepath.Join(dir, "console.sock"))
		args = append(args, "--console-socket", name)
		streams.closeChild() // those are for our own way
	}
	err = o.run(dir, streams.child, append(args, o.ID)...)
	streams.closeChild()
	if err != nil {
		return 0, -1, err
	}
	text, err := os.ReadFile(filepath.Join(dir, otherPid))
	if err == nil {
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	if err == nil {
		pidfd, err = unix.PidfdOpen(pid, 0)
	}
	if err != nil {
		return 0, -1, errors.Join(fmt.Errorf("find the container's process: %w", err), o.delete(dir))
	}
	if order.Terminal {
		err = streams.receiveTerminal(socket, order)
	}
	if err == nil {
		err = o.run(dir, nil, "start", o.ID)
	}
	if err != nil {
		err = errors.Join(err, o.delete(dir), unix.Close(pidfd))
		launch.Reap(pid)
		return 0, -1, err
	}
	return pid, pidfd, nil
}

// delete removes what is left of the container.
func (o *Other) delete(dir string) error {
	err := o.run(dir, nil, "delete", "--force", o.ID)
	for _, name := range []string{otherState, otherLog, otherPid} {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
	}
	return err
}

// run runs the runtime to its end. stdio nil: it has none.
func (o *Other) run(dir string, stdio []int, args ...string) error {
	if stdio == nil {
		null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(null)
		stdio = []int{null, null, null}
	}
	log := filepath.Join(dir, otherLog)
	argv := append([]string{o.Path, "--root", filepath.Join(dir, otherState), "--log", log, "--log-format", "json"}, args...)
	p := &launch.Program{Into: -1, PidNamespace: -1}
	for fd := range 3 {
		p.Calls = append(p.Calls, launch.Call{Name: "set up the standard streams", Number: unix.SYS_DUP3,
			Args: []launch.Arg{launch.File(fd), launch.Number(fd), launch.Number(0)}, Ok: []unix.Errno{unix.EINVAL}})
	}
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	p.Calls = append(p.Calls, launch.Call{Name: "execute " + o.Path, Number: unix.SYS_EXECVE,
		Args: []launch.Arg{launch.String(o.Path), launch.Strings(argv), launch.Strings(env)}})
	pid, pidfd, err := p.Run(stdio, nil)
	if err != nil {
		return err
	}
	_ = unix.Close(pidfd)
	status := launch.Reap(pid)
	if status == 0 {
		return nil
	}
	return fmt.Errorf("%s %s: %s", filepath.Base(o.Path), args[0], lastError(log, status))
}

// lastError is the last that the runtime has logged.
func lastError(log string, status unix.WaitStatus) string {
	data, _ := os.ReadFile(log) // none: the status
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	var entry struct{ Msg string }
	if json.Unmarshal(lines[len(lines)-1], &entry) == nil && entry.Msg != "" {
		return entry.Msg
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}

// listenForTerminal makes the socket to which the runtime sends the terminal. Its
// name leads through our own descriptor of the folder: a socket's path has 107 bytes.
func listenForTerminal(dir string) (fd, folder int, name string, err error) {
	folder, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, -1, "", err
	}
	name = fmt.Sprintf("/proc/%d/fd/%d/console.sock", os.Getpid(), folder)
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		_ = unix.Unlink(name) // of one that was killed
		if err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: name}), unix.Listen(fd, 1)); err != nil {
			_ = unix.Close(fd)
		}
	}
	if err != nil {
		return -1, -1, "", errors.Join(fmt.Errorf("make the console's socket: %w", err), unix.Close(folder))
	}
	return fd, folder, name, nil
}

// receiveTerminal takes the terminal's master side that another runtime has sent.
func (s *streams) receiveTerminal(socket int, o StartOrder) error {
	defer CloseAll(s.sync[:])
	if err := unix.SetNonblock(socket, true); err != nil { // it has sent, or it never will
		return err
	}
	conn, _, err := unix.Accept4(socket, unix.SOCK_CLOEXEC)
	if err != nil {
		return fmt.Errorf("receive the terminal: %w", err)
	}
	defer unix.Close(conn)
	buf, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(conn, buf, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return fmt.Errorf("receive the terminal: %w", err)
	}
	cmsgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(cmsgs) != 1 {
		return errors.New("receive the terminal: none came")
	}
	fds, err := unix.ParseUnixRights(&cmsgs[0])
	if err != nil || len(fds) != 1 {
		return errors.New("receive the terminal: none came")
	}
	s.ownTerminal(fds[0], o)
	return nil
}
