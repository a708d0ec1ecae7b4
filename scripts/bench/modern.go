package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"docker2013/compare"
)

// modern measures the modern path: one container, many, a stream, and what a
// container that stays costs.
func (b *bencher) modern() error {
	id, err := b.mounted("modern")
	if err != nil {
		return err
	}
	rootfs := filepath.Join(b.root(), "containers", id, "rootfs")
	err = bothWays("run --path modern against unshare", 1.5, b.docker()+" run --path modern base /bin/true",
		"unshare -muinpf --mount-proc chroot "+rootfs+" /bin/true")
	err = errors.Join(err, b.crun(id, rootfs))
	if _, uerr := b.client("umount", id); uerr != nil {
		err = errors.Join(err, uerr)
	}
	return errors.Join(err, b.fourAtATime(), b.stream(), b.staying())
}

// crun runs the same config.json, with its cgroups and without.
func (b *bencher) crun(id, rootfs string) error {
	if _, err := exec.LookPath("crun"); err != nil {
		fmt.Printf("%-46s not measured: crun is missing: apt-get install crun\n", "run --path modern against crun")
		return nil
	}
	bundle, name := filepath.Join(b.work, "crun-bundle"), fmt.Sprintf("docker2013-bench-crun-%d", os.Getpid())
	if err := compare.WriteBundle(bundle, filepath.Join(b.root(), "containers", id, "bundle"), rootfs, "/"+name, []string{"/bin/true"}); err != nil {
		return err
	}
	ours := b.docker() + " run --path modern base /bin/true"
	for _, how := range []struct{ what, flag string }{{"crun", ""}, {"crun without cgroups", " --cgroup-manager=disabled"}} {
		theirs := fmt.Sprintf("crun --root %s%s run --bundle %s %s", filepath.Join(b.work, "crun"), how.flag, bundle, name)
		if err := pair("run --path modern against "+how.what, 1, ours, theirs); err != nil {
			return err
		}
	}
	return nil
}

// fourAtATime is the rate of short containers.
func (b *bencher) fourAtATime() error {
	n := 200
	if *quick {
		n = 20
	}
	work := make(chan struct{}, n)
	for range n {
		work <- struct{}{}
	}
	close(work)
	var wg sync.WaitGroup
	errs := make(chan error, n)
	start := time.Now()
	for range 4 {
		wg.Go(func() {
			for range work {
				_, err := b.client("run", "--path", "modern", "base", "/bin/true")
				errs <- err
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	fmt.Printf("%-46s %9.1f a second\n", fmt.Sprintf("%d modern runs, 4 at a time", n), float64(n)/took.Seconds())
	return nil
}

// stream is output through the log to the client.
func (b *bencher) stream() (err error) {
	size := int64(512 << 20)
	if *quick {
		size >>= 3
	}
	big := filepath.Join(b.work, "big")
	f, err := os.Create(big)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return err
	}
	cmd := exec.Command(b.docker(), "run", "--path", "modern", "-v", big+":/big", "base", "/bin/cat", "/big")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, out)
	if err := errors.Join(err, cmd.Wait()); err != nil {
		return err
	}
	if n != size {
		return fmt.Errorf("%d bytes came of %d", n, size)
	}
	fmt.Printf("%-46s %9.0f MB/s  at least 500\n", fmt.Sprintf("run --path modern … cat of %d MB", size>>20), float64(size)/1e6/time.Since(start).Seconds())
	return nil
}

// staying is the memory of a container that runs: its shim, and a sleep.
func (b *bencher) staying() error {
	n := 50
	var ids []string
	for range n {
		id, err := b.client("run", "--path", "modern", "-d", "base", "/bin/sleep", "1000")
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	time.Sleep(2 * time.Second) // what the start needed has been given back
	total, shims := int64(0), 0
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		cmdline, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if !strings.HasPrefix(string(cmdline), "docker2013-shim\x00"+b.root()) {
			continue
		}
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if pss, err := compare.PSS(pid); err == nil {
			total, shims = total+pss, shims+1
		}
	}
	if shims < n {
		return fmt.Errorf("%d shims of %d were found", shims, n)
	}
	fmt.Printf("%-46s %9.2f MB  at most 2\n", fmt.Sprintf("a running modern container's shim (PSS, of %d)", shims), float64(total)/float64(shims)/(1<<20))
	_, err = b.client(append([]string{"kill"}, ids...)...)
	return err
}
