// Package durable replaces files so that a crash leaves the old content or the
// new, never a mixture and never nothing.
//
// The new content is written to a temporary file in the same folder, synced,
// and renamed over the old name; then the folder is synced, because the rename
// is a change of the folder (fsync(2), rename(2)). A crash in the middle can
// leave the temporary file behind, which [Sweep] removes. A program sweeps its
// folders when it starts, before it writes.
package durable

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// tempMark stands in the name of every temporary file: .NAME.new-RANDOM
const tempMark = ".new-"

// isTemp reports whether a file of this name (without its folder) is a
// temporary one of this package.
func isTemp(name string) bool {
	return strings.HasPrefix(name, ".") && strings.Contains(name, tempMark)
}

// WriteFile replaces path by data, with exactly the permissions mode. When it
// returns nil the new content has reached the disk; after an error path is as
// it was, unless only the last sync failed: then it may be either.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	f, err := write(path, data, mode)
	if err != nil {
		return err
	}
	// Synced before the rename: otherwise the disk could learn of the name
	// before it has the content.
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("durable: %w", err), os.Remove(f.Name()))
	}
	if err := publish(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Replace is WriteFile's first half: when it returns, every process sees the new
// content, and a crash of the process alone leaves it. After [Flush] a crash of
// the machine leaves it too; before that, such a crash leaves the old or the new
// content, or on some file systems an incomplete one.
func Replace(path string, data []byte, mode fs.FileMode) error {
	f, err := write(path, data, mode)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return errors.Join(fmt.Errorf("durable: %w", err), os.Remove(f.Name()))
	}
	return publish(f.Name(), path)
}

// Flush makes files of one folder durable, as they are now, and their names.
func Flush(files ...string) error {
	for _, path := range files {
		if err := syncFile(path); err != nil {
			return err
		}
	}
	return SyncDir(filepath.Dir(files[0]))
}

// write puts data into a new temporary file beside path. Nothing is left of it
// after an error.
func write(path string, data []byte, mode fs.FileMode) (*os.File, error) {
	dir, base := filepath.Split(path)
	f, err := os.OpenFile(dir+"."+base+tempMark+rand.Text(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, failed(path, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode) // the umask has no say
	}
	if err != nil {
		return nil, errors.Join(failed(path, err), f.Close(), os.Remove(f.Name()))
	}
	return f, nil
}

// failed says which file it is about by its own name: the temporary one is gone.
func failed(path string, err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		pe.Path = path
	}
	return fmt.Errorf("durable: %w", err)
}

// publish renames the temporary file to its real name, or removes it.
func publish(temp, path string) error {
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(fmt.Errorf("durable: %w", err), os.Remove(temp))
	}
	return nil
}

// SyncDir makes the names in a folder durable: what was created, renamed or
// removed there before the call.
func SyncDir(dir string) error { return syncFile(dir) }

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("durable: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("durable: %w", err)
	}
	return nil
}

// Sweep removes the temporary files that a crash left in dir.
func Sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("durable: sweep: %w", err)
	}
	for _, e := range entries {
		if isTemp(e.Name()) && e.Type().IsRegular() {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}
