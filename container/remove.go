package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"docker2013/durable"
)

// Remove deletes a container that doesn't run. A mount that was made by hand,
// or that an earlier unmount left, goes with it. ErrRunning, ErrMounted, ErrRemoved.
//
// After another error the container is gone all the same; what couldn't be
// deleted of its folder, the next daemon's start tries again.
func (s *Store) Remove(ctx context.Context, c *Container) error {
	c.layering.Lock() // what vanishes while a layer is read isn't in it
	defer c.layering.Unlock()
	c.mounts.mu.Lock()
	defer c.mounts.mu.Unlock()
	if c.mounts.users == 0 {
		fsys := c.Record().Filesystem
		if mounted, err := c.union.Mounted(&fsys); err == nil && mounted {
			if err := c.unmount(c.ctx(ctx)); err != nil {
				return err
			}
			c.mounts.byHand = false // a start may have come before us, and stays
		}
	}
	rubbish, err := c.retire()
	if err != nil {
		return fmt.Errorf("remove container %s: %w", c.id, err)
	}
	r := c.Record()
	s.mu.Lock()
	delete(s.list, c.id)
	if r.Name != "" {
		delete(s.names, r.Name)
	}
	s.mu.Unlock()
	s.ids.release(r.Filesystem.IDs)
	c.emit(ActionDestroy, nil)
	if err := os.RemoveAll(rubbish); err != nil {
		return fmt.Errorf("remove container %s: %w", c.id, err)
	}
	return durable.SyncDir(s.root)
}

// removeEnded removes a container of `run --rm` whose run is over. Where it runs again,
// or somebody looks into its file system, their end does it.
func (c *Container) removeEnded(ctx context.Context) error {
	c.mu.Lock()
	over := c.config.AutoRemove && c.run == nil && !c.record.State.FinishedAt.IsZero()
	c.mu.Unlock()
	if !over {
		return nil
	}
	err := c.store.Remove(ctx, c)
	if errors.Is(err, ErrRemoved) || errors.Is(err, ErrRunning) || errors.Is(err, ErrMounted) {
		return nil
	}
	return err
}

// there is ErrRemoved if it isn't any more.
func (c *Container) there() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return fmt.Errorf("container %s: %w", c.id, ErrRemoved)
	}
	return nil
}

// retire ends the container's record: nothing changes it any more, and its folder
// has the name that is returned. Nothing of it may run or be mounted.
//
// A rename first: a crash half way leaves a folder that the next start knows to be
// rubbish, never a container with half its files.
func (c *Container) retire() (rubbish string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return "", ErrRemoved
	}
	if c.run != nil {
		return "", ErrRunning
	}
	// Deleting a folder with a mount in it would delete through the mount.
	if mounted, err := c.union.Mounted(&c.record.Filesystem); err != nil {
		return "", err
	} else if mounted {
		return "", ErrMounted
	}
	rubbish = filepath.Join(c.store.root, tmpPrefix+c.id)
	if err := os.Rename(c.dir, rubbish); err != nil {
		return "", err
	}
	c.removed = true
	return rubbish, nil
}
