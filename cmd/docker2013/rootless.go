package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// rootlessDaemon makes sure that the user's own daemon runs, and says where it
// listens. It goes on when the command is over, as root's does.
func rootlessDaemon(getenv func(string) string) (socket string, err error) {
	data := cmp.Or(getenv("XDG_DATA_HOME"), filepath.Join(getenv("HOME"), ".local/share"))
	if !filepath.IsAbs(data) {
		return "", errors.New("--rootless: where is your home? Set HOME")
	}
	root := filepath.Join(data, "docker2013")
	socket = filepath.Join(root, "docker2013.sock")
	var ended <-chan error
	if !locked(filepath.Join(root, "lock")) {
		_ = os.Remove(socket) // of a daemon that was killed
		if ended, err = startDaemon(root); err != nil {
			return "", fmt.Errorf("--rootless: %w", err)
		}
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if conn, err := net.Dial("unix", socket); err == nil { // that it is there doesn't say that anybody listens yet
			return socket, conn.Close()
		}
		select {
		case <-ended:
			text, _ := os.ReadFile(filepath.Join(root, daemonLog))
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			return "", fmt.Errorf("--rootless: the daemon has ended: %s", lines[len(lines)-1])
		default:
		}
	}
	return "", fmt.Errorf("--rootless: the daemon doesn't answer: see %s", filepath.Join(root, daemonLog))
}

// locked tells whether a daemon has the data directory: it holds this file as long
// as it lives (flock(2)).
func locked(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close() // and the lock goes
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

const daemonLog = "daemon.log"

// startDaemon starts the daemon that is beside us, and tells when it has ended.
func startDaemon(root string) (<-chan error, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(root, daemonLog))
	if err != nil {
		return nil, err
	}
	defer log.Close() // the daemon writes it
	daemon := exec.Command(filepath.Join(filepath.Dir(self), "dockerd2013"), "--rootless", "--root", root)
	daemon.Stdout, daemon.Stderr, daemon.Dir = log, log, "/"
	daemon.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := daemon.Start(); err != nil {
		return nil, fmt.Errorf("start the daemon: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- daemon.Wait() }()
	return ended, nil
}
