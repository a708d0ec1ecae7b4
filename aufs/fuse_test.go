package aufs_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"docker2013/container"
)

// union mounts one layer, made by a script that runs in it.
func (h *host) union(t testing.TB, script string) (fsys *container.Filesystem, layer string) {
	t.Helper()
	layer = filepath.Join(h.dir, "layer")
	ok(t, os.Mkdir(layer, 0o755))
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir = layer
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	fsys = h.filesystem("container", layer)
	h.mount(t, "fuse", fsys)
	return fsys, layer
}

func stat(t testing.TB, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	ok(t, unix.Lstat(path, &st))
	return st
}

func contains(t testing.TB, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s: %q, %v; want %q", path, got[:min(len(got), 100)], err, want)
	}
}

func wants(t testing.TB, what string, want, got error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// A copy is like the original to the last attribute and hole, keeps its number and
// its directory's times, and has none of what speaks of a union.
func TestCopyUp(t *testing.T) {
	h := newHost(t)
	fsys, layer := h.union(t, `mkdir d; truncate -s 64M d/sparse; echo middle | dd of=d/sparse bs=1M seek=32 conv=notrunc status=none
		chmod 4751 d/sparse; touch -d 2013-01-29 d/sparse d; mkfifo d/p; ln d/sparse d/tied`)
	original := layer + "/d/sparse"
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	for name, value := range map[string]string{"security.capability": capability, "user.a": "1",
		"trusted.b": strings.Repeat("long", 500), "trusted.overlay.opaque": "y"} {
		ok(t, unix.Setxattr(original, name, []byte(value), 0))
	}
	seen := fsys.RootFS + "/d/sparse"
	ok(t, unix.Unlink(layer+"/d/tied"))
	before, dir := stat(t, seen), stat(t, fsys.RootFS+"/d")
	ok(t, unix.Chmod(seen, 0o4755)) // copied up for that
	a, b, c := stat(t, original), stat(t, fsys.RWPath+"/d/sparse"), stat(t, seen)
	if a.Size != b.Size || a.Uid != b.Uid || a.Mtim != b.Mtim || b.Mode != unix.S_IFREG|0o4755 || b.Blocks > a.Blocks+16 {
		t.Errorf("the copy is another file:\n%+v\n%+v", a, b)
	}
	if before.Ino != c.Ino {
		t.Errorf("inode %d became %d", before.Ino, c.Ino)
	}
	if after := stat(t, fsys.RootFS+"/d"); after.Mtim != dir.Mtim {
		t.Errorf("the directory's time was %v and is %v", dir.Mtim, after.Mtim)
	}
	value := make([]byte, 3000)
	for name, want := range map[string]int{"security.capability": 20, "user.a": 1, "trusted.b": 2000, "trusted.overlay.opaque": -1} {
		if n, _ := unix.Getxattr(fsys.RWPath+"/d/sparse", name, value); n != want {
			t.Errorf("%s has %d bytes, want %d", name, n, want)
		}
	}
	entries, err := os.ReadDir(fsys.RWPath + "/.wh..wh.orph")
	if len(entries) > 0 || err != nil {
		t.Errorf("left in the work directory: %v, %v", entries, err)
	}
	h.unmount(t, "fuse", fsys)
}

// The kernel keeps attributes as long as it likes, and copy-up changes some of them:
// nobody may see the old ones.
func TestAttributesAreFresh(t *testing.T) {
	h := newHost(t)
	fsys, _ := h.union(t, `mkdir -p a/b/c d; for i in $(seq 99); do mkdir a/b/$i; done; echo 1 >a/b/c/f; echo 2 >d/f; ln d/f d/g; ln -s f d/s`)
	all := []string{".", "a", "a/b", "a/b/c", "a/b/c/f", "d", "d/f", "d/g", "d/s"}
	for _, act := range []struct{ what, script string }{
		{"nothing", ":"},
		{"opened for writing", "exec 3>>a/b/c/f"},
		{"mode of one of two names", "chmod 600 d/f"},
		{"owner of a symlink", "chown -h 5 d/s"},
		{"deleted in a layer's directory", "rmdir a/b/1"},
		{"made in a layer's directory", "mkdir a/b/2/x"},
		{"copied up to be renamed", "mv d/g a/g"},
	} {
		run(t, "ls", "-lR", fsys.RootFS) // now the kernel has them
		for _, name := range all {
			stat(t, fsys.RootFS+"/"+name)
		}
		run(t, "sh", "-euc", "cd "+fsys.RootFS+"; "+act.script)
		for _, name := range all {
			path := fsys.RootFS + "/" + name
			var kept, fresh unix.Statx_t
			err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &kept)
			if errors.Is(err, unix.ENOENT) && name == "d/g" {
				continue
			}
			ok(t, err)
			ok(t, unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &fresh))
			if kept != fresh {
				t.Errorf("%s: %s: the kernel says\n\t%+v, it is\n\t%+v", act.what, name, kept, fresh)
			}
		}
		for _, dir := range []string{fsys.RootFS, fsys.RootFS + "/a", fsys.RootFS + "/d"} {
			for line := range strings.Lines(run(t, "ls", "-1iU", dir)) { // as they are listed
				ino, name, _ := strings.Cut(strings.TrimSpace(line), " ")
				if want := stat(t, dir+"/"+name).Ino; ino != fmt.Sprint(want) {
					t.Errorf("%s: %s/%s is listed as %s, and is %d", act.what, dir, name, ino, want)
				}
			}
		}
	}
	h.unmount(t, "fuse", fsys)
}

