package images

import "errors"

// What a caller can act on.
var (
	ErrNotFound   = errors.New("no such image")
	ErrInUse      = errors.New("a container uses it")
	ErrBadName    = errors.New("bad image name")
	ErrNotArchive = errors.New("not a tar archive")
	ErrUnsafe     = errors.New("unsafe archive")
	ErrTooBig     = errors.New("the layer is too big")
	ErrCorrupt    = errors.New("corrupt index")
)

type LayerID string
