package aufs

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"docker2013/container"
	"docker2013/trace"
)

// FuseName is what Filesystem.Union records of a mount in user space.
const FuseName = "aufs-fuse"

// ErrNoFUSE: the kernel has no FUSE, or the program isn't there.
var ErrNoFUSE = errors.New("no aufs in user space")

// Fuse mounts AUFS's branches with the program docker2013-aufs. It implements
// container.Union.
//
// Each mount has a process, which belongs to the mount: it outlives the daemon, and
// ends when the mount does. Should it die before, whoever uses the mount gets
// ENOTCONN; that is reported, and Mount and Unmount detach what is left.
type Fuse struct {
	Union   // everything but the mount itself is the same
	program string
	log     *slog.Logger

	waiting chan *server // one that waits for an order, to save its start
	mu      sync.Mutex
	servers map[string]*server // by RootFS; those that we have started
}

var _ container.Union = (*Fuse)(nil)

// server is the process of a mount, or one that waits for its order.
type server struct {
	cmd       *exec.Cmd
	order     io.WriteCloser
	answer    *os.File
	unmounted bool          // its end is expected; guarded by Fuse.mu
	ended     chan struct{} // closed
	how       error         // how it ended
}

// NewFuse takes the program docker2013-aufs. ErrNoFUSE: it can't be used here.
func NewFuse(program string, log *slog.Logger) (*Fuse, error) {
	if _, err := exec.LookPath(program); err != nil {
		return nil, fmt.Errorf("%w: the program is missing: %w", ErrNoFUSE, err)
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: try `modprobe fuse`: %w", ErrNoFUSE, err)
	}
	_ = f.Close()
	u := &Fuse{program: program, log: log, waiting: make(chan *server, 1), servers: map[string]*server{}}
	go u.wait()
	return u, nil
}

// Name is "aufs-fuse".
func (*Fuse) Name() string { return FuseName }

// Mount mounts RWPath and the layers at RootFS, see container.Union. RWPath is
// created if it isn't there, with owner and mode of the image's root directory.
func (u *Fuse) Mount(ctx context.Context, fsys *container.Filesystem) error {
	span := trace.Step(ctx, "union.mount", "union", FuseName,
		"rootfs", fsys.RootFS, "rw", fsys.RWPath, "layers", len(fsys.Layers))
	if err := u.mount(span, fsys); err != nil {
		return span.End(fmt.Errorf("aufs-fuse: mount %s: %w", fsys.RootFS, err))
	}
	return span.End(nil)
}

func (u *Fuse) mount(span *trace.Span, fsys *container.Filesystem) error {
	if mounted, err := u.Mounted(fsys); err != nil {
		return err
	} else if mounted && alive(fsys.RootFS) {
		return container.ErrMounted
	} else if mounted {
		if err := u.detachDead(fsys.RootFS); err != nil {
			return err
		}
	}
	data, err := branches(fsys.RWPath, fsys.Layers)
	if err != nil {
		return err
	}
	span.Set("data", data)
	_, err = os.Lstat(fsys.RWPath)
	isNew := errors.Is(err, fs.ErrNotExist)
	if err := prepare(fsys); err != nil {
		return err
	}
	if isNew && len(fsys.Layers) > 0 {
		if err := likeRoot(fsys.RWPath, fsys.Layers[0]); err != nil {
			return err
		}
	}
	s, err := u.start(fsys, data)
	if err != nil {
		return errors.Join(err, os.Remove(fsys.RootFS))
	}
	span.Set("pid", s.cmd.Process.Pid)
	fsys.Union = FuseName
	return nil
}

// likeRoot gives the new branch, whose root will be the container's, owner, mode and
// times of the image's root directory.
func likeRoot(rw, layer string) error {
	var st unix.Stat_t
	if err := unix.Stat(layer, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: layer, Err: err}
	}
	err := unix.Chown(rw, int(st.Uid), int(st.Gid))
	if err == nil {
		err = unix.Chmod(rw, st.Mode&0o7777)
	}
	if err == nil {
		err = unix.UtimesNanoAt(unix.AT_FDCWD, rw, []unix.Timespec{st.Atim, st.Mtim}, 0)
	}
	if err != nil {
		return &fs.PathError{Op: "set attributes", Path: rw, Err: err}
	}
	return nil
}

// startTimeout is longer than a mount waits for an earlier one of its branch.
const startTimeout = 20 * time.Second

// start gives the order to a process, and returns when it has mounted.
func (u *Fuse) start(fsys *container.Filesystem, data string) (*server, error) {
	s, err := u.take()
	if err != nil {
		return nil, err
	}
	defer s.answer.Close()
	_ = s.answer.SetReadDeadline(time.Now().Add(startTimeout))
	line := ""
	err = json.NewEncoder(s.order).Encode(order{fsys.RootFS, data, logFile(fsys)})
	if err == nil {
		line, err = bufio.NewReader(s.answer).ReadString('\n')
	}
	_ = s.order.Close()
	if line = strings.TrimSpace(line); line != ready {
		_ = s.cmd.Process.Kill()
		<-s.ended
		return nil, fmt.Errorf("%s: %s", filepath.Base(u.program), cmp.Or(line, fmt.Sprint(errors.Join(err, s.how))))
	}
	u.mu.Lock()
	u.servers[fsys.RootFS] = s
	u.mu.Unlock()
	go u.watch(s, *fsys)
	return s, nil
}

// order and ready are the words of docker2013-aufs, see Order and Ready in fusefs,
// which isn't linked here.
type order struct{ Dir, Branches, Log string }

const ready = "mounted"

// refill is how long after a mount the next process is started, if no unmount comes
// before: its start would take a processor from the container's.
const refill = 100 * time.Millisecond

