package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"docker2013/durable"
	"docker2013/trace"
)

// Import makes an image called name of the tar stream r, as one layer on top of
// parent's, or alone if parent is nil. When it returns, the image is on the
// disk. If the layer is there already it is used; if the whole image is, it
// becomes the newest of its name.
//
// progress, unless nil, is called now and then with the number of bytes that
// were read from r, on the caller's goroutine.
//
// After an error nothing is left of the import: ErrBadName before r is touched;
// ErrNotArchive, ErrUnsafe, ErrTooBig, io.ErrUnexpectedEOF for a stream that was
// cut off, ErrNotFound for a parent that was removed, or why the disk, r or ctx failed. A Read of r can then still be
// going on, on another goroutine; the caller ends it by closing what r reads.
func (s *Store) Import(ctx context.Context, name string, r io.Reader, parent *Image, progress func(bytes int64)) (*Image, error) {
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	img, err := s.importLayer(ctx, name, r, parent, progress)
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", name, err)
	}
	return img, nil
}

func (s *Store) importLayer(ctx context.Context, name string, r io.Reader, parent *Image, progress func(int64)) (img *Image, err error) {
	tmp, err := os.MkdirTemp(s.layers, tmpPrefix)
	if err != nil {
		return nil, err
	}
	// A layer that is published has been renamed: there is nothing to remove.
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	if err := os.Chmod(tmp, 0o755); err != nil { // unless the tar has its own idea
		return nil, err
	}

	step := trace.Step(ctx, "images.unpack", "name", name, "folder", tmp)
	id, err := s.unpack(ctx, r, tmp, progress)
	step.Set("layer", string(id))
	if step.End(err) != nil {
		return nil, err
	}

	step = trace.Step(ctx, "images.publish", "layer", string(id))
	img, err = s.publish(tmp, id, name, parent)
	if img != nil {
		step.Set("image", img.Id)
	}
	return img, step.End(err)
}

// unpack fills the folder tmp and returns when all of it is on the disk.
func (s *Store) unpack(ctx context.Context, r io.Reader, tmp string, progress func(int64)) (LayerID, error) {
	flush, err := newFlusher(tmp)
	if err != nil {
		return "", err
	}
	stream := newStream(ctx, r, s.limits.stream, progress)
	err = unpack(stream, tmp, s.limits)
	stream.stop(nil)
	if err != nil {
		return "", errors.Join(err, flush.abandon())
	}
	return stream.id(), flush.finish()
}

// Unpack writes a tar's entries into the folder dir and nowhere else, as they are
// written into a layer, with a layer's limits. What is there and has the name of an
// entry is replaced, but for a folder that isn't empty. It is no import: nothing is
// flushed, and what was written before an error stays.
func Unpack(ctx context.Context, r io.Reader, dir string, opts Options) error {
	limits := opts.limits()
	stream := newStream(ctx, r, limits.stream, nil)
	err := unpack(stream, dir, limits)
	stream.stop(nil)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	return nil
}

// publish makes tmp the layer id, unless there is one, and adds the image.
func (s *Store) publish(tmp string, id LayerID, name string, parent *Image) (*Image, error) {
	layer := s.LayerPath(string(id))
	img := newImage(name, layer, parent)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, below := range img.Layers {
		if below != layer && !isFolder(below) { // the import took its time
			return nil, fmt.Errorf("its parent %s has been removed meanwhile: %w", parent.Id, ErrNotFound)
		}
	}
	if !isFolder(layer) {
		if err := os.Rename(tmp, layer); err != nil {
			return nil, err
		}
	}
	// The layer's name must be on the disk before the index has it; also one
	// that another import, since killed, had no time to sync.
	if err := durable.SyncDir(s.layers); err != nil {
		return nil, err
	}
	if err := s.update(func(x *index) { x.insert(img) }); err != nil {
		return nil, err
	}
	return img.clone(), nil
}
