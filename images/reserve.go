package images

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// A new index is written beside the old one, so on a full disk not even one with less
// in it could be: nobody could make room by removing an image. So the store keeps
// some room that only Remove may use.

// reserveSize is enough for an index of some thousand images.
const reserveSize = 1 << 20

// reserve keeps the room, where there is some. Without it rmi may fail on a full disk,
// and nothing else.
func (s *Store) reserve() {
	f, err := os.OpenFile(s.reserved, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, reserveSize)
	if errors.Join(err, f.Close()) != nil {
		_ = os.Remove(s.reserved)
	}
}

// updateWithLess is update for a change that takes images away.
func (s *Store) updateWithLess(change func(*index)) error {
	err := s.update(change)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		if os.Remove(s.reserved) == nil {
			err = s.update(change)
		}
	}
	return err
}
