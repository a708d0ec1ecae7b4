package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// unions compares AUFS in user space with the plain directory, with overlayfs and
// with fuse-overlayfs: the same operations, on the same disk, in turns.
func (b *bencher) unions() error {
	u := &unionBench{dir: filepath.Join(b.work, "unions"), mounts: map[string]string{}, times: map[string]map[string][]float64{}}
	const rounds = 3
	big, files := 1024, 50000
	if *quick {
		big, files = 256, 10000
	}
	if err := u.make(big, files); err != nil {
		return err
	}
	in := func(round int, do func() error) error {
		err := u.mountAll(round)
		if err == nil {
			err = do()
		}
		return errors.Join(err, u.unmountAll())
	}
	for round := range rounds {
		err := in(round, func() error { return u.round(round, big, files) })
		if err != nil {
			return err
		}
	}
	// Last: for minutes ext4 looks at each inode that was freed before it makes a file.
	for round := range rounds {
		err := in(round, func() error {
			return u.op("rm -r of all that", asIs, command("rm", "-r", fmt.Sprint("untar", round), fmt.Sprint("written", round)))
		})
		if err != nil {
			return err
		}
	}
	u.report()
	return nil
}

// kinds are what is compared, ours first.
var kinds = []string{"aufs-fuse", "plain", "overlay", "fuse-overlayfs"}

type unionBench struct {
	dir    string
	layers []string
	mounts map[string]string    // by kind: the root
	procs  map[string]*exec.Cmd // by kind
	order  []string             // of the operations
	times  map[string]map[string][]float64
	note   string
}

