package native

import (
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"docker2013/native/launch"
)

// attributes are what mount options say of the mount itself; the rest is for its
// file system.
type attributes struct {
	set, clear   uint64 // MOUNT_ATTR_… (mount_setattr(2))
	rset, rclear uint64 // of all mounts below it too
	propagation  uint64 // MS_PRIVATE, …; 0: as it is
	propagateAll bool   // below it too
	bind         bool
	recursive    bool // a bind mount with what is mounted below its source
	remount      bool // changes the mount that is there
	copyUp       bool // a tmpfs with what is below it
	rest         []string
}

// attrOptions are options of one bit, and how the bit is taken away again.
var attrOptions = []struct {
	set, clear string
	bit        uint64
}{
	{"ro", "rw", unix.MOUNT_ATTR_RDONLY}, {"nosuid", "suid", unix.MOUNT_ATTR_NOSUID}, {"nodev", "dev", unix.MOUNT_ATTR_NODEV},
	{"noexec", "exec", unix.MOUNT_ATTR_NOEXEC}, {"nodiratime", "diratime", unix.MOUNT_ATTR_NODIRATIME},
	{"nosymfollow", "symfollow", unix.MOUNT_ATTR_NOSYMFOLLOW},
}

// timeOptions are those of access times: one of three.
var timeOptions = map[string]uint64{
	"relatime": unix.MOUNT_ATTR_RELATIME, "norelatime": unix.MOUNT_ATTR_STRICTATIME, "noatime": unix.MOUNT_ATTR_NOATIME,
	"atime": unix.MOUNT_ATTR_RELATIME, "strictatime": unix.MOUNT_ATTR_STRICTATIME, "nostrictatime": unix.MOUNT_ATTR_RELATIME,
}

var propagations = map[string]uint64{
	"private": unix.MS_PRIVATE, "slave": unix.MS_SLAVE, "shared": unix.MS_SHARED, "unbindable": unix.MS_UNBINDABLE,
}

// readOptions splits mount options (config.md, "Linux mount options").
func readOptions(m specs.Mount) attributes {
	a := attributes{bind: m.Type == "bind"}
	for _, o := range m.Options {
		if a.one(o, &a.set, &a.clear) {
			continue
		}
		rest, recursive := strings.CutPrefix(o, "r")
		if recursive && a.one(rest, &a.rset, &a.rclear) {
			continue
		}
		switch {
		case o == "bind", o == "rbind":
			a.bind, a.recursive = true, o == "rbind"
		case o == "remount":
			a.remount = true
		case o == "tmpcopyup":
			a.copyUp = true
		case propagations[o] != 0:
			a.propagation, a.propagateAll = propagations[o], false
		case recursive && propagations[rest] != 0:
			a.propagation, a.propagateAll = propagations[rest], true
		case slices.Contains([]string{"defaults", "async", "silent", "loud", "mand", "nomand", "norecursive"}, o): // nothing, nowadays
		default:
			a.rest = append(a.rest, o)
		}
	}
	return a
}

// MountOptions are those that are not for the file system, in no order.
func MountOptions() []string {
	list := []string{"bind", "rbind", "remount", "defaults", "tmpcopyup"}
	for _, o := range attrOptions {
		list = append(list, o.set, o.clear, "r"+o.set, "r"+o.clear)
	}
	for o := range timeOptions {
		list = append(list, o, "r"+o)
	}
	for o := range propagations {
		list = append(list, o, "r"+o)
	}
	return list
}

func (a *attributes) one(option string, set, clear *uint64) bool {
	for _, x := range attrOptions {
		switch option {
		case x.set:
			*set, *clear = *set|x.bit, *clear&^x.bit
			return true
		case x.clear:
			*set, *clear = *set&^x.bit, *clear|x.bit
			return true
		}
	}
	if bit, ok := timeOptions[option]; ok {
		*set, *clear = *set&^unix.MOUNT_ATTR__ATIME|bit, *clear|unix.MOUNT_ATTR__ATIME
		return true
	}
	return false
}

