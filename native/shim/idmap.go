package shim

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// IDMap is a user namespace's: its id 0 is First on the host, for Count ids, users
// and groups alike.
type IDMap struct {
	First, Count uint32
	User, Group  uint32 // on the host: whom the program's streams belong to
}

// idMapper tells a new process when its ids are mapped, which only somebody outside
// can do for more than one (user_namespaces(7)).
//
//	shim                       child
//	                             read(pipe)
//	── uid_map, gid_map ──▶
//	── a byte ──────────────────▶
//
// Its zero value maps nothing.
type idMapper struct {
	ids   *IDMap
	child int // the child's end
	ours  int
}

func newIDMapper(o StartOrder) (*idMapper, error) {
	if o.IDs == nil {
		return &idMapper{}, nil
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("map ids: %w", err)
	}
	return &idMapper{o.IDs, p[0], p[1]}, nil
}

// files go behind the standard streams.
func (m *idMapper) files() []int {
	if m.ids == nil {
		return nil
	}
	return []int{m.child}
}

// write maps the ids of a process, and lets it go on.
func (m *idMapper) write(pid int) error {
	if m.ids == nil {
		return nil
	}
	defer CloseAll([]int{m.child, m.ours})
	line := fmt.Appendf(nil, "0 %d %d\n", m.ids.First, m.ids.Count)
	for _, file := range []string{"uid_map", "gid_map"} {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, file), line, 0); err != nil {
			return fmt.Errorf("map ids: %w", err)
		}
	}
	_, err := unix.Write(m.ours, []byte{1})
	return err
}