// make makes ten layers: files in folders of 50, and one large file below all.
func (u *unionBench) make(big, files int) error {
	const layers = 10
	for l := range layers {
		layer := fmt.Sprintf("%s/layer%d", u.dir, l)
		u.layers = append(u.layers, layer)
		for i := range files / layers {
			dir := fmt.Sprintf("%s/tree/d%d/l%d", layer, i/50%40, l) // d0 to d39 merge
			if i%50 == 0 {
				dir = fmt.Sprintf("%s/tree/d%d", layer, i/50%40)
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(fmt.Sprintf("%s/f%d-%d", dir, l, i), []byte("content\n"), 0o644); err != nil {
				return err
			}
		}
	}
	if err := makeTar(u.dir+"/small.tar", files*2/5, 2<<10, 1); err != nil {
		return err
	}
	_, err := timed(nil, "dd", "if=/dev/urandom", "of="+u.layers[9]+"/big", "bs=1M", fmt.Sprint("count=", big), "status=none")
	if err != nil {
		return err
	}
	for l := range u.layers { // the plain directory has what the unions show
		if _, err := timed(nil, "cp", "-a", u.layers[len(u.layers)-1-l]+"/.", u.dir+"/plain"); err != nil {
			return err
		}
	}
	_, err = timed(nil, "sync")
	return err
}

func (u *unionBench) mountAll(round int) error {
	u.procs = map[string]*exec.Cmd{}
	lower := "lowerdir=" + strings.Join(u.layers, ":")
	for _, kind := range kinds {
		root := u.dir + "/plain"
		if kind != "plain" {
			base := fmt.Sprintf("%s/%s%d", u.dir, kind, round)
			root = base + "/root"
			for _, dir := range []string{"root", "rw", "work"} {
				if err := os.MkdirAll(base+"/"+dir, 0o755); err != nil {
					return err
				}
			}
			upper := lower + ",upperdir=" + base + "/rw,workdir=" + base + "/work"
			var err error
			switch kind {
			case "overlay":
				err = syscall.Mount("overlay", root, "overlay", 0, upper)
			case "fuse-overlayfs":
				u.procs[kind] = exec.Command("fuse-overlayfs", "-f", "-o", upper, root)
			case "aufs-fuse":
				u.procs[kind] = exec.Command(filepath.Join(*bin, "docker2013-aufs"), root,
					"br:"+base+"/rw=rw:"+strings.Join(u.layers, "=ro:")+"=ro:")
			}
			if cmd := u.procs[kind]; cmd != nil {
				cmd.Stderr = os.Stderr
				err = cmd.Start()
			}
			if err != nil {
				return fmt.Errorf("mount %s: %w", kind, err)
			}
		}
		u.mounts[kind] = root
		for try := 0; ; try++ {
			if _, err := os.Lstat(root + "/big"); err == nil {
				break
			} else if try == 500 {
				return fmt.Errorf("mount %s: %w", kind, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return nil
}

func (u *unionBench) unmountAll() error {
	var errs []error
	for _, kind := range kinds {
		if kind != "plain" && u.mounts[kind] != "" {
			errs = append(errs, syscall.Unmount(u.mounts[kind], 0))
		}
		if cmd := u.procs[kind]; cmd != nil && cmd.Process != nil {
			errs = append(errs, cmd.Wait())
		}
	}
	return errors.Join(errs...)
}

// op measures an operation in all, in turns, and in another order each time: who is
// first finds less in the caches of what is below us. What the one before has written is
// on the disk by then. warm does it once before.
func (u *unionBench) op(what string, first caches, f func(root string) error) error {
	for _, i := range rand.Perm(len(kinds)) {
		kind := kinds[i]
		syscall.Sync()
		var err error
		switch first {
		case cold:
			err = os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
		case warm:
			err = f(u.mounts[kind])
		}
		if err != nil {
			return fmt.Errorf("before %s in %s: %w", what, kind, err)
		}
		start := time.Now()
		if err := f(u.mounts[kind]); err != nil {
			return fmt.Errorf("%s in %s: %w", what, kind, err)
		}
		t := time.Since(start).Seconds()
		if u.times[what] == nil {
			u.times[what] = map[string][]float64{}
			u.order = append(u.order, what)
		}
		u.times[what][kind] = append(u.times[what][kind], t)
	}
	return nil
}

type caches int

const (
	asIs caches = iota
	cold
	warm
)

func command(args ...string) func(root string) error {
	return func(root string) error {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir, cmd.Stderr = root, os.Stderr
		return cmd.Run()
	}
}

func (u *unionBench) round(round, big, files int) error {
	untar, written := fmt.Sprint("untar", round), fmt.Sprint("written", round)
	read := command("dd", "if=big", "of=/dev/null", "bs=1M", "status=none")
	find := command("find", "tree", "-newermt", "2100-01-01")
	return errors.Join(
		u.op(fmt.Sprintf("find and stat of %d files, cold", files), cold, find),
		u.op(fmt.Sprintf("find and stat of %d files, warm", files), warm, find),
		u.op(fmt.Sprintf("read of %d MB, cold", big), cold, read),
		u.op(fmt.Sprintf("read of %d MB, warm", big), warm, read),
		u.op("20,000 random reads of 4 KiB, cold", cold, randomReads),
		u.op("20,000 random reads of 4 KiB, warm", warm, randomReads),
		u.op(fmt.Sprintf("write of %d MB", big), asIs,
			command("dd", "if=/dev/zero", "of="+written, "bs=1M", fmt.Sprint("count=", big), "status=none")),
		u.op(fmt.Sprintf("untar of %d small files", files*2/5), asIs, func(root string) error {
			if err := os.Mkdir(root+"/"+untar, 0o755); err != nil {
				return err
			}
			return command("tar", "-x", "-f", u.dir+"/small.tar", "-C", untar)(root)
		}),
		u.goBuild(untar),
		u.memory(),
	)
}

// goBuild builds a program of ours from nothing, source, cache and all in the union.
func (u *unionBench) goBuild(dir string) error {
	if *quick {
		return nil
	}
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	return u.op("go build, nothing cached", asIs, func(root string) error {
		cmd := exec.Command("go", "build", "-o", root+"/"+dir+"/program", "./rcli")
		cmd.Dir = here
		cmd.Env = append(os.Environ(), "GOCACHE="+root+"/"+dir+"/cache", "GOTMPDIR="+root+"/"+dir, "CGO_ENABLED=0")
		cmd.Stderr = os.Stderr
		return cmd.Run()
	})
}

func randomReads(root string) error {
	f, err := os.Open(root + "/big")
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(20, 13))
	buf := make([]byte, 4096)
	for range 20000 {
		if _, err := f.ReadAt(buf, r.Int64N(fi.Size()/4096)*4096); err != nil {
			return err
		}
	}
	return nil
}

// memory is what a mount's process has after a find through all.
func (u *unionBench) memory() error {
	u.note = ""
	for _, kind := range kinds {
		cmd := u.procs[kind]
		if cmd == nil {
			continue
		}
		if err := command("find", ".", "-newermt", "2100-01-01")(u.mounts[kind]); err != nil {
			return err
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(status)) {
			if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
				kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
				u.note += fmt.Sprintf("%-46s %9.1f MB\n", "memory of the process of "+kind, kb/1024)
			}
		}
	}
	return nil
}

func (u *unionBench) report() {
	fmt.Printf("\n%-46s %12s %20s %20s %20s\n", "", kinds[0], kinds[1], kinds[2], kinds[3])
	for _, what := range u.order {
		ours := median(u.times[what][kinds[0]])
		fmt.Printf("%-46s %9.0f ms", what, 1000*ours)
		for _, kind := range kinds[1:] {
			theirs := median(u.times[what][kind])
			fmt.Printf(" %9.0f ms × %5.2f", 1000*theirs, ours/theirs)
		}
		fmt.Println()
	}
	fmt.Print(u.note)
}
