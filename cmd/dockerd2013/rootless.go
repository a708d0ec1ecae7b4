package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"docker2013/container"
	"docker2013/dockerd2013"
)

// A daemon without root is root of a user namespace that it makes for itself, and in
// which it may mount and make namespaces as ever. What it may not: make cgroups, so
// there are no limits; and run LXC, so there is the modern path alone.
//
//	dockerd2013 --rootless          an ordinary user: waits, passes signals on
//	  └ dockerd2013 as rootlessWait in new user and mount namespaces, nobody in them yet
//	      ◀── newuidmap, newgidmap, or the user's own id alone; then a byte
//	    execve: dockerd2013 as rootlessName, root of the namespace
const (
	rootlessWait = "wait-for-ids"         // the first argument
	rootlessName = "dockerd2013-rootless" // argv[0]
)

// isInside tells that this process is the one in the namespaces.
func isInside() bool { return os.Args[0] == rootlessName }

// rootlessOutside starts the daemon in namespaces of its own, and waits for its end.
func rootlessOutside() error {
	if os.Geteuid() == 0 {
		return errors.New("--rootless is for ordinary users: you are root, leave it out")
	}
	uids, gids, why := subordinate()
	if why != "" {
		fmt.Fprintf(os.Stderr, "dockerd2013: containers have one user and one group, yours: %s\n", why)
	}
	ready, say, err := os.Pipe()
	if err != nil {
		return err
	}
	defer say.Close()
	cmd := exec.Command("/proc/self/exe", append([]string{rootlessWait}, os.Args[1:]...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdin, os.Stdout, os.Stderr, []*os.File{ready}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, Pdeathsig: unix.SIGTERM}
	if why != "" {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	signals := make(chan os.Signal, 10)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("make a user namespace: %w: this kernel may forbid it to ordinary users (sysctl kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)", err)
	}
	_ = ready.Close()
	if why == "" {
		if err := errors.Join(mapIDs("newuidmap", cmd.Process.Pid, os.Getuid(), uids), mapIDs("newgidmap", cmd.Process.Pid, os.Getgid(), gids)); err != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			return err
		}
	}
	if _, err := say.Write([]byte{1}); err != nil {
		return errors.Join(err, cmd.Wait())
	}
	go func() {
		for sig := range signals {
			_ = cmd.Process.Signal(sig)
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) { // it has said why
		os.Exit(exit.ExitCode())
	}
	return err
}

// subordinate are the ids that the system's administrator has given the user beside
// his own (subuid(5)), or why there are none.
func subordinate() (uids, gids container.IDs, why string) {
	for _, program := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(program); err != nil {
			return uids, gids, "there is no " + program + ": install the package uidmap"
		}
	}
	name := ""
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	for file, ids := range map[string]*container.IDs{"/etc/subuid": &uids, "/etc/subgid": &gids} {
		f, err := os.Open(file)
		if err != nil {
			return uids, gids, err.Error()
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			if who, ids2, ok := strings.Cut(s.Text(), ":"); ok && (who == name || who == strconv.Itoa(os.Getuid())) {
				if parsed, err := container.ParseIDs(ids2); err == nil {
					*ids = parsed
				}
			}
		}
		_ = f.Close() // only read
		if ids.Count == 0 {
			return uids, gids, fmt.Sprintf("%s has no line for you: let root run usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s", file, name)
		}
	}
	return uids, gids, ""
}

func mapIDs(program string, pid, own int, ids container.IDs) error {
	out, err := exec.Command(program, fmt.Sprint(pid), "0", fmt.Sprint(own), "1", "1", fmt.Sprint(ids.First), fmt.Sprint(ids.Count)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// rootlessInside waits until the ids are mapped: the program that is executed then is
// root's, and gets its capabilities (capabilities(7), "Capabilities and execution of
// programs by root").
func rootlessInside(args []string) error {
	f := os.NewFile(3, "ids")
	if n, err := f.Read(make([]byte, 1)); n != 1 {
		return fmt.Errorf("the ids were not mapped: %w", err)
	}
	_ = f.Close()
	return unix.Exec("/proc/self/exe", append([]string{rootlessName}, args...), os.Environ())
}

// ownIDs are those that the namespace we are in has, from 0 on.
func ownIDs() (ids container.IDs, err error) {
	data, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return ids, err
	}
	for line := range strings.Lines(string(data)) {
		var inside, outside, count uint32
		if n, _ := fmt.Sscan(line, &inside, &outside, &count); n == 3 && inside == ids.Count {
			ids.Count += count
		}
	}
	if ids.Count == 0 {
		return ids, errors.New("this user namespace has no root")
	}
	return ids, nil
}

// rootlessRoot is the user's own data directory.
func rootlessRoot() (string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("--rootless: %w: say --root", err)
	}
	return filepath.Join(cmp.Or(os.Getenv("XDG_DATA_HOME"), filepath.Join(home, ".local/share")), "docker2013"), nil
}

// rootlessListen listens on sockets in the data directory, to which nobody else comes:
// a port of the loopback interface would be everybody's on this host.
func rootlessListen(root string, log *slog.Logger) (web net.Listener, calls []net.Listener, err error) {
	socket, err := dockerd2013.ListenSocket(filepath.Join(root, "docker2013.sock"), log)
	if err != nil {
		return nil, nil, err
	}
	if web, err = dockerd2013.ListenSocket(filepath.Join(root, "http.sock"), log); err != nil {
		return nil, nil, errors.Join(err, socket.Close())
	}
	return web, []net.Listener{socket}, nil
}