// A full disk leaves the old file, and nothing else.
func TestDiskFull(t *testing.T) {
	h := newHost(t)
	disk := h.dir + "/container"
	ok(t, os.Mkdir(disk, 0o755))
	ok(t, unix.Mount("none", disk, "tmpfs", 0, "size=1m"))
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	fsys, _ := h.union(t, `head -c 4M /dev/zero | tr '\0' x >big`)
	seen := fsys.RootFS + "/big"
	_, err := os.OpenFile(seen, os.O_WRONLY, 0)
	wants(t, "open for writing", unix.ENOSPC, err)
	contains(t, seen, strings.Repeat("x", 4<<20))
	if used := run(t, "du", "-s", "--apparent-size", "-b", fsys.RWPath); !strings.HasPrefix(used, "1") && len(used) > 8 {
		t.Errorf("left: %s", used)
	}
	if entries, _ := os.ReadDir(fsys.RWPath + "/.wh..wh.orph"); len(entries) > 0 {
		t.Errorf("left in the work directory: %v", entries)
	}
	if err := os.WriteFile(seen, []byte("new"), 0o644); err != nil { // truncated, it has room
		t.Error(err)
	}
	contains(t, seen, "new")
	h.unmount(t, "fuse", fsys)
}

// Who reads a small file of a layer sees what another one writes, as on AUFS; a large
// one's reader keeps the layer's, as on overlayfs; either way nobody is refused.
func TestOpenAtCopyUp(t *testing.T) {
	h := newHost(t)
	fsys, _ := h.union(t, `echo old >small; head -c 1M /dev/zero | tr '\0' o >large; cp large mapped`)
	for name, follows := range map[string]bool{"small": true, "large": false} {
		path := fsys.RootFS + "/" + name
		reader, err := os.Open(path)
		ok(t, err)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		ok(t, err)
		_, err = f.WriteAt([]byte("NEW"), 0)
		ok(t, err)
		buf := make([]byte, 3)
		_, err = reader.ReadAt(buf, 0)
		ok(t, err)
		if got := string(buf) == "NEW"; got != follows {
			t.Errorf("%s: its reader reads %q", name, buf)
		}
		again, err := os.ReadFile(path)
		if err != nil || string(again[:3]) != "NEW" {
			t.Errorf("%s: read again: %.3s, %v", name, again, err)
		}
		ok(t, errors.Join(f.Close(), reader.Close()))
		contains(t, path, string(again))
	}
	// Mapped by one, shared and written by another.
	path := fsys.RootFS + "/mapped"
	reader, err := os.Open(path)
	ok(t, err)
	old, err := unix.Mmap(int(reader.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
	ok(t, err)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	ok(t, err)
	mem, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	ok(t, err)
	copy(mem, "mapped")
	ok(t, unix.Msync(mem, unix.MS_SYNC))
	got, err := os.ReadFile(fsys.RWPath + "/mapped")
	if err != nil || string(got[:6]) != "mapped" || old[0] != 'o' {
		t.Errorf("mapped: %.6s, %v; the reader has %c", got, err, old[0])
	}
	ok(t, errors.Join(unix.Munmap(mem), unix.Munmap(old), f.Close(), reader.Close()))
	h.unmount(t, "fuse", fsys)
}

// Calls that a container's programs make, and their answers.
func TestCalls(t *testing.T) {
	h := newHost(t)
	fsys, layer := h.union(t, `mkdir d other; echo 1 >d/a; echo 2 >d/b; echo 3 >c; printf '#!/bin/sh\necho ran' >run; chmod 755 run; ln c tied`)
	root := fsys.RootFS

	// Names that are AUFS's.
	for what, err := range map[string]error{
		"stat":    unix.Access(root+"/.wh.x", unix.F_OK),
		"create":  os.WriteFile(root+"/.wh.x", nil, 0o644),
		"mkdir":   os.Mkdir(root+"/d/.wh..wh..opq", 0o755),
		"rename":  os.Rename(root+"/c", root+"/.wh.c"),
		"link":    os.Link(root+"/c", root+"/.wh.c"),
		"symlink": os.Symlink("c", root+"/.wh.c"),
		"mknod":   unix.Mknod(root+"/.wh.c", unix.S_IFIFO, 0),
	} {
		wants(t, what+" of a reserved name", unix.EPERM, err)
	}
	wants(t, "a long name", unix.ENAMETOOLONG, os.WriteFile(root+"/"+strings.Repeat("n", 243), nil, 0o644))
	ok(t, os.WriteFile(root+"/"+strings.Repeat("n", 242), nil, 0o644))

	// Renames.
	re := func(a, b string, flags uint) error {
		return unix.Renameat2(unix.AT_FDCWD, root+"/"+a, unix.AT_FDCWD, root+"/"+b, flags)
	}
	wants(t, "a layer's directory", unix.EXDEV, re("d", "e", 0))
	wants(t, "noreplace", unix.EEXIST, re("d/a", "d/b", unix.RENAME_NOREPLACE))
	wants(t, "whiteout", unix.EINVAL, re("d/a", "d/z", unix.RENAME_WHITEOUT))
	wants(t, "exchange with nothing", unix.ENOENT, re("d/a", "d/z", unix.RENAME_EXCHANGE))
	ok(t, re("d/a", "d/b", unix.RENAME_EXCHANGE))
	contains(t, root+"/d/a", "2\n")
	contains(t, root+"/d/b", "1\n")
	ok(t, os.Mkdir(root+"/mine", 0o755))
	ok(t, re("mine", "d/a", unix.RENAME_EXCHANGE))
	contains(t, root+"/mine", "2\n")

	// Without a name, then with one.
	fd, err := unix.Open(root+"/other", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o640)
	ok(t, err)
	_, err = unix.Write(fd, []byte("tmp"))
	ok(t, err)
	ok(t, unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, root+"/other/named", unix.AT_SYMLINK_FOLLOW))
	ok(t, unix.Close(fd))
	contains(t, root+"/other/named", "tmp")

	// A name that goes while the file is open, then the file.
	f, err := os.OpenFile(root+"/d/b", os.O_RDWR, 0)
	ok(t, err)
	ok(t, os.Remove(root+"/d/b"))
	_, err = f.WriteString("still")
	ok(t, err)
	ok(t, f.Chmod(0o600))
	if fi, err := f.Stat(); err != nil || fi.Size() != 5 || fi.Mode() != 0o600 {
		t.Errorf("unlinked: %v, %v", fi, err)
	}
	ok(t, f.Close())

	// A layer's two names part.
	ok(t, os.WriteFile(root+"/tied", []byte("parted"), 0o644))
	contains(t, root+"/c", "3\n")
	contains(t, layer+"/tied", "3\n")

	// Who writes to a setuid file takes that away, unless he is root.
	for _, open := range []int{unix.O_WRONLY, unix.O_WRONLY | unix.O_TRUNC} {
		path := root + "/suid"
		for _, uid := range []int{1000, 0} {
			ok(t, os.WriteFile(path, []byte("setuid"), 0o777))
			ok(t, unix.Chmod(path, 0o6777))
			reader, err := os.Open(path) // by passthrough, if there is
			ok(t, err)
			stat(t, path)
			ok(t, as(uid, func() error { return write(path, open, 0, "x") }))
			want := uint32(unix.S_IFREG | 0o777)
			if uid == 0 {
				want |= 0o6000
			}
			if got := stat(t, path).Mode; got != want {
				t.Errorf("written by %d with flags %#x: mode %o, want %o", uid, open, got, want)
			}
			ok(t, reader.Close())
		}
	}

	// Locks, sizes, holes, O_DIRECT, O_APPEND.
	f, err = os.OpenFile(root+"/f", os.O_CREATE|os.O_RDWR, 0o644)
	ok(t, err)
	g, err := os.Open(root + "/f")
	ok(t, err)
	ok(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	wants(t, "locked", unix.EWOULDBLOCK, unix.Flock(int(g.Fd()), unix.LOCK_EX|unix.LOCK_NB))
	ok(t, unix.Fallocate(int(f.Fd()), 0, 0, 1<<20))
	ok(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 1<<19))
	if at, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA); at < 1<<19 && !errors.Is(err, unix.ENXIO) {
		t.Errorf("data at %d, %v", at, err)
	}
	ok(t, errors.Join(f.Close(), g.Close()))
	a, err := os.OpenFile(root+"/f", os.O_WRONLY|os.O_APPEND, 0)
	ok(t, err)
	_, err = a.WriteString("end")
	ok(t, errors.Join(err, a.Close()))
	if fi, err := os.Stat(root + "/f"); err != nil || fi.Size() != 1<<20+3 {
		t.Errorf("appended: %v, %v", fi, err)
	}
	run(t, "dd", "if="+root+"/f", "of="+root+"/direct", "iflag=direct", "oflag=direct", "bs=4096", "count=4", "status=none")
	run(t, "cmp", "-n", "16384", root+"/f", root+"/direct")

	var here, there unix.Statfs_t
	ok(t, unix.Statfs(root, &here))
	ok(t, unix.Statfs(fsys.RWPath, &there))
	if here.Blocks != there.Blocks || here.Namelen != 242 {
		t.Errorf("statfs: %+v", here)
	}
	if out := run(t, root+"/run"); out != "ran\n" {
		t.Errorf("run: %q", out)
	}
	h.unmount(t, "fuse", fsys)
}

