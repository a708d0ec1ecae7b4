package container

import (
	"context"
	"errors"
	"fmt"
)

// Update changes what the container was asked to be by f, for now and for later
// runs. A limit that can't be kept changes nothing, and is ErrCantRun.
func (c *Container) Update(ctx context.Context, f func(*Config)) error {
	c.updating.Lock()
	defer c.updating.Unlock()
	next := c.Record()
	f(&next.Config)
	if err := c.runtime.Check(&next); err != nil {
		return cantRun{err}
	}
	if r, err := c.current(); err == nil {
		err := r.process.Update(&next)
		if err != nil && !errors.Is(r.process.Signal(0), ErrNotRunning) { // else it has just ended
			return fmt.Errorf("update container %s: %w", c.id, err)
		}
	}
	if err := c.change(func(r *Record) { f(&r.Config) }); err != nil {
		return err
	}
	c.emit(ActionUpdate, nil)
	return c.flush()
}
