package native

import (
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A namespace made before is a new one, and we have stayed in ours.
func TestNewNet(t *testing.T) {
	inode := func(fd int) uint64 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	ours, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	n := newNets(slog.New(slog.DiscardHandler))
	defer func() {
		if err := n.close(); err != nil {
			t.Error(err)
		}
	}()
	if fd := n.take(); fd != -1 {
		t.Fatal("one is there that nobody wanted")
	}
	if fd, err := newNet(); errors.Is(err, unix.EPERM) {
		t.Skip("SKIP: network namespaces need root")
	} else if err != nil {
		t.Fatal(err)
	} else {
		_ = unix.Close(fd)
	}
	seen := map[uint64]bool{inode(int(ours.Fd())): true}
	for range 2 * spares {
		n.want()
		fd := -1
		for range 500 {
			if fd = n.take(); fd >= 0 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if fd < 0 {
			t.Fatal("none was made")
		}
		if seen[inode(fd)] {
			t.Error("it isn't new")
		}
		seen[inode(fd)] = true
		defer unix.Close(fd)
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		f, err := os.Open("/proc/self/task/" + task.Name() + "/ns/net")
		if err != nil {
			continue // it has ended
		}
		if inode(int(f.Fd())) != inode(int(ours.Fd())) {
			t.Error("a thread is left in another network namespace")
		}
		f.Close()
	}
}
