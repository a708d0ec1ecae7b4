// Package images is the store of images: what containers are made from.
//
// A layer is an unpacked tar: a folder in AUFS's format, in which an empty file
// .wh.NAME says that NAME of the layers below is deleted, and .wh..wh..opq that
// nothing of a folder's lower layers shows. An image is a name and a stack of
// layers, top layer first. On disk, as in 2013 (docker@bba4e36807:image/image.go:16,
// image/layers.go:85):
//
//	index.json            {"Path":…,"ByName":{NAME:[IMAGE…]},"ById":{ID:IMAGE}},
//	                      newest first within a name
//	reserve               room on the disk that only a removal may use
//	layers/<id>/          one layer
//	layers/tmp-<random>/  a layer that is being unpacked, or deleted
//
// A layer's id is the first 8 bytes of the SHA-256 of its tar stream, in hex,
// uncompressed and to the stream's very end. An image's id is NAME: and its
// layer's id, or, of several layers, the same hash over their ids, top first.
//
// # Invariants
//
//   - A folder layers/<id> is complete and on the disk: it is made by one rename
//     of a synced tmp- folder, and never changed after that.
//   - index.json names only such layers, and is replaced as a whole. So a crash
//     loses at most what had not been reported as done. It leaves tmp- folders,
//     which the next [Open] removes, or a complete layer without an image, which
//     a repetition of the import finds and uses.
//   - No layer comes twice in an image, as no union takes a folder twice. Where
//     a new layer equals a lower one the lower is left out: all it could show,
//     the upper shows.
//   - Layers hold set-user-ID programs: only root may enter layers/.
//
// # What an import accepts
//
// A tar as GNU tar, bsdtar and Docker write them, as it is or in gzip, zstd or
// xz. It is made by whoever made it, and it is unpacked by root, so:
//
//   - Nothing is written outside the layer. A leading slash is dropped, ".." in
//     a name is refused, links are followed as if the layer were the root.
//   - Devices are made only below dev/, and 0:0, which overlayfs takes for a
//     whiteout, nowhere. Of a whiteout's name only regular files are made.
//   - Owners, modes with the set-user-ID bits, times, holes, hard links, FIFOs,
//     security.capability and attributes user.* are kept. Other attributes are
//     dropped, above all trusted.overlay.*, which are commands to a union.
//   - [Options] limit its size, compressed bombs and files of holes included.
//
// Unpacking is done here rather than by github.com/moby/go-archive (v0.3.3),
// which fills holes, takes any attribute, drops the errors of Close and took
// 1.6 times as long as tar -x, without the hash and the sync. archive/tar reads
// the stream and github.com/cyphar/filepath-securejoin resolves the paths.
package images

import "errors"

// What a caller can act on.
var (
	ErrNotFound   = errors.New("no such image")
	ErrInUse      = errors.New("in use by a container")
	ErrBadName    = errors.New("not a name for an image")
	ErrNotArchive = errors.New("not a tar archive")
	ErrUnsafe     = errors.New("unsafe tar archive")
	ErrTooBig     = errors.New("layer over the limit")
	ErrCorrupt    = errors.New("corrupt index")
)