// A directory that changes while it is read gives everything that stays, once, also
// when others read it meanwhile, who see each change at once.
func TestReadDirWhileItChanges(t *testing.T) {
	h := newHost(t)
	fsys, _ := h.union(t, `for i in $(seq 2000); do : >stays$i; : >goes$i; done`)
	dir, err := os.Open(fsys.RootFS)
	ok(t, err)
	count := map[string]int{}
	for i := 1; ; i++ {
		names, err := dir.Readdirnames(10)
		if err != nil {
			break
		}
		for _, name := range names {
			count[name]++
		}
		ok(t, os.WriteFile(fmt.Sprintf("%s/new%d", fsys.RootFS, i), nil, 0o644))
		gone := os.Remove(fmt.Sprintf("%s/goes%d", fsys.RootFS, i))
		if gone == nil {
			ok(t, os.Chmod(fmt.Sprintf("%s/stays%d", fsys.RootFS, i), 0o600))
		}
		if i%8 != 0 {
			continue
		}
		all, err := os.ReadDir(fsys.RootFS)
		ok(t, err)
		listed := map[string]bool{}
		for _, e := range all {
			listed[e.Name()] = true
		}
		if len(listed) != len(all) || !listed[fmt.Sprint("new", i)] || listed[fmt.Sprint("goes", i)] {
			t.Fatalf("after step %d: %d names, %d different ones; new: %v, gone: %v", i, len(all), len(listed),
				listed[fmt.Sprint("new", i)], !listed[fmt.Sprint("goes", i)])
		}
	}
	for i := 1; i <= 2000; i++ {
		if n := count[fmt.Sprint("stays", i)]; n != 1 {
			t.Fatalf("stays%d came %d times", i, n)
		}
	}
	ok(t, dir.Close())
	h.unmount(t, "fuse", fsys)
}

