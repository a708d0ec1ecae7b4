package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"docker2013/durable"
)

// A record is saved in two steps. Every change replaces config.json at once, by a
// rename: whatever becomes of the daemon, the newest one is read. That it also
// survives a loss of power takes the disk some milliseconds, so that is done
// once for all the changes that have come meanwhile: before Start and the like
// return, and beside an attached run or behind it.
//
// A full disk may refuse what is only asked for, a new name or other limits: change
// fails, and all is as it was. What has happened, and the wish that a container ends,
// it can't refuse: remember it, and save tries until the disk takes it.

const (
	// flushDelay is how long the record of an attached run may wait. A short run
	// spends nothing on states that are over.
	flushDelay = 100 * time.Millisecond
	// saveAgain is the pause between two tries on a disk that refuses.
	saveAgain = time.Second
)

const (
	recordFile   = "config.json"
	userDataFile = "userdata.json"
)

// change applies f to the record and replaces the file, all under the lock.
// The caller owes a flush.
func (c *Container) change(f func(*Record)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return ErrRemoved
	}
	next := c.record
	f(&next)
	if err := saveJSON(filepath.Join(next.Root, recordFile), next); err != nil {
		return fmt.Errorf("save container %s: %w", next.Id, err)
	}
	c.record = next
	c.changes++
	c.written = c.changes
	return nil
}

// remember applies f to the record, whose file save or flush will replace.
func (c *Container) remember(f func(*Record)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.record)
	c.changes++
}

// write replaces the file if the record is newer.
func (c *Container) write() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed || c.written == c.changes {
		return nil
	}
	if err := saveJSON(filepath.Join(c.dir, recordFile), c.record); err != nil {
		return fmt.Errorf("save container %s: %w", c.id, err)
	}
	c.written = c.changes
	return nil
}

func saveJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return durable.Replace(path, data, 0o600)
}

// flush makes the newest record durable. A container that was removed meanwhile
// needs none.
func (c *Container) flush() error {
	c.flushing.Lock()
	defer c.flushing.Unlock()
	if err := c.write(); err != nil {
		return err
	}
	c.mu.Lock()
	changes := c.written
	c.mu.Unlock()
	if changes == c.flushed {
		return nil
	}
	files := []string{filepath.Join(c.dir, recordFile)}
	if c.flushed == 0 {
		files = append(files, filepath.Join(c.dir, userDataFile))
	}
	err := durable.Flush(files...)
	if err == nil && c.flushed == 0 {
		err = durable.SyncDir(c.store.root) // its own name
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("save container %s: %w", c.id, err)
	}
	c.flushed = changes
	return nil
}

// Save makes the newest record durable.
func (c *Container) Save() error { return c.flush() }

// save makes the newest record durable: now, or else when the disk takes it.
func (c *Container) save() {
	err := c.flush()
	if err == nil {
		c.unsaved.Store(false)
		return
	}
	if !c.unsaved.Swap(true) {
		c.log.Error("a container can't be saved; it is tried again until it can", "container", c.id, "err", err)
	}
	c.saveAfter(saveAgain)
}

// saveAfter saves soon, once for all who ask meanwhile.
func (c *Container) saveAfter(pause time.Duration) {
	if c.store.closing.Load() || c.saving.Swap(true) {
		return
	}
	time.AfterFunc(pause, func() {
		c.saving.Store(false)
		c.save()
	})
}
