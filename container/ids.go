package container

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
)

// IDs is a range of user ids of the host, and the same of group ids. A container
// that has one calls First 0: its root is nobody outside, its files are shown to the
// host as First's and so on, and on the disk, in its layers and its read-write
// branch, they have the owners that it sees itself (user_namespaces(7)).
type IDs struct {
	First uint32
	Count uint32
}

// idsEach is how many a container gets: all that a passwd file knows, with nobody.
const idsEach = 1 << 16

// ParseIDs understands FIRST:COUNT.
func ParseIDs(s string) (IDs, error) {
	first, count, ok := strings.Cut(s, ":")
	f, ferr := strconv.ParseUint(first, 10, 32)
	n, nerr := strconv.ParseUint(count, 10, 32)
	switch {
	case !ok || ferr != nil || nerr != nil:
		return IDs{}, fmt.Errorf("%q: say FIRST:COUNT", s)
	case f < idsEach:
		return IDs{}, fmt.Errorf("%q: ids below %d are the host's own", s, idsEach)
	case n < idsEach || f+n > math.MaxUint32:
		return IDs{}, fmt.Errorf("%q: a container takes %d ids, and there are 2³²-1 in all", s, idsEach)
	}
	return IDs{uint32(f), uint32(n)}, nil
}

// String is FIRST:COUNT.
func (i IDs) String() string { return fmt.Sprintf("%d:%d", i.First, i.Count) }

// rootless: the ids are those of the daemon's own user namespace.
func (i IDs) rootless() bool { return i.First == 0 && i.Count > 0 }

// overlaps reports whether an id is in both.
func (i IDs) overlaps(j IDs) bool {
	return uint64(i.First) < uint64(j.First)+uint64(j.Count) && uint64(j.First) < uint64(i.First)+uint64(i.Count)
}

// idPool gives each container that wants one a range that no other has.
type idPool struct {
	mu    sync.Mutex
	all   IDs
	taken map[IDs]bool
}

func (p *idPool) take() (*IDs, error) {
	if p.all.rootless() {
		ids := p.all
		return &ids, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := uint32(0); n+idsEach <= p.all.Count; n += idsEach {
		if ids := (IDs{p.all.First + n, idsEach}); p.free(ids) {
			p.taken[ids] = true
			return &ids, nil
		}
	}
	return nil, fmt.Errorf("--userns auto: all of the daemon's --userns-range %s is taken: remove containers, or give it a larger one", p.all)
}

// free reports whether nobody has any of the ids; p.mu is held. A container that was
// made while the daemon's range was another may have a part of several of ours.
func (p *idPool) free(ids IDs) bool {
	if p.taken[ids] {
		return false
	}
	for other := range p.taken {
		if other.overlaps(ids) {
			return false
		}
	}
	return true
}

// keep takes the range of a container that had it before the daemon was started.
func (p *idPool) keep(ids *IDs) {
	if ids != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.taken[*ids] = true
	}
}

// release gives a range back.
func (p *idPool) release(ids *IDs) {
	if ids != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.taken, *ids)
	}
}