// A place in a directory (telldir(3)) stays what it is, whatever comes and goes, and for
// everybody who has the directory open.
func TestSeekDir(t *testing.T) {
	h := newHost(t)
	fsys, _ := h.union(t, `for i in $(seq 500); do : >stays$i; : >goes$i; done`)
	type place struct {
		name string
		next int64
	}
	read := func(fd int) (list []place) {
		buf := make([]byte, 4096)
		for {
			n, err := unix.Getdents(fd, buf)
			ok(t, err)
			if n == 0 {
				return list
			}
			for at := 0; at < n; {
				var e fuse.DirEntry
				at += e.Parse(buf[at:n])
				if !strings.HasPrefix(e.Name, "goes") && e.Name != "new" {
					list = append(list, place{e.Name, int64(e.Off)})
				}
			}
		}
	}
	var fds [2]int
	for i := range fds {
		var err error
		fds[i], err = unix.Open(fsys.RootFS, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		ok(t, err)
	}
	places := read(fds[0])
	if len(places) != 502 {
		t.Fatalf("%d names", len(places))
	}
	for _, change := range []string{"true", "rm goes?", "touch new", "rm goes*; chmod 600 stays1*", "rm new; echo 3 >/proc/sys/vm/drop_caches"} {
		run(t, "sh", "-euc", "cd "+fsys.RootFS+"; "+change)
		for i := 0; i < len(places); i += 50 {
			for _, fd := range fds {
				_, err := unix.Seek(fd, places[i].next, unix.SEEK_SET)
				ok(t, err)
				if got := read(fd); !slices.Equal(got, places[i+1:]) {
					t.Fatalf("%s: after %s come %d of %d names", change, places[i].name, len(got), len(places)-i-1)
				}
			}
		}
	}
	ok(t, errors.Join(unix.Close(fds[0]), unix.Close(fds[1])))
	h.unmount(t, "fuse", fsys)
}

// What was read once is read again without asking the mount's process.
func TestReadDirAsksOnce(t *testing.T) {
	h := newHost(t)
	fsys, _ := h.union(t, `for i in $(seq 300); do mkdir d$i; : >d$i/f; done`)
	tree := func() string {
		return run(t, "find", fsys.RootFS, "-newermt", "2100-01-01") + run(t, "ls", "-R", fsys.RootFS)
	}
	first := tree()
	requests := writes(t, pid(t))
	if requests < 300 {
		t.Fatalf("%d answers for 300 directories: they aren't counted", requests)
	}
	if second := tree(); second != first {
		t.Errorf("first %d bytes, then %d", len(first), len(second))
	}
	if more := writes(t, pid(t)) - requests; more > 20 {
		t.Errorf("the process wrote %d answers for what the kernel had", more)
	}
	h.unmount(t, "fuse", fsys)
}

// writes is how often a process has called write(2) and its like.
func writes(t testing.TB, pid int) (n int) {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	ok(t, err)
	_, rest, _ := strings.Cut(string(data), "syscw:")
	_, err = fmt.Sscan(rest, &n)
	ok(t, err)
	return n
}

// As many branches as AUFS takes, and more.
func TestManyBranches(t *testing.T) {
	h := newHost(t)
	var layers []string
	for i := range 300 {
		layer := filepath.Join(h.dir, fmt.Sprintf("layer-with-a-name-as-long-as-they-are-%08d", i))
		ok(t, os.MkdirAll(layer+"/d", 0o755))
		ok(t, os.WriteFile(fmt.Sprintf("%s/d/%d", layer, i), []byte{byte(i)}, 0o644))
		layers = append(layers, layer)
	}
	fsys := h.filesystem("container", layers...)
	h.mount(t, "fuse", fsys)
	entries, err := os.ReadDir(fsys.RootFS + "/d")
	if len(entries) != 300 || err != nil {
		t.Errorf("%d entries, %v", len(entries), err)
	}
	contains(t, fsys.RootFS+"/d/299", "+")
	h.unmount(t, "fuse", fsys)
}

// pid is the process of a mount, found as anybody would.
func pid(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	ok(t, err)
	for _, e := range entries {
		exe, _ := os.Readlink("/proc/" + e.Name() + "/exe")
		if exe != program {
			continue
		}
		fds, _ := filepath.Glob("/proc/" + e.Name() + "/fd/*")
		for _, fd := range fds {
			if to, _ := os.Readlink(fd); to == "/dev/fuse" {
				n, _ := strconv.Atoi(e.Name())
				return n
			}
		}
	}
	t.Fatal("no process of a mount")
	return 0
}

// A process that dies or stops is seen and reported; nothing hangs; what was mounted
// can be unmounted, or mounted again.
func TestDeadProcess(t *testing.T) {
	for name, kill := range map[string]unix.Signal{"killed": unix.SIGKILL, "stopped": unix.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			fsys, _ := h.union(t, `echo 1 >f; mkdir d`)
			user, err := os.Open(fsys.RootFS + "/d") // it is in use
			ok(t, err)
			victim := pid(t)
			ok(t, unix.Kill(victim, kill))
			if kill == unix.SIGKILL {
				for end := time.Now().Add(5 * time.Second); !strings.Contains(h.log.String(), "died") && time.Now().Before(end); {
					time.Sleep(10 * time.Millisecond)
				}
				if !strings.Contains(h.log.String(), "died") {
					t.Errorf("nothing is said: %s", h.log)
				}
				_, err = os.ReadFile(fsys.RootFS + "/f")
				wants(t, "read", unix.ENOTCONN, err)
			} else {
				t.Cleanup(func() { _ = unix.Kill(victim, unix.SIGKILL) })
				stopped(t, victim)
			}
			if mounted, err := h.fuse.Mounted(fsys); !mounted || err != nil {
				t.Errorf("mounted: %v, %v", mounted, err)
			}
			if kill == unix.SIGKILL {
				ok(t, h.fuse.Mount(t.Context(), fsys)) // over the dead one
				contains(t, fsys.RootFS+"/f", "1\n")
			}
			h.unmount(t, "fuse", fsys)
			_ = unix.Kill(victim, unix.SIGCONT)
			if mounted, _ := h.fuse.Mounted(fsys); mounted {
				t.Error("still mounted")
			}
			ok(t, user.Close())
		})
	}
}

