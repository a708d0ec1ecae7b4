package container

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"docker2013/durable"
)

// Remove deletes a container that doesn't run. A mount that was made by hand,
// or that an earlier unmount left, goes with it.
func (s *Store) Remove(ctx context.Context, c *Container) error {
	c.mounts.mu.Lock()
	defer c.mounts.mu.Unlock()
	if c.mounts.users == 0 {
		fsys := c.Record().Filesystem
		if mounted, err := c.union.Mounted(&fsys); err == nil && mounted {
			if err := c.unmount(c.ctx(ctx)); err != nil {
				return err
			}
		}
	}
	if err := c.remove(); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.list, c.id)
	if name := c.Record().Name; name != "" {
		delete(s.names, name)
	}
	s.mu.Unlock()
	s.ids.free(c.Record().Filesystem.IDs)
	c.emit(ActionDestroy, nil)
	return durable.SyncDir(s.root)
}

// remove deletes the container's folder. Nothing of it may run or be mounted.
func (c *Container) remove() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return ErrRemoved
	}
	if c.run != nil {
		return fmt.Errorf("remove container %s: %w", c.id, ErrRunning)
	}
	// Deleting a folder with a mount in it would delete through the mount.
	if mounted, err := c.union.Mounted(&c.record.Filesystem); err != nil {
		return fmt.Errorf("remove container %s: %w", c.id, err)
	} else if mounted {
		return fmt.Errorf("remove container %s: %w", c.id, ErrMounted)
	}
	// A rename first: a crash half way leaves a folder that the next start
	// knows to be rubbish, never a container with half its files.
	rubbish := filepath.Join(c.store.root, tmpPrefix+c.id)
	if err := os.Rename(c.dir, rubbish); err != nil {
		return fmt.Errorf("remove container %s: %w", c.id, err)
	}
	c.removed = true
	if err := os.RemoveAll(rubbish); err != nil {
		return fmt.Errorf("remove container %s: %w", c.id, err)
	}
	return nil
}