// late: a tmpfs becomes read-only when all is in it.
func (a *attributes) late(m specs.Mount) bool {
	return m.Type == "tmpfs" && !a.remount && (a.set|a.rset)&unix.MOUNT_ATTR_RDONLY != 0
}

// takeMounts takes hold of all that is to be mounted, while the host's files can
// still be named: clones of its own (open_tree(2)), and new file systems
// (fsopen(2)). They are attached to nothing yet. Clones are taken before all mounts
// become private, so that they can share what is mounted in them with the host.
func (w *writer) takeMounts(mounts []specs.Mount, x Setup) []launch.Arg {
	trees := make([]launch.Arg, len(mounts))
	for i, m := range mounts {
		a := readOptions(m)
		switch {
		case a.remount:
		case a.bind && x.Trees != nil: // taken already, see Hold
			trees[i] = launch.File(x.Trees[i])
			w.setClone("take "+m.Source, trees[i], a)
		case a.bind:
			trees[i] = w.clone(m.Source, a)
		default:
			trees[i] = w.fileSystem(m, a)
		}
	}
	return trees
}

func (w *writer) clone(source string, a attributes) launch.Arg {
	name := "take " + source
	flags := unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC
	if a.recursive {
		flags |= unix.AT_RECURSIVE
	}
	tree := w.result(name, unix.SYS_OPEN_TREE, here, source, flags)
	w.setClone(name, tree, a)
	return tree
}

// setClone gives what is taken its attributes.
func (w *writer) setClone(name string, tree launch.Arg, a attributes) {
	if a.propagation == 0 { // nothing mounted later goes either way
		a.propagation, a.propagateAll = unix.MS_PRIVATE, true
	}
	w.setAttributes(name, tree, attributes{set: a.rset, clear: a.rclear}, true)
	w.setAttributes(name, tree, attributes{propagation: a.propagation}, a.propagateAll)
	w.setAttributes(name, tree, attributes{set: a.set, clear: a.clear}, false)
}

func (w *writer) fileSystem(m specs.Mount, a attributes) launch.Arg {
	name := fmt.Sprintf("mount %s on %s", m.Type, m.Destination)
	fs := w.result(name, unix.SYS_FSOPEN, m.Type, unix.FSOPEN_CLOEXEC)
	config := func(name string, command int, key, value any) {
		w.call(name, unix.SYS_FSCONFIG, fs, command, key, value, 0)
	}
	if m.Source != "" {
		config(name, unix.FSCONFIG_SET_STRING, "source", m.Source)
	}
	for _, option := range a.rest {
		if key, value, has := strings.Cut(option, "="); has {
			config(name+" with "+option, unix.FSCONFIG_SET_STRING, key, value)
		} else {
			config(name+" with "+option, unix.FSCONFIG_SET_FLAG, key, 0)
		}
	}
	config(name, unix.FSCONFIG_CMD_CREATE, 0, 0)
	set := a.set | a.rset
	if a.late(m) {
		set &^= unix.MOUNT_ATTR_RDONLY
	}
	tree := w.result(name, unix.SYS_FSMOUNT, fs, unix.FSMOUNT_CLOEXEC, set)
	w.close(name, fs)
	return tree
}

// mount attaches one entry of the configuration. file: what is bound is no
// directory. What the kernel gives is mounted on no link at all.
func (w *writer) mount(root launch.Arg, m specs.Mount, tree launch.Arg, file bool) {
	a := readOptions(m)
	name := fmt.Sprintf("mount %s on %s", m.Type, m.Destination)
	kernels := !a.bind && (m.Type != "tmpfs" || slices.Contains([]string{"/dev", "/dev/shm"}, m.Destination))
	target := w.target(root, m.Destination, a.bind && file, kernels)
	switch {
	case a.remount:
		name = "remount " + m.Destination
		w.setAttributes(name, target, attributes{set: a.rset, clear: a.rclear}, true)
		w.setAttributes(name, target, attributes{set: a.set, clear: a.clear}, false)
		w.propagate(name, target, a)
	default:
		w.attach(name, tree, target, "")
		if !a.bind {
			w.propagate(name, tree, a)
		}
		if !a.late(m) {
			w.close(name, tree)
		}
	}
	w.close(name, target)
}

