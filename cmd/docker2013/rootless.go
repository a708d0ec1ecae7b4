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
	if answers(socket) {
		return socket, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return "", fmt.Errorf("--rootless: %w", err)
	}
	log, err := os.Create(filepath.Join(root, "daemon.log"))
	if err != nil {
		return "", fmt.Errorf("--rootless: %w", err)
	}
	defer log.Close() // the daemon writes it
	daemon := exec.Command(filepath.Join(filepath.Dir(self), "dockerd2013"), "--rootless", "--root", root)
	daemon.Stdout, daemon.Stderr, daemon.Dir = log, log, "/"
	daemon.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := daemon.Start(); err != nil {
		return "", fmt.Errorf("--rootless: start the daemon: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- daemon.Wait() }()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if answers(socket) {
			return socket, nil
		}
		select {
		case <-ended:
			text, _ := os.ReadFile(log.Name())
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			return "", fmt.Errorf("--rootless: the daemon has ended: %s", lines[len(lines)-1])
		default:
		}
	}
	return "", fmt.Errorf("--rootless: the daemon doesn't answer: see %s", log.Name())
}

func answers(socket string) bool {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}
