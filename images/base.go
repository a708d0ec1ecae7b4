package images

import (
	"archive/tar"
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"time"
)

// The programs of the image base, and the Debian packages they are from.
const (
	bashStatic    = "/bin/bash-static" // bash-static
	busyboxStatic = "/bin/busybox"     // busybox-static
)

// baseTime is every file's time in base: that of the commit we replay. The same
// programs make the same layer, on any day.
var baseTime = time.Date(2013, time.January, 29, 0, 0, 0, 0, time.UTC)

// BaseLayer writes the layer of the image base to w: a small root file system
// made of this host's static bash and busybox, with what a shell expects. It
// needs no network.
func BaseLayer(w io.Writer) error {
	applets, err := busyboxApplets()
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 256<<10)
	b := &baseTar{w: tar.NewWriter(out), done: map[string]bool{}}
	for _, dir := range []string{
		"./", "bin/", "dev/", "dev/pts/", "dev/shm/", "etc/", "home/", "lib/", "mnt/", "opt/", "proc/", "run/",
		"sbin/", "srv/", "sys/", "usr/", "usr/bin/", "usr/lib/", "usr/local/", "usr/local/bin/", "usr/local/sbin/",
		"usr/sbin/", "usr/share/", "var/", "var/lib/", "var/log/",
	} {
		b.dir(dir, 0o755)
	}
	b.dir("root/", 0o700)
	b.dir("tmp/", 0o1777)
	b.dir("var/tmp/", 0o1777)
	for name, content := range map[string]string{
		"etc/passwd":        "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
		"etc/group":         "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
		"etc/hosts":         "127.0.0.1\tlocalhost\n::1\tlocalhost\n",
		"etc/hostname":      "base\n",
		"etc/resolv.conf":   "", // the host's is mounted on it
		"etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
		"etc/shells":        "/bin/sh\n/bin/bash\n",
		"etc/profile":       "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
		"etc/os-release":    "NAME=\"docker2013 base\"\nID=docker2013\nPRETTY_NAME=\"docker2013 base: bash and busybox\"\n",
		"root/.bashrc":      "alias ll='ls -l'\n",
	} {
		b.files = append(b.files, baseFile{name, content})
	}
	slices.SortFunc(b.files, func(x, y baseFile) int { return strings.Compare(x.name, y.name) })
	for _, f := range b.files {
		b.file(f.name, strings.NewReader(f.content), int64(len(f.content)), 0o644)
	}
	b.program("bin/bash", bashStatic, "bash-static")
	b.program("bin/busybox", busyboxStatic, "busybox-static")
	b.link("bin/sh", "bash")
	for _, applet := range applets {
		b.link(applet, "/bin/busybox")
	}
	if b.err == nil {
		b.err = b.w.Close()
	}
	if b.err == nil {
		b.err = out.Flush()
	}
	if b.err != nil {
		return fmt.Errorf("make base: %w", b.err)
	}
	return nil
}

type baseFile struct{ name, content string }

// baseTar writes a tar until the first error.
type baseTar struct {
	w     *tar.Writer
	files []baseFile
	done  map[string]bool // the first of a name stays
	err   error
}

func (b *baseTar) header(h tar.Header) bool {
	if b.err != nil || b.done[path.Clean(h.Name)] {
		return false
	}
	b.done[path.Clean(h.Name)] = true
	h.ModTime = baseTime
	b.err = b.w.WriteHeader(&h)
	return b.err == nil
}

func (b *baseTar) dir(name string, mode int64) {
	b.header(tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode})
}

func (b *baseTar) link(name, target string) {
	b.header(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777})
}

func (b *baseTar) file(name string, r io.Reader, size, mode int64) {
	if b.header(tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: mode}) {
		_, b.err = io.Copy(b.w, r)
	}
}

// program copies one of the host's programs.
func (b *baseTar) program(name, from, pkg string) {
	if b.err != nil {
		return
	}
	f, err := os.Open(from)
	if err != nil {
		b.err = missing(from, pkg, err)
		return
	}
	defer f.Close() // opened to read
	if err := checkStatic(f, pkg); err != nil {
		b.err = err
		return
	}
	fi, err := f.Stat()
	if err != nil {
		b.err = err
		return
	}
	b.file(name, f, fi.Size(), 0o755)
}

// checkStatic refuses a program that needs shared libraries, which base has not:
// the Debian package busybox, too, has a /bin/busybox.
func checkStatic(f *os.File, pkg string) error {
	program, err := elf.NewFile(f)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s needs shared libraries: apt-get install %s", f.Name(), pkg)
		}
	}
	return nil
}

func missing(program, pkg string, err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%s is not there: apt-get install %s", program, pkg)
	}
	return err
}

// busyboxApplets are the paths of busybox's programs, such as "bin/ls", as it
// lists them itself.
func busyboxApplets() ([]string, error) {
	out, err := exec.Command(busyboxStatic, "--list-full").Output()
	if err != nil {
		return nil, fmt.Errorf("make base: %w", missing(busyboxStatic, "busybox-static", err))
	}
	var applets []string
	for line := range bytes.Lines(out) {
		name := path.Clean(strings.TrimSpace(string(line)))
		if dir := path.Dir(name); dir == "bin" || dir == "sbin" || dir == "usr/bin" || dir == "usr/sbin" {
			applets = append(applets, name)
		}
	}
	slices.Sort(applets)
	return applets, nil
}
