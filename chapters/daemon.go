package chapters

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"docker2013/cli2013"
)

// Where a daemon that the course starts has its data, unless $DOCKER2013_ROOT says so:
// the place of 2013, or, where a modern Docker lives there, the one beside it.
const (
	root2013 = "/var/lib/docker"
	rootElse = "/var/lib/docker2013"
)

// Names below the root of a daemon that the course has started.
const (
	pidFile = "course.pid"
	logFile = "course.log"
)

// modern are the names by which the daemon knows a later Docker's data.
var modern = []string{"overlay2", "image", "containerd", "buildkit", "volumes", "network", "swarm", "engine-id", "repositories-aufs", "linkgraph.db"}

// daemonRoot is where the course's own daemon has its data.
func daemonRoot() string {
	if root := os.Getenv("DOCKER2013_ROOT"); root != "" {
		return root
	}
	for _, name := range modern {
		if exists(filepath.Join(root2013, name)) {
			return rootElse
		}
	}
	return root2013
}

// answers reports whether anybody listens at an address for calls.
func answers(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, 2*time.Second)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// Have connects to the daemon at an address. If there is none it starts one, and says
// so; it needs root, and stays until [Host.Cleanup].
func Have(ctx context.Context, addr, bin string, say func(string)) (*Host, error) {
	if strings.HasPrefix(addr, "unix:") {
		return nil, fmt.Errorf("the course shows the wire of 2013 and needs the daemon's TCP address, not %s: DOCKER=127.0.0.1:4242", addr)
	}
	h, err := Connect(ctx, addr, bin)
	if err == nil || answers(addr) {
		return h, err
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("no daemon at %s, and starting one needs root: sudo -E env PATH=$PATH docker2013 learn", addr)
	}
	if addr != cli2013.DefaultAddr && os.Getenv("DOCKER2013_ROOT") == "" { // mistyped, perhaps
		return nil, fmt.Errorf("no daemon at %s: start it; or unset DOCKER, and the course starts one of its own at %s", addr, cli2013.DefaultAddr)
	}
	root := daemonRoot()
	if err := startDaemon(ctx, addr, bin, root); err != nil {
		return nil, err
	}
	say(fmt.Sprintf("started dockerd2013 at %s: data in %s, log in %s; docker2013 cleanup ends it", addr, root, filepath.Join(root, logFile)))
	return Connect(ctx, addr, bin)
}

// Answers reports whether the daemon is there.
func (h *Host) Answers() bool { return answers(h.Addr) }

// Revive makes sure that the daemon answers: one of the course's own that has ended is
// started again.
func (h *Host) Revive(ctx context.Context) (revived bool, err error) {
	if h.Answers() {
		return false, nil
	}
	if !exists(filepath.Join(h.Root, pidFile)) {
		return false, fmt.Errorf("the daemon at %s doesn't answer any more: start it again, with --root %s", h.Addr, h.Root)
	}
	return true, startDaemon(ctx, h.Addr, h.Bin, h.Root)
}

func startDaemon(ctx context.Context, addr, bin, root string) error {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(root, logFile), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(bin, "dockerd2013"), "--root", root, "--tcp", addr, "--http", freeHTTP(),
		"--cgroup-parent", cmp.Or(os.Getenv("DOCKER2013_CGROUP"), "docker2013"), "--pidfile", filepath.Join(root, pidFile))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env, cmd.Dir = cleanEnv(), "/"
	cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives us and our terminal
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for range 200 {
		if _, err := (&Host{Addr: addr}).call(ctx, "version"); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), cmd.Process.Signal(syscall.SIGTERM))
		case err := <-ended:
			return fmt.Errorf("start the daemon: it ended (%w): %s; see docker2013 doctor", err, lastLine(log.Name()))
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("start the daemon: it doesn't answer at %s: see %s", addr, log.Name())
}

// freeHTTP is the address of 2013, or any where that one is taken.
func freeHTTP() string {
	addr := cmp.Or(os.Getenv("DOCKER2013_HTTP"), "127.0.0.1:8080")
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "127.0.0.1:0"
	}
	_ = l.Close()
	return addr
}

func lastLine(file string) string {
	all := strings.Split(strings.TrimSpace(content(file)), "\n")
	return all[len(all)-1]
}

// ownDaemon is the process of the daemon that the course has started on a root, 0: none.
func ownDaemon(root string) int {
	pid, err := strconv.Atoi(strings.TrimSpace(content(filepath.Join(root, pidFile))))
	if err != nil {
		return 0
	}
	// The number may have been given to another process meanwhile.
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err != nil || !strings.Contains(filepath.Base(exe), "dockerd2013") {
		return 0
	}
	return pid
}

// endDaemon ends it, and waits for that.
func endDaemon(root string) error {
	pid := ownDaemon(root)
	if pid == 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("end the daemon: %w", err)
	}
	defer unix.Close(fd)
	if ownDaemon(root) != pid {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0); err != nil {
		return fmt.Errorf("end the daemon: %w", err)
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 60_000)
	if err == nil && n == 0 {
		err = fmt.Errorf("process %d doesn't end: kill it, then docker2013 cleanup again", pid)
	}
	if err != nil {
		return fmt.Errorf("end the daemon: %w", err)
	}
	for _, name := range []string{pidFile, logFile} {
		if err := os.Remove(filepath.Join(root, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
