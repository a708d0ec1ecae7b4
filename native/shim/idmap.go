package shim

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"docker2013/native/launch"
)

// IDMap is a user namespace's.
type IDMap struct {
	UIDs, GIDs  string // for /proc/PID/uid_map and gid_map: INSIDE OUTSIDE COUNT, a line a range
	User, Group uint32 // on the host: whom the program's streams belong to

	// What no process of the namespace may set for itself.
	Limits      []Limit
	OOMScoreAdj *int
}

// Limit is a resource limit, by its number for prlimit(2).
type Limit struct {
	Name   string // for people: "set the limit RLIMIT_NOFILE"
	Number int
	Hard   uint64
}

// Raise raises a process's hard limit, and lowers none: the process itself does the
// rest, when it has no more files to open. 0: ours, which our children inherit.
func (l Limit) Raise(pid int) error {
	var now unix.Rlimit
	err := unix.Prlimit(pid, l.Number, nil, &now)
	if err == nil && l.Hard > now.Max {
		now.Max = l.Hard
		err = unix.Prlimit(pid, l.Number, &now, nil)
	}
	if err != nil {
		return failed(l.Name, err)
	}
	return nil
}

// failed is a failure like that of one of the program's calls.
func failed(call string, err error) error {
	errno, _ := errors.AsType[unix.Errno](err)
	return &launch.Failure{Call: call, Errno: errno}
}

// IDMapper tells a new process when its ids are mapped, which only somebody outside
// can do for more than one (user_namespaces(7)).
//
//	shim                       child
//	                             read(pipe)
//	── uid_map, gid_map ──▶
//	── a byte ──────────────────▶
//
// Its zero value maps nothing.
type IDMapper struct {
	ids   *IDMap
	child int // the child's end
	ours  int
}

// NewIDMapper is for these ids; nil: it maps nothing.
func NewIDMapper(ids *IDMap) (*IDMapper, error) {
	if ids == nil {
		return &IDMapper{}, nil
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("map ids: %w", err)
	}
	return &IDMapper{ids, p[0], p[1]}, nil
}

// Files go with the program: the child's end, and ours, which it closes; or none.
func (m *IDMapper) Files() []int {
	if m.ids == nil {
		return nil
	}
	return []int{m.child, m.ours}
}

// Write maps the ids of a process, and lets it go on.
func (m *IDMapper) Write(pid int) error {
	if m.ids == nil {
		return nil
	}
	defer CloseAll([]int{m.child, m.ours})
	for _, l := range m.ids.Limits {
		if err := l.Raise(pid); err != nil {
			return err
		}
	}
	if n := m.ids.OOMScoreAdj; n != nil {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), fmt.Append(nil, *n), 0); err != nil {
			return failed("set the OOM score", err)
		}
	}
	for _, f := range [][2]string{{"uid_map", m.ids.UIDs}, {"gid_map", m.ids.GIDs}} {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, f[0]), []byte(f[1]), 0); err != nil {
			return failed("map ids in "+f[0], err)
		}
	}
	_, err := unix.Write(m.ours, []byte{1})
	return err
}
