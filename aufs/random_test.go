package aufs_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"docker2013/container"
)

var (
	seeds = flag.Int("seeds", 4, "how many random histories TestRandom plays")
	steps = flag.Int("steps", 150, "of how many steps each, per image")
)

// The same random history in a plain directory, in AUFS in user space and in
// overlayfs. After every step the trees seen and the errors must be the same; after
// every image the unions, mounted anew, must show them again, must say the same in
// Changes, and the layers that they write must make the same image, also when the
// other union mounts it.
func TestRandom(t *testing.T) {
	h := newHost(t)
	for seed := range *seeds {
		t.Run(fmt.Sprint("seed-", seed), func(t *testing.T) {
			history(t, h.sub(t), rand.New(rand.NewPCG(uint64(seed), 1)), *steps)
		})
	}
}

// FuzzHistory is TestRandom with a history that the fuzzer finds.
func FuzzHistory(f *testing.F) {
	newHost(f)
	for seed := range byte(4) {
		r := rand.New(rand.NewPCG(uint64(seed), 2))
		data := make([]byte, 200)
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		history(t, newHost(t), &tape{data: data[:min(len(data), 400)]}, 200)
	})
}

// chance decides what happens next.
type chance interface{ IntN(n int) int }

// tape decides by the fuzzer's bytes, and then always 0.
type tape struct{ data []byte }

func (t *tape) IntN(n int) int {
	if len(t.data) == 0 {
		return 0
	}
	b := t.data[0]
	t.data = t.data[1:]
	return int(b) % n
}

func (t *tape) over() bool { return len(t.data) == 0 }

func history(t *testing.T, h *host, r chance, n int) {
	base := filepath.Join(h.dir, "layer-0")
	makeBase(t, base)
	plain := filepath.Join(h.dir, "plain")
	run(t, "cp", "-a", base, plain)
	layers := map[string][]string{"fuse": {base}, "overlay": {base}}
	for image := range 3 {
		unions := map[string]*container.Filesystem{}
		for name := range layers {
			unions[name] = h.filesystem(fmt.Sprint(name, image), layers[name]...)
			h.mount(t, name, unions[name])
		}
		w := &world{t: t, r: r, roots: []string{plain, unions["fuse"].RootFS, unions["overlay"].RootFS}, image: image}
		w.play(n)
		w.close()
		w.untie()
		for name, fsys := range unions {
			h.unmount(t, name, fsys)
			h.mount(t, name, fsys)
			same(t, name+", mounted anew", unlinked(snapshot(t, plain)), unlinked(snapshot(t, fsys.RootFS)))
			h.unmount(t, name, fsys)
		}
		a, err := h.unions["fuse"].Changes(unions["fuse"])
		ok(t, err)
		b, err := h.unions["overlay"].Changes(unions["overlay"])
		ok(t, err)
		if !slices.Equal(a, b) {
			t.Errorf("changes:\n\taufs-fuse %v\n\toverlay   %v\n%s", a, b, strings.Join(w.log, "\n"))
		}
		for name, other := range map[string]string{"fuse": "overlay", "overlay": "fuse"} {
			var layer bytes.Buffer
			ok(t, h.unions[name].WriteLayer(t.Context(), unions[name], &layer))
			dir := filepath.Join(h.dir, fmt.Sprint("layer-", name, image))
			unpack(t, &layer, dir)
			layers[name] = append([]string{dir}, layers[name]...)
			fsys := h.filesystem(fmt.Sprint("again-", name, image), layers[name]...)
			h.mount(t, other, fsys)
			same(t, "the image of "+name+"'s layer in "+other, unlinked(snapshot(t, plain)), unlinked(snapshot(t, fsys.RootFS)))
			h.unmount(t, other, fsys)
		}
		if t.Failed() {
			return
		}
	}
}

