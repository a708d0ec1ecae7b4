// Package images is the store of images: layers, which are unpacked tar streams,
// and the index that says which layers an image has.
//
// # On disk
//
//	index.json              every image, by name and by id
//	layers/<id>/            one layer: an unpacked tar, with AUFS's marks
//	layers/tmp-<random>/    one that is being unpacked or removed; Open removes it
//
// A layer's id is the first 8 bytes of the SHA-256 of its tar stream, in hex,
// decompressed and to its last byte. An image's id is NAME:HEX, where HEX is the
// layer's id if it has one layer, and else the same hash over the ids of its
// layers, top first (docker@bba4e36807:image/image.go).
//
// # Invariants
//
//   - A layer is published by rename when all of it is on the disk; a name in
//     layers/ that doesn't begin with tmp- is complete, after a crash too.
//   - The index names only layers that are published. It is replaced atomically
//     and durably (package durable), under one lock.
//   - Unpacking never writes outside the layer's folder; see unpacker.
//   - Layers are listed top first, the base image's last; images of a name
//     newest first.
//
// Images that the store hands out are copies; changing them changes nothing.
package images