// take gives a process that waits.
func (u *Fuse) take() (*server, error) {
	time.AfterFunc(refill, u.wait)
	select {
	case s := <-u.waiting:
		select {
		case <-s.ended: // somebody has killed it
			_, _ = s.order.Close(), s.answer.Close()
		default:
			return s, nil
		}
	default:
	}
	return u.spawn()
}

// wait starts a process that waits, unless there is one: its start takes as long as
// a mount may.
func (u *Fuse) wait() {
	if len(u.waiting) > 0 {
		return
	}
	s, err := u.spawn()
	if err != nil {
		return // the next mount will say so
	}
	select {
	case u.waiting <- s:
	default: // another was quicker
		_, _ = s.order.Close(), s.answer.Close()
	}
}

func (u *Fuse) spawn() (*server, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(u.program)
	cmd.Stdout, cmd.Dir = write, "/"
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true} // Ctrl-C is for the daemon
	s := &server{cmd: cmd, answer: read, ended: make(chan struct{})}
	if s.order, err = cmd.StdinPipe(); err == nil {
		err = cmd.Start()
	}
	_ = write.Close()
	if err != nil {
		_ = read.Close()
		return nil, err
	}
	go func() {
		s.how = cmd.Wait()
		close(s.ended)
	}()
	return s, nil
}

// watch waits for the end of a mount's process.
func (u *Fuse) watch(s *server, fsys container.Filesystem) {
	<-s.ended
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.servers[fsys.RootFS] == s {
		delete(u.servers, fsys.RootFS)
	}
	if s.how != nil && !s.unmounted {
		u.log.Error("aufs-fuse: the process of a mount died; its container has no files any more: stop it, then start it again",
			"rootfs", fsys.RootFS, "pid", s.cmd.Process.Pid, "how", s.how, "said", said(&fsys))
	}
}

// expect notes that the process of a mount may end.
func (u *Fuse) expect(rootfs string) *server {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.servers[rootfs]
	if s != nil {
		s.unmounted = true
	}
	return s
}

// Unmount unmounts RootFS and removes it, see container.Union. If it stays in use
// the error is EBUSY, and it is still mounted. A mount whose process is dead is
// detached, in use or not.
func (u *Fuse) Unmount(ctx context.Context, fsys *container.Filesystem) error {
	span := trace.Step(ctx, "union.umount", "union", FuseName,
		"rootfs", fsys.RootFS, "rw", fsys.RWPath, "layers", len(fsys.Layers))
	if err := u.unmount(ctx, fsys); err != nil {
		return span.End(fmt.Errorf("aufs-fuse: unmount %s: %w", fsys.RootFS, err))
	}
	return span.End(nil)
}

func (u *Fuse) unmount(ctx context.Context, fsys *container.Filesystem) error {
	if mounted, err := u.Mounted(fsys); err != nil {
		return err
	} else if !mounted {
		return container.ErrNotMounted
	}
	if !alive(fsys.RootFS) {
		if err := u.detachDead(fsys.RootFS); err != nil {
			return err
		}
	} else {
		s := u.expect(fsys.RootFS)
		if err := container.Detach(ctx, fsys.RootFS); err != nil {
			u.unexpect(s)
			return err
		}
	}
	go u.wait()
	if info, err := os.Stat(logFile(fsys)); err == nil && info.Size() == 0 {
		_ = os.Remove(logFile(fsys))
	}
	// Never RemoveAll: were it still mounted, all of rw/ would go.
	return os.Remove(fsys.RootFS)
}

func (u *Fuse) unexpect(s *server) {
	if s != nil {
		u.mu.Lock()
		defer u.mu.Unlock()
		s.unmounted = false
	}
}

// patience is how long a mount's process may take to answer.
const patience = 5 * time.Second

// alive tells whether a mount's process answers. A dead one's mount says ENOTCONN; a
// stopped one's nothing.
func alive(rootfs string) bool {
	answer := make(chan bool, 1)
	go func() {
		var st unix.Statfs_t
		err := unix.EINTR
		for err == unix.EINTR { // Go's own signals, as long as nobody answers
			err, _ = unix.Statfs(rootfs, &st).(unix.Errno)
		}
		answer <- err != unix.ENOTCONN && err != unix.ECONNABORTED
	}()
	select {
	case ok := <-answer:
		return ok
	case <-time.After(patience):
		return false
	}
}

// detachDead takes a mount without a process away, from whoever uses it.
func (u *Fuse) detachDead(rootfs string) error {
	u.log.Warn("aufs-fuse: the process of a mount is dead or doesn't answer; detaching the mount", "rootfs", rootfs)
	return unix.Unmount(rootfs, unix.MNT_FORCE|unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
}

// Close waits for the processes of what was unmounted; they have no more to do. Nobody
// mounts any more.
func (u *Fuse) Close() error {
	var ending []*server
	select {
	case s := <-u.waiting:
		_ = s.order.Close()
		ending = append(ending, s)
	default:
	}
	u.mu.Lock()
	for _, s := range u.servers {
		if s.unmounted {
			ending = append(ending, s)
		}
	}
	u.mu.Unlock()
	for _, s := range ending {
		select {
		case <-s.ended:
		case <-time.After(patience):
			return fmt.Errorf("aufs-fuse: process %d goes on after its mount", s.cmd.Process.Pid)
		}
	}
	return nil
}

// logFile is where the process of a mount writes what goes wrong.
func logFile(fsys *container.Filesystem) string {
	return filepath.Join(filepath.Dir(fsys.RWPath), "aufs.log")
}

// said is the end of that.
func said(fsys *container.Filesystem) string {
	text, _ := os.ReadFile(logFile(fsys)) // it is for a message
	text = bytes.TrimSpace(text)
	return strings.ToValidUTF8(string(text[max(0, len(text)-2000):]), "?")
}