// makeBase makes an image of few names, that meet those of the history.
func makeBase(t testing.TB, dir string) {
	ok(t, os.Mkdir(dir, 0o755))
	script := `mkdir -p a/b/c d/e; echo one >a/f; echo two >a/b/g; echo three >e; echo four >d/e/f; : >d/g
		ln -s a/f b; ln -s /nowhere d/s; mkfifo d/p; mknod c c 1 3; chmod 4755 e; chown 1000:1000 d a/f; chmod 1777 a/b
		truncate -s 100K a/hole; echo end >>a/hole; mkdir g; chmod 2775 g; chown :1000 g
		find . -exec touch -h -d '2013-01-29 12:34:56.789' {} +`
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("base: %v\n%s", err, out)
	}
	ok(t, unix.Setxattr(dir+"/d/g", "user.k", []byte("v"), 0))
}

// world is one tree at several places. roots[0] is the plain one, roots[1] AUFS's.
type world struct {
	t     testing.TB
	r     chance
	roots []string
	image int      // which image of the history this is
	open  [4][]int // descriptors, one for each root but overlayfs's; -1: none
	log   []string
}

func (w *world) play(n int) {
	w.t.Helper()
	for i := range w.open {
		w.open[i] = nil
	}
	for step := range n {
		if tape, ok := w.r.(*tape); ok && tape.over() {
			return
		}
		w.step()
		want := snapshot(w.t, w.roots[0])
		for i, root := range w.roots[1:] {
			want, got := want, snapshot(w.t, root)
			if w.image > 0 || i == 1 { // overlayfs makes hard links of layers that have marks
				want, got = unlinked(want), unlinked(got)
			}
			if diff := difference(want, got); diff != "" {
				w.t.Fatalf("after step %d, %s\nin %s:\n%s", step, strings.Join(w.log[max(0, len(w.log)-8):], "\n\t"), root, diff)
			}
		}
	}
}

func (w *world) close() {
	for i := range w.open {
		for _, fd := range w.open[i] {
			_ = unix.Close(fd)
		}
		w.open[i] = nil
	}
}

// untie makes each name a file of its own: in a layer, names of one file part when
// one of them is copied up, in both unions.
func (w *world) untie() {
	for _, root := range w.roots {
		for path, facts := range snapshot(w.t, root) {
			if strings.HasPrefix(facts, "14") { // tar has no sockets
				ok(w.t, os.Remove(root+"/"+path))
			} else if strings.Contains(facts, " is ") {
				run(w.t, "cp", "-a", "--remove-destination", root+"/"+path, root+"/.untied")
				ok(w.t, os.Rename(root+"/.untied", root+"/"+path))
			}
		}
	}
}

// do does the same everywhere, as a user, and compares the answers.
func (w *world) do(uid int, what string, f func(root string) error) error {
	w.t.Helper()
	var first error
	for i, root := range w.roots {
		err := as(uid, func() error { return f(root) })
		var errno unix.Errno
		errors.As(err, &errno)
		if i == 0 {
			first = err
			w.log = append(w.log, fmt.Sprintf("%s as %d: %v", what, uid, err))
			continue
		}
		var want unix.Errno
		errors.As(first, &want)
		if errno != want {
			w.t.Fatalf("%s: %v in the plain directory, %v in %s\n\t%s\n%v", what, want, errno, root, strings.Join(w.log[max(0, len(w.log)-8):], "\n\t"), snapshot(w.t, w.roots[0]))
		}
	}
	return first
}

