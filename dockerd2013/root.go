package dockerd2013

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// modern are names that a Docker of after 2013 leaves in its data directory.
var modern = []string{"overlay2", "image", "containerd", "buildkit", "volumes", "network", "swarm", "engine-id", "repositories-aufs", "linkgraph.db"}

// Root is a data directory that one daemon has to itself.
type Root struct {
	Dir  string
	lock *os.File
}

// OpenRoot makes the directory if need be and locks it. It refuses one that
// holds a modern Docker's data: two engines on one directory destroy each other's.
func OpenRoot(dir string) (*Root, error) {
	if !filepath.IsAbs(dir) || strings.ContainsAny(dir, "\n\r\x00") {
		return nil, fmt.Errorf("--root %q: say an absolute path", dir)
	}
	dir = filepath.Clean(dir)
	for _, name := range modern {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return nil, fmt.Errorf("%s holds a modern Docker's data (%s): leave it alone and use --root /var/lib/docker2013", dir, name)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open root: %w", err)
	}
	// A link would give the mounts two names, of which the kernel tells one.
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, fmt.Errorf("open root: %w", err)
	}
	// The lock goes with the process, however it ends (flock(2)).
	lock, err := os.OpenFile(filepath.Join(real, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open root: %w", err)
	}
	if err := tryLock(lock); err != nil {
		owner, _ := os.ReadFile(lock.Name())
		_ = lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s belongs to another dockerd2013, PID %s: stop it first, or use another --root", dir, strings.TrimSpace(string(owner)))
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	err = lock.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintln(lock, os.Getpid())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), lock.Close())
	}
	return &Root{Dir: real, lock: lock}, nil
}

// tryLock waits a moment: a child that a killed daemon has just forked has the lock
// too, until it executes its program.
func tryLock(f *os.File) error {
	for deadline := time.Now().Add(time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			return err
		}
	}
}

// Close lets another daemon have the directory.
func (r *Root) Close() error { return r.lock.Close() }