// stopped waits until all threads of a process have stopped: one that still runs
// answers, and then the mount is in use, not dead.
func stopped(t testing.TB, pid int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		ok(t, err)
		running := 0
		for _, task := range tasks {
			data, err := os.ReadFile(task)
			if _, rest, _ := strings.Cut(string(data), ") "); err == nil && !strings.HasPrefix(rest, "T") {
				running++
			}
		}
		if running == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d threads of process %d go on", running, pid)
		}
	}
}

// kill -9 of the process in the middle of writing: after a new mount each file is
// the old one or the new one, whole, and nothing is left in the work directory.
func TestKilledWhileWriting(t *testing.T) {
	h := newHost(t)
	const files, size = 40, 300_000
	old := bytes.Repeat([]byte("old\n"), size/4)
	fsys, _ := h.union(t, fmt.Sprintf(`for i in $(seq 0 %d); do yes old | head -c %d >f$i; done; mkdir d; for i in $(seq 50); do : >d/$i; done`, files-1, size))
	r := rand.New(rand.NewPCG(uint64(os.Getpid()), 0))
	for round := range 12 {
		if round > 0 {
			h.mount(t, "fuse", fsys)
		}
		fresh := bytes.Repeat(fmt.Appendf(nil, "%03d\n", round), size/4)
		victim := pid(t)
		done := make(chan error)
		go func() {
			r := rand.New(rand.NewPCG(uint64(os.Getpid()), uint64(round+1)))
			for {
				i := r.IntN(files)
				path := fmt.Sprintf("%s/f%d", fsys.RootFS, i)
				var err error
				switch r.IntN(4) {
				case 0: // replaced as good programs do it
					err = os.WriteFile(path+".tmp", fresh, 0o644)
					if err == nil {
						err = os.Rename(path+".tmp", path)
					}
				case 1: // copied up, unchanged
					err = os.Chmod(path, os.FileMode(0o600+round))
				case 2: // renamed, and back
					err = os.Rename(path, path+".moved")
					if err == nil {
						err = os.Rename(path+".moved", path)
					}
				case 3:
					if err = os.RemoveAll(fsys.RootFS + "/d"); err == nil {
						err = os.Mkdir(fsys.RootFS+"/d", 0o755)
					}
				}
				if err != nil {
					done <- err
					return
				}
			}
		}()
		time.Sleep(time.Duration(r.IntN(60)) * time.Millisecond)
		ok(t, unix.Kill(victim, unix.SIGKILL))
		if err := <-done; !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) && !errors.Is(err, unix.EIO) { // before a call, in it, or as it was read
			log, _ := os.ReadFile(filepath.Dir(fsys.RWPath) + "/aufs.log")
			t.Fatalf("the writer: %v\n%s", err, log)
		}
		h.mount(t, "fuse", fsys) // the dead one is detached
		for i := range files {
			data, err := os.ReadFile(fmt.Sprintf("%s/f%d", fsys.RootFS, i))
			if errors.Is(err, os.ErrNotExist) {
				data, err = os.ReadFile(fmt.Sprintf("%s/f%d.moved", fsys.RootFS, i))
				ok(t, os.Rename(fmt.Sprintf("%s/f%d.moved", fsys.RootFS, i), fmt.Sprintf("%s/f%d", fsys.RootFS, i)))
			}
			if err != nil || !bytes.Equal(data, old) && (len(data) != size || len(bytes.ReplaceAll(data, data[:4], nil)) > 0) {
				t.Fatalf("round %d: f%d has %d bytes, %.4q, %v", round, i, len(data), data, err)
			}
			if _, err := os.Lstat(fmt.Sprintf("%s/f%d.moved", fsys.RootFS, i)); err == nil {
				t.Fatalf("round %d: f%d has two names", round, i)
			}
		}
		if entries, err := os.ReadDir(fsys.RWPath + "/.wh..wh.orph"); len(entries) > 0 || err != nil {
			t.Fatalf("left in the work directory: %v, %v", entries, err)
		}
		h.unmount(t, "fuse", fsys)
	}
}