// as does something with a user's rights to files.
func as(uid int, f func() error) error {
	if uid == 0 {
		return f()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Setfsgid(uid)
	_ = unix.Setfsuid(uid)
	defer func() { _ = unix.Setfsuid(0); _ = unix.Setfsgid(0) }()
	return f()
}

var names = []string{"a", "b", "c", "d", "e", "f", "g"}

func (w *world) pick(n int) int { return w.r.IntN(n) }

// path is a path that exists, mostly, or the place of a new one.
func (w *world) path() string {
	var paths []string
	for path := range snapshot(w.t, w.roots[0]) {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	path := paths[w.pick(len(paths))]
	if w.pick(3) == 0 || path == "." {
		path = filepath.Join(path, names[w.pick(len(names))])
	}
	return path
}

// step does one thing. That it fails is as good.
func (w *world) step() {
	path, other := w.path(), w.path()
	uid := []int{0, 0, 0, 1000}[w.pick(4)]
	mode := []uint32{0o644, 0o4755, 0o600, 0o2775, 0o1777, 0o700}[w.pick(6)]
	at := func(root, path string) string { return root + "/" + path }
	one := func(what string, f func(path string) error) error {
		return w.do(uid, what+" "+path, func(root string) error { return f(at(root, path)) })
	}
	switch op := w.pick(22); op {
	case 0, 1, 2: // written whole, appended to, or in the middle
		flags := []int{unix.O_TRUNC, unix.O_APPEND, 0, unix.O_EXCL, unix.O_TRUNC | unix.O_EXCL}[w.pick(5)]
		text := strings.Repeat(string(rune('A'+w.pick(26))), []int{1, 10, 5000}[w.pick(3)])
		_ = one("write", func(path string) error { return write(path, flags|unix.O_CREAT, mode, text) })
	case 3:
		_ = one("mkdir", func(path string) error { return unix.Mkdir(path, mode) })
	case 4, 5:
		_ = one("unlink", unix.Unlink)
	case 6, 7:
		_ = one("rmdir", unix.Rmdir)
	case 8:
		if strings.Contains(path, "/") { // else nothing lasts
			_ = one("rm -r", func(path string) error {
				if _, err := os.Lstat(path); err != nil { // RemoveAll opens what isn't a directory
					return err
				}
				return os.RemoveAll(path)
			})
		}
	case 9, 10, 11:
		flags := []int{0, 0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE}[w.pick(5)]
		w.rename(uid, path, other, flags)
	case 12:
		_ = w.do(uid, "link "+path+" "+other, func(root string) error { return unix.Link(at(root, path), at(root, other)) })
	case 13:
		target := []string{"a", ".", "/nowhere", "b", "a/f"}[w.pick(5)]
		_ = one("symlink "+target, func(path string) error { return unix.Symlink(target, path) })
	case 14:
		_ = one(fmt.Sprintf("chmod %o", mode), func(path string) error { return chmod(path, mode) })
	case 15:
		a, b := []int{0, 1000, -1}[w.pick(3)], []int{0, 1000, -1}[w.pick(3)]
		_ = one(fmt.Sprintf("chown %d:%d", a, b), func(path string) error { return unix.Lchown(path, a, b) })
	case 16:
		size := []int64{0, 1, 7000}[w.pick(3)]
		_ = one(fmt.Sprint("truncate ", size), func(path string) error { return truncate(path, size) })
	case 17:
		kind := []uint32{unix.S_IFIFO, unix.S_IFCHR, unix.S_IFSOCK, unix.S_IFREG}[w.pick(4)]
		_ = one("mknod", func(path string) error { return unix.Mknod(path, kind|mode, int(unix.Mkdev(1, 3))) })
	case 18:
		key := []string{"user.k", "user.l", "trusted.m"}[w.pick(3)]
		value := []byte{byte(w.pick(256))}
		flags := []int{0, 0, unix.XATTR_CREATE, unix.XATTR_REPLACE}[w.pick(4)]
		_ = one("setxattr "+key, func(path string) error { return unix.Lsetxattr(path, key, value, flags) })
	case 19:
		key := []string{"user.k", "user.l", "trusted.m"}[w.pick(3)]
		_ = one("removexattr "+key, func(path string) error { return unix.Lremovexattr(path, key) })
	case 20:
		ts := unix.NsecToTimespec(time.Date(2013, 1, 29, w.pick(24), 0, 0, 1000*w.pick(256), time.UTC).UnixNano())
		_ = one("utimes", func(path string) error {
			return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
		})
	case 21:
		w.handles(path)
	}
}

// rename compares with what mv does where a union has to say EXDEV.
func (w *world) rename(uid int, from, to string, flags int) {
	w.t.Helper()
	what := fmt.Sprintf("rename %s %s flags %d", from, to, flags)
	mv := func(root string) error {
		return unix.Renameat2(unix.AT_FDCWD, root+"/"+from, unix.AT_FDCWD, root+"/"+to, uint(flags))
	}
	answers := map[string]error{}
	exdev := 0
	for _, root := range w.roots[1:] {
		answers[root] = as(uid, func() error { return mv(root) })
		if answers[root] == unix.EXDEV {
			exdev++
		}
	}
	if exdev != 0 && exdev != len(w.roots)-1 {
		w.t.Fatalf("%s: %v\n\t%s", what, answers, strings.Join(w.log[max(0, len(w.log)-8):], "\n\t"))
	}
	_ = w.do(uid, what, func(root string) error {
		switch answer, done := answers[root]; {
		case exdev > 0:
			return nil // nothing has happened in the unions
		case done:
			return answer
		}
		return mv(root)
	})
}

// handles opens, reads, writes and closes files that meanwhile become something
// else. Not in overlayfs, where who reads a file doesn't see it change.
func (w *world) handles(path string) {
	w.t.Helper()
	slot := w.pick(len(w.open))
	roots := w.roots[:2]
	if len(w.open[slot]) == 0 {
		flags := []int{unix.O_RDONLY, unix.O_RDWR}[w.pick(2)]
		if w.open[slot] = nil; flags == unix.O_RDWR {
			roots = w.roots // it is copied up: there too
		}
		var fds []int
		for _, root := range roots {
			fd, err := unix.Open(root+"/"+path, flags|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err == nil {
				var st unix.Stat_t
				ok(w.t, unix.Fstat(fd, &st))
				if st.Mode&unix.S_IFMT == unix.S_IFREG {
					fds = append(fds, fd)
					continue
				}
				_ = unix.Close(fd)
			}
		}
		w.log = append(w.log, fmt.Sprintf("open %s flags %d as %d: %d", path, flags, slot, len(fds)))
		if len(fds) != 0 && len(fds) != len(roots) {
			w.t.Fatalf("open %s: works in %d of %d", path, len(fds), len(roots))
		}
		w.open[slot] = fds
		return
	}
	var answers []string
	op := w.pick(6)
	for _, fd := range w.open[slot] {
		answer := ""
		var st unix.Stat_t
		switch op {
		case 0, 1:
			n, err := unix.Pwrite(fd, []byte("handle"), int64(op*3000))
			answer = fmt.Sprint("write ", n, err)
		case 2:
			buf := make([]byte, 10000)
			n, err := unix.Pread(fd, buf, 0)
			answer = fmt.Sprintf("read %d %v %x", n, err, sha256.Sum256(buf))
		case 3:
			err := unix.Fchmod(fd, 0o640)
			answer = fmt.Sprint("chmod ", err)
		case 4:
			answer = fmt.Sprint("truncate ", unix.Ftruncate(fd, 3))
		case 5:
			answer = fmt.Sprint("close ", unix.Close(fd))
		}
		if op < 5 {
			ok(w.t, unix.Fstat(fd, &st))
			if answer += fmt.Sprintf(" %o %d %d:%d", st.Mode, st.Size, st.Uid, st.Gid); w.image == 0 {
				answer += fmt.Sprintf(" %d links", st.Nlink)
			}
		}
		answers = append(answers, answer)
	}
	w.log = append(w.log, fmt.Sprint("handle ", slot, " ", answers))
	// overlayfs must do it too where it is open there, but is not compared.
	if answers[0] != answers[1] {
		w.t.Fatalf("%s", strings.Join(w.log[max(0, len(w.log)-12):], "\n\t"))
	}
	if op == 3 && len(w.open[slot]) == 2 {
		// A reader's fchmod copies up; overlayfs does by name what it may by handle.
		fd, err := unix.Open(w.find(w.open[slot][0]), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == nil {
			_ = unix.Fchmod(fd, 0o640)
			_ = unix.Close(fd)
		}
	}
	if op == 5 {
		w.open[slot] = nil
	}
}

// find is overlayfs's path of what is open in the plain directory, "" if it has none.
func (w *world) find(fd int) string {
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	rel, in := strings.CutPrefix(path, w.roots[0]+"/")
	if err != nil || !in || len(w.roots) < 3 {
		return ""
	}
	return w.roots[2] + "/" + rel
}

func write(path string, flags int, mode uint32, text string) error {
	fd, err := unix.Open(path, flags|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, mode)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte(text))
	return errors.Join(err, unix.Close(fd))
}

// chmod and truncate follow no symlink: it may lead out.
func chmod(path string, mode uint32) error {
	if target, err := os.Readlink(path); err == nil {
		return fmt.Errorf("to %s", target)
	}
	return unix.Chmod(path, mode)
}

func truncate(path string, size int64) error {
	if target, err := os.Readlink(path); err == nil {
		return fmt.Errorf("to %s", target)
	}
	return unix.Truncate(path, size)
}

// tree is all there is to see of a directory: a line of facts for each path.
type tree map[string]string

var began = time.Now()

func snapshot(t testing.TB, root string) tree {
	t.Helper()
	found := tree{}
	type inode struct{ dev, ino uint64 }
	first := map[inode]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		ok(t, err)
		name, err := filepath.Rel(root, path)
		ok(t, err)
		var st unix.Stat_t
		ok(t, unix.Lstat(path, &st))
		if d.Type() != fs.FileMode(0) != (st.Mode&unix.S_IFMT != unix.S_IFREG) {
			t.Fatalf("%s: d_type %v, mode %o", path, d.Type(), st.Mode)
		}
		mtime := time.Unix(st.Mtim.Unix()).UTC().Format("15:04:05.000000000")
		if time.Unix(st.Mtim.Unix()).After(began.Add(-time.Second)) {
			mtime = "now"
		}
		facts := []string{fmt.Sprintf("%06o %d:%d %s", st.Mode, st.Uid, st.Gid, mtime)}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(path)
			ok(t, err)
			facts = append(facts, fmt.Sprintf("%d bytes %x, %d links", len(data), sha256.Sum256(data), st.Nlink))
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			ok(t, err)
			facts = append(facts, "-> "+target)
		case unix.S_IFCHR, unix.S_IFBLK:
			facts = append(facts, fmt.Sprintf("device %x", st.Rdev))
		}
		facts = append(facts, xattrs(t, path)...)
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			id := inode{st.Dev, st.Ino}
			if other, ok := first[id]; ok {
				facts = append(facts, "is "+other)
			} else {
				first[id] = name
			}
		}
		found[name] = strings.Join(facts, " ")
		return nil
	})
	ok(t, err)
	return found
}

