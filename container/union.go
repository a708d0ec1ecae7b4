package container

import (
	"context"
	"io"
)

// Filesystem is a container's root file system before it is mounted: the
// directories that a union puts on top of each other.
//
// The JSON form is the one of 2013 (docker@bba4e36807:filesystem.go:15) with
// one field more.
type Filesystem struct {
	// RootFS is where the union is mounted: containers/<id>/rootfs. It exists
	// only while it is mounted.
	RootFS string
	// RWPath is the read-write branch (upperdir): containers/<id>/rw.
	RWPath string
	// Layers are the read-only branches (lowerdirs), top layer first, the base
	// image's last. They are directories of the image store, in AUFS's format.
	Layers []string
	// Union names the union that RWPath was written through: "aufs",
	// "aufs-fuse" or "overlay". The last marks deletions differently. Empty
	// means a record of 2013, so aufs.
	Union string `json:",omitempty"`
	// IDs are the container's own, nil: it has the host's. Mounted, its files
	// are theirs; on the disk they have the owners that it sees itself.
	IDs *IDs `json:",omitempty"`
}

// Union puts layers and a read-write branch together into one root file system,
// and knows how deletions are marked in that branch.
//
// Mount and Unmount are not idempotent: the 2013 commands `mount` and `umount`
// tell their user when there was nothing to do.
type Union interface {
	// Name is what --union calls it, and what Filesystem.Union records.
	Name() string

	// Mount creates RootFS and mounts the union there. It fails with
	// ErrMounted where it is mounted already. After an error RootFS is not
	// mounted. If fsys.Union names another union, Mount first translates the
	// marks in RWPath, and then sets fsys.Union to its own name; the caller
	// saves the record.
	Mount(ctx context.Context, fsys *Filesystem) error

	// Unmount detaches the union and removes the RootFS directory. It fails
	// with ErrNotMounted where nothing is mounted. What was written stays
	// in RWPath.
	Unmount(ctx context.Context, fsys *Filesystem) error

	// Mounted reports whether RootFS and its parent are on different devices,
	// which is what "mounted" meant in 2013 (docker@bba4e36807:filesystem.go:70).
	Mounted(fsys *Filesystem) (bool, error)

	// Changes lists what RWPath changes in the layers below it, sorted by path.
	// It reads RWPath itself, mounted or not.
	Changes(fsys *Filesystem) ([]Change, error)

	// WriteLayer writes RWPath to w as a layer: a tar stream in which deletions
	// are marked as AUFS does, whatever the union's own marks are.
	WriteLayer(ctx context.Context, fsys *Filesystem, w io.Writer) error

	// Reset empties RWPath. The union must not be mounted.
	Reset(fsys *Filesystem) error

	// Prepare makes what Mount will need of a new layer, so that the first
	// Mount needn't. Idempotent; layer is the layer's directory.
	Prepare(ctx context.Context, layer string) error

	// Forget drops whatever the union keeps beside the store for a layer that
	// is being removed. Idempotent; layer is the layer's directory.
	Forget(layer string) error

	// Close returns when the kernel has let go of everything that was
	// unmounted. The union can be used further.
	Close() error
}

// Change is one difference between a container and its image.
type Change struct {
	Kind ChangeKind
	Path string // absolute, as seen in the container
}

// String is a line of `diff`: "A /path".
func (c Change) String() string { return string(c.Kind) + " " + c.Path }

// ChangeKind says what became of a path.
type ChangeKind string

// The three kinds, as `diff` prints them.
const (
	Added    ChangeKind = "A"
	Modified ChangeKind = "C"
	Deleted  ChangeKind = "D"
)
