// Package fusefs is AUFS in user space: branches, whiteouts, opaque directories and
// copy-up, served by FUSE to a kernel that has no AUFS.
//
//	br:RW=rw:LAYER=ro:LAYER=ro:        top branch first, as in 2013
//
//	       RW     etc/  .wh.motd        etc/hosts
//	       LAYER  etc/  motd  passwd
//	       LAYER  etc/  motd  fstab     bin/sh
//	              ────────────────────────────────
//	union         etc/  hosts passwd fstab   bin/sh
//
// A name is looked up from the top branch down (lookup.go). The first branch that
// has it wins; directories of the same name merge. A branch hides what is below it
// by marks, which are plain empty files (whiteout.go):
//
//	.wh.NAME        a whiteout: NAME is deleted from the branches below
//	.wh..wh..opq    in a directory: it hides its like below, it is opaque
//	.wh..wh.*       in RW's root: AUFS's own, never shown
//
// Only RW is written to. A file of a layer that is to change is copied there first
// (copyup.go); reading never copies. Nobody else may write to a branch meanwhile.
//
// # What holds after a crash
//
// Every step leaves the branch as the old tree or as the new one: a mark that
// stands beside an entry of its name says nothing about that entry, only about what
// is below. So a name is removed by making its whiteout first, and made by removing
// its whiteout last. Copies are made under another name in .wh..wh.orph and put in
// their place by one rename; what a crash leaves there, the next mount removes.
//
// # What differs from a plain directory
//
//   - A directory that is in a layer can't be renamed: EXDEV, as AUFS and overlayfs
//     answer; mv then copies.
//   - A file of several names in a layer loses its ties when it is copied up, as
//     on overlayfs: the other names stay the layer's file.
//   - A file of [passthroughSize] or more, or a running program, is read straight from
//     its branch. Who has it open for reading when it is copied up keeps the layer's
//     file, as on overlayfs. Smaller ones follow the copy, as on AUFS.
//   - Names that begin with .wh. are refused (EPERM), and those of more than 242
//     bytes (ENAMETOOLONG): AUFS's limit, so that marks find room.
//
// # Locks
//
// In this order: node.copying, FS.tree, then FS.nodes or FS.opens. Who changes which
// name is which file holds tree for writing; who only needs paths to stay what they
// are, for reading. Nobody holds it while a file's content is copied.
//
// # What the kernel keeps
//
// Names, that there is none, attributes and listings, without end (forever): what was
// looked at once is looked at again without us.
package fusefs