// Many at once, in each other's way. What it must not do: hang, lose a name, end.
func TestTogether(t *testing.T) {
	h := newHost(t)
	fsys, _ := h.union(t, `mkdir -p a/b c; for i in $(seq 20); do echo $i >a/$i; ln a/$i $i; echo $i >a/b/$i; head -c 200K /dev/zero >c/$i; done`)
	var group sync.WaitGroup
	end := time.Now().Add(3 * time.Second)
	for worker := range 8 {
		group.Go(func() {
			r := rand.New(rand.NewPCG(uint64(worker), 7))
			path := func() string {
				return filepath.Join(fsys.RootFS, []string{"a", "a/b", "c", "."}[r.IntN(4)], strconv.Itoa(1+r.IntN(20)))
			}
			own := filepath.Join(fsys.RootFS, fmt.Sprint("own", worker))
			for i := 0; time.Now().Before(end); i++ {
				switch r.IntN(9) {
				case 0:
					_ = os.WriteFile(path(), []byte("new"), 0o644)
				case 1:
					_, _ = os.ReadFile(path())
				case 2:
					_ = os.Rename(path(), path())
				case 3:
					_ = os.Remove(path())
				case 4:
					_ = os.Link(path(), path())
				case 5:
					_ = os.Chmod(path(), 0o600)
				case 6:
					_, _ = os.ReadDir(filepath.Dir(path()))
				case 7:
					_ = os.Mkdir(path(), 0o755)
				case 8: // nobody else touches it
					text := fmt.Sprint("own ", i)
					if err := os.WriteFile(own, []byte(text), 0o644); err != nil {
						t.Error(err)
					}
					if got, err := os.ReadFile(own); err != nil || string(got) != text {
						t.Errorf("%q, %v", got, err)
					}
				}
			}
		})
	}
	group.Wait()
	before := snapshot(t, fsys.RootFS)
	h.unmount(t, "fuse", fsys)
	h.mount(t, "fuse", fsys)
	same(t, "mounted anew", before, snapshot(t, fsys.RootFS))
	h.unmount(t, "fuse", fsys)
	if said := h.log.String(); said != "" {
		t.Error(said)
	}
}