func (w *writer) propagate(name string, tree launch.Arg, a attributes) {
	w.setAttributes(name, tree, attributes{propagation: a.propagation}, a.propagateAll)
}

// readOnlyMounts is for those that had to be filled before.
func (w *writer) readOnlyMounts(mounts []specs.Mount, trees []launch.Arg) {
	for i, m := range mounts {
		if a := readOptions(m); a.late(m) {
			name := "make read-only " + m.Destination
			w.setAttributes(name, trees[i], attributes{set: unix.MOUNT_ATTR_RDONLY}, false)
			w.close(name, trees[i])
		}
	}
}

// attach mounts a tree on a name in a directory, or with none on the directory.
func (w *writer) attach(name string, tree, dir launch.Arg, file string) {
	flags := unix.MOVE_MOUNT_F_EMPTY_PATH
	if file == "" {
		flags |= unix.MOVE_MOUNT_T_EMPTY_PATH
	}
	w.call(name, unix.SYS_MOVE_MOUNT, tree, "", dir, file, flags)
}

// setAttributes changes a mount's, if there is something to change: struct
// mount_attr (mount_setattr(2)).
func (w *writer) setAttributes(name string, tree launch.Arg, a attributes, recursive bool) {
	if a.set|a.clear|a.propagation == 0 {
		return
	}
	b := make([]byte, 32)
	binary.NativeEndian.PutUint64(b, a.set)
	binary.NativeEndian.PutUint64(b[8:], a.clear)
	binary.NativeEndian.PutUint64(b[16:], a.propagation)
	flags := unix.AT_EMPTY_PATH
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	w.call(name, unix.SYS_MOUNT_SETATTR, tree, "", flags, b, len(b))
}

// target opens what is mounted on, and makes it where it isn't there. All names are
// looked up inside the new root: a link of the image leads nowhere else, and none
// of /proc's own leads through an open descriptor (openat2(2)).
func (w *writer) target(root launch.Arg, dest string, file, noLinks bool) launch.Arg {
	dest = path.Clean("/" + dest)
	resolve := uint64(unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_IN_ROOT)
	last := resolve
	if noLinks {
		last |= unix.RESOLVE_NO_SYMLINKS
	}
	fd := launch.Slot(w.slot())
	w.either(func() { w.openIn(root, dest, last, fd) }, unix.ENOENT, func() {
		w.makeTarget(root, dest, resolve, file)
		w.openIn(root, dest, last, fd)
	})
	return fd
}

// makeTarget makes what is mounted on, a directory or a file, and all above it.
func (w *writer) makeTarget(root launch.Arg, dest string, resolve uint64, file bool) {
	dir := root
	for i, c := range dest {
		if c != '/' || i == 0 {
			continue
		}
		w.mkdir(dir, dest[:i])
		if dir.Slot() == root.Slot() {
			dir = launch.Slot(w.slot())
		} else {
			w.call("make "+dest[:i], unix.SYS_CLOSE, dir)
		}
		w.openIn(root, dest[:i], resolve, dir)
	}
	if file {
		w.call("make "+dest, unix.SYS_MKNODAT, dir, path.Base(dest), unix.S_IFREG|0o644, 0).Ok = madeAlready
	} else if dest != "/" {
		w.mkdir(dir, dest)
	}
	if dir.Slot() != root.Slot() {
		w.close("make "+dest, dir)
	}
}

