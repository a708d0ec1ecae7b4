package container

import (
	"sync"
	"time"
)

// Event is a change in a container's life.
type Event struct {
	Time   time.Time `json:"time"`
	Action Action    `json:"action"`
	ID     string    `json:"id"`
	Name   string    `json:"name,omitempty"`
	Image  string    `json:"image,omitempty"`
	Path   string    `json:"path"`
	// ExitCode is that of a die, else nil.
	ExitCode *int `json:"exitCode,omitempty"`
}

// Action is what happened, in today's Docker's words.
type Action string

// The actions.
const (
	ActionCreate  Action = "create"
	ActionStart   Action = "start"
	ActionDie     Action = "die"
	ActionOOM     Action = "oom"
	ActionStop    Action = "stop"
	ActionPause   Action = "pause"
	ActionUnpause Action = "unpause"
	ActionRename  Action = "rename"
	ActionUpdate  Action = "update"
	ActionDestroy Action = "destroy"
)

// events hands what happens to those who listen. Nobody is waited for: who is
// slower than backlog events is dropped.
type events struct {
	mu   sync.Mutex
	subs map[chan Event]bool
}

const backlog = 1000

// Events begins to listen. The channel is closed by stop, or when its reader was
// too slow.
func (s *Store) Events() (happened <-chan Event, stop func()) {
	c := make(chan Event, backlog)
	e := &s.events
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.subs == nil {
		e.subs = map[chan Event]bool{}
	}
	e.subs[c] = true
	return c, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.drop(c)
	}
}

// drop ends a subscription; e.mu is held.
func (e *events) drop(c chan Event) {
	if e.subs[c] {
		delete(e.subs, c)
		close(c)
	}
}

// emit tells of a container's change.
func (c *Container) emit(action Action, exitCode *int) {
	e := &c.store.events
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.subs) == 0 {
		return
	}
	event := Event{Time: time.Now(), Action: action, ID: c.id, Name: c.Record().Name, Image: c.userData["image"], Path: c.engine, ExitCode: exitCode}
	for sub := range e.subs {
		select {
		case sub <- event:
		default:
			e.drop(sub)
		}
	}
}