func xattrs(t testing.TB, path string) (list []string) {
	t.Helper()
	buf := make([]byte, 4096)
	n, err := unix.Llistxattr(path, buf)
	ok(t, err)
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		// What a union notes, on its branch's root.
		if name == "" || strings.HasPrefix(name, "trusted.overlay.") || name == container.MarksXattr {
			continue
		}
		value := make([]byte, 4096)
		n, err := unix.Lgetxattr(path, name, value)
		ok(t, err)
		list = append(list, fmt.Sprintf("%s=%q", name, value[:n]))
	}
	slices.Sort(list)
	return list
}

// unlinked leaves out how many names the files have.
func unlinked(tr tree) tree {
	short := tree{}
	for path, facts := range tr {
		short[path] = links.ReplaceAllString(facts, "")
	}
	return short
}

var links = regexp.MustCompile(`, \d+ links`)

func difference(want, got tree) string {
	var diff []string
	paths := maps.Clone(want)
	maps.Copy(paths, got)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		if want[path] != got[path] {
			diff = append(diff, fmt.Sprintf("%s\n\twant %s\n\tgot  %s", path, want[path], got[path]))
		}
	}
	return strings.Join(diff, "\n")
}

func same(t testing.TB, what string, want, got tree) {
	t.Helper()
	if diff := difference(want, got); diff != "" {
		t.Fatalf("%s:\n%s", what, diff)
	}
}