func (w *writer) openIn(root launch.Arg, dest string, resolve uint64, keep launch.Arg) {
	how := make([]byte, 24) // struct open_how
	binary.NativeEndian.PutUint64(how, unix.O_PATH|unix.O_CLOEXEC)
	binary.NativeEndian.PutUint64(how[16:], resolve)
	w.call("open "+dest, unix.SYS_OPENAT2, root, dest, how, len(how)).Keep = keep.Slot()
}

var madeAlready = []unix.Errno{unix.EEXIST, unix.EROFS, unix.EACCES}

// mkdir makes the last directory of a path, in the one before.
func (w *writer) mkdir(dir launch.Arg, p string) {
	w.call("make "+p, unix.SYS_MKDIRAT, dir, path.Base(p), 0o755).Ok = madeAlready
}

var deviceTypes = map[string]uint32{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}

// DeviceType is a device's, as mknod(2) takes it.
func DeviceType(d specs.LinuxDevice) uint32 { return deviceTypes[d.Type] }

// devices fills /dev: nodes, the links that programs expect, and the terminal
// multiplexer of our own devpts. One that was mounted from the host has its own.
func (w *writer) devices(root launch.Arg, s *specs.Spec, nodes []launch.Arg) {
	fresh := false
	for _, m := range s.Mounts {
		if path.Clean("/"+m.Destination) == "/dev" {
			if a := readOptions(m); a.bind {
				return
			}
			fresh = m.Type == "tmpfs"
		}
	}
	dev := w.target(root, "/dev", false, fresh)
	for i, d := range s.Linux.Devices {
		if nodes != nil {
			target := w.target(root, d.Path, true, fresh)
			w.attach("take "+d.Path, nodes[i], target, "")
			w.close("take "+d.Path, target)
			continue
		}
		name, file := "make "+d.Path, path.Clean("/"+d.Path)
		dir := dev
		if path.Dir(file) != "/dev" {
			dir = w.target(root, path.Dir(file), false, false)
		}
		base := path.Base(file)
		mode := uint32(0o666)
		if d.FileMode != nil {
			mode = uint32(d.FileMode.Perm())
		}
		if !fresh { // the image's own may be anything
			w.call(name, unix.SYS_UNLINKAT, dir, base, 0).Ok = []unix.Errno{unix.ENOENT, unix.EBUSY, unix.EISDIR}
		}
		w.call(name, unix.SYS_MKNODAT, dir, base, deviceTypes[d.Type]|mode,
			unix.Mkdev(uint32(d.Major), uint32(d.Minor))).Ok = []unix.Errno{unix.EEXIST} // mounted by the configuration
		if uid, gid := number(d.UID), number(d.GID); uid|gid != 0 {
			w.call(name, unix.SYS_FCHOWNAT, dir, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
		}
		if dir.Slot() != dev.Slot() {
			w.close(name, dir)
		}
	}
	for _, l := range [][2]string{
		{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
		{"/proc/self/fd/2", "stderr"}, {"pts/ptmx", "ptmx"},
	} {
		w.call("link /dev/"+l[1], unix.SYS_SYMLINKAT, l[0], dev, l[1]).Ok = madeAlready
	}
	w.close("open /dev", dev)
}

// Files tells which bind mounts are of something that is no directory: what they
// are mounted on must be none either.
func Files(mounts []specs.Mount) []bool {
	files := make([]bool, len(mounts))
	for i, m := range mounts {
		if a := readOptions(m); a.bind && !a.remount {
			var st unix.Stat_t
			files[i] = unix.Stat(m.Source, &st) == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR
		}
	}
	return files
}

// CopiesUp tells whether a mount begins with a copy of what it covers. The parent
// makes it, where the new process has hooks run.
func CopiesUp(m specs.Mount) bool { return slices.Contains(m.Options, "tmpcopyup") }

func number(n *uint32) uint32 {
	if n == nil {
		return 0
	}
	return *n
}
