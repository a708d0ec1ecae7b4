package container

import (
	"errors"
	"testing"
	"time"
)

// What may run and isn't ours to end or to watch is neither said to have ended nor
// started twice.
func TestNotAdopted(t *testing.T) {
	c := &Container{store: &Store{}, record: Record{State: State{Running: true}}}
	c.store.closing.Store(true) // nothing is saved
	if err := c.Stop(t.Context(), time.Second); !errors.Is(err, errNotAdopted) {
		t.Errorf("stop: %v", err)
	}
	if _, err := c.occupy(newRun(), byUser); !errors.Is(err, errNotAdopted) {
		t.Errorf("start: %v", err)
	}
}
