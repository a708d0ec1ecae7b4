package overlay

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"docker2013/container"
)

// maxLayers is the kernel's OVL_MAX_STACK (fs/overlayfs/params.h).
const maxLayers = 500

// settings are the options that don't depend on the container; the package's
// doc says why.
var settings = [][2]string{
	{"redirect_dir", "nofollow"}, {"metacopy", "off"}, {"index", "off"}, {"xino", "off"},
}

// mount is what overlayfs is asked for.
type mount struct {
	lower       []string // top first
	upper, work string
}

// data is the option string, as after `mount -t overlay -o`.
func (m *mount) data() string {
	var b strings.Builder
	for i, dir := range m.lower {
		b.WriteString([]string{"lowerdir=", ":"}[min(i, 1)])
		b.WriteString(escape(dir))
	}
	fmt.Fprintf(&b, ",upperdir=%s,workdir=%s", escape(m.upper), escape(m.work))
	for _, s := range settings {
		fmt.Fprintf(&b, ",%s=%s", s[0], s[1])
	}
	if container.UserXattrs {
		b.WriteString(",userxattr")
	}
	return b.String()
}

// escape protects what means something in the option string (ovl_unescape and
// ovl_parse_param_split_lowerdirs in fs/overlayfs).
func escape(path string) string { return escapes.Replace(path) }

var escapes = strings.NewReplacer(`\`, `\\`, ":", `\:`, ",", `\,`)

// at mounts at rootfs; data is the option string. mount(2) copies one page of it at
// most; a stack that is too deep for that goes through the newer calls, which take
// the layers one by one (Linux 6.7).
func (m *mount) at(rootfs, data string) error {
	if len(m.lower) == 0 {
		return errors.New("there is no layer to mount")
	}
	if len(m.lower) > maxLayers {
		return fmt.Errorf("%d layers are too many, overlayfs takes %d", len(m.lower), maxLayers)
	}
	if len(data) < os.Getpagesize() {
		if err := unix.Mount("overlay", rootfs, "overlay", 0, data); err != nil {
			return &fs.PathError{Op: "mount overlayfs", Path: rootfs, Err: err}
		}
		return nil
	}
	err := m.oneByOne(rootfs)
	if errors.Is(err, errOld) {
		return fmt.Errorf("%d layers make %d bytes of options, mount(2) takes %d: %w",
			len(m.lower), len(data), os.Getpagesize()-1, err)
	}
	return err
}

var errOld = errors.New("this kernel can't take them one by one, Linux 6.7 can")

// oneByOne mounts with fsopen(2), fsconfig(2), fsmount(2), move_mount(2).
func (m *mount) oneByOne(rootfs string) error {
	fsfd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENOSYS) {
		return errOld
	}
	if err != nil {
		return fmt.Errorf("fsopen overlay: %w", err)
	}
	defer unix.Close(fsfd)

	for i, dir := range m.lower {
		err := set(fsfd, "lowerdir+", dir)
		if i == 0 && errors.Is(err, unix.EINVAL) {
			return errOld
		}
		if err != nil {
			return err
		}
	}
	options := append([][2]string{{"upperdir", m.upper}, {"workdir", m.work}}, settings...)
	for _, o := range options {
		if err := set(fsfd, o[0], o[1]); err != nil {
			return err
		}
	}
	if container.UserXattrs {
		if err := unix.FsconfigSetFlag(fsfd, "userxattr"); err != nil {
			return fmt.Errorf("overlayfs: userxattr: %w%s", err, messages(fsfd))
		}
	}
	if err := unix.FsconfigCreate(fsfd); err != nil {
		return fmt.Errorf("create overlayfs: %w%s", err, messages(fsfd))
	}
	mfd, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("fsmount overlay: %w", err)
	}
	defer unix.Close(mfd)
	if err := unix.MoveMount(mfd, "", unix.AT_FDCWD, rootfs, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move mount to %s: %w", rootfs, err)
	}
	return nil
}

// set sets one parameter. A string is limited to 255 bytes (fsconfig(2)) and
// can still be unescaped by the kernel; a path can be given as an open
// directory instead (Linux 6.13).
func set(fsfd int, key, value string) error {
	if len(value) < 256 && !strings.Contains(value, `\`) {
		if err := unix.FsconfigSetString(fsfd, key, value); err != nil {
			return fmt.Errorf("overlayfs: %s=%s: %w%s", key, value, err, messages(fsfd))
		}
		return nil
	}
	dir, err := unix.Open(value, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: value, Err: err}
	}
	defer unix.Close(dir)
	if err := unix.FsconfigSetFd(fsfd, key, dir); err != nil {
		return fmt.Errorf("overlayfs: %s=%s: %w%s", key, value, err, messages(fsfd))
	}
	return nil
}

// messages is what the kernel has to say about a failure, a line each, which is
// read from the context itself.
func messages(fsfd int) string {
	var b strings.Builder
	buf := make([]byte, 1024)
	for {
		n, err := unix.Read(fsfd, buf)
		if err != nil || n <= 0 {
			return b.String()
		}
		b.WriteString(": " + strings.TrimSpace(string(buf[:n])))
	}
}
