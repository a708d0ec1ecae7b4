// Command bench measures docker2013 against what it is made of and prints
// medians and ratios. Each pair is measured in turns, in one run: the machine's
// mood hits both alike.
//
//	go run ./scripts/bench -bin bin
//
// It needs root and hyperfine, and works below a folder of its own.
package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var (
	bin    = flag.String("bin", "bin", "folder of docker2013 and dockerd2013")
	rounds = flag.Int("rounds", 5, "how often the two of a pair take turns")
	runs   = flag.Int("runs", 20, "runs of each in a round")
	only   = flag.String("only", "", "unions: only those")
	quick  = flag.Bool("quick", false, "a short look: fewer runs, smaller data")
)

func main() {
	flag.Parse()
	if *quick {
		*rounds, *runs = 2, 5
	}
	if err := bench(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench() (err error) {
	work, err := os.MkdirTemp("", "docker2013-bench-")
	if err != nil {
		return err
	}
	b := &bencher{work: work}
	defer func() { err = errors.Join(err, b.stop(), os.RemoveAll(work)) }()
	if *only == "unions" {
		return b.unions()
	}
	if err := b.start(); err != nil {
		return err
	}
	if _, err := b.client("pull", "base"); err != nil {
		return err
	}
	fmt.Printf("%-46s %12s %12s %8s %8s\n", "", "ours", "theirs", "ratio", "at most")
	return errors.Join(b.startup(), b.run(), b.modern(), b.put(), b.list(), b.unions())
}

type bencher struct {
	work, tcp string
	daemon    *exec.Cmd
}

func (b *bencher) root() string { return filepath.Join(b.work, "root") }

// start starts a daemon of our own, as a user would.
func (b *bencher) start() error {
	addr := make([]string, 2)
	for i := range addr {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		addr[i] = l.Addr().String()
		if err := l.Close(); err != nil {
			return err
		}
	}
	b.tcp = addr[0]
	b.daemon = exec.Command(filepath.Join(*bin, "dockerd2013"), "--root", b.root(), "--tcp", b.tcp, "--http", addr[1],
		"--cgroup-parent", fmt.Sprintf("docker2013-bench-%d", os.Getpid()), "--log-level", "warn")
	b.daemon.Stderr = os.Stderr
	// It ends when we do, whatever our end is: a reader of ours that goes, ^C.
	b.daemon.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	runtime.LockOSThread() // the signal comes when the thread that started it ends
	if err := b.daemon.Start(); err != nil {
		return err
	}
	if err := os.Setenv("DOCKER", b.tcp); err != nil {
		return err
	}
	for range 200 {
		if _, err := b.client("version"); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.New("the daemon doesn't answer")
}

func (b *bencher) stop() error {
	if b.daemon == nil || b.daemon.Process == nil {
		return nil
	}
	return errors.Join(b.daemon.Process.Signal(syscall.SIGTERM), b.daemon.Wait())
}

func (b *bencher) client(args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(*bin, "docker2013"), args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("docker2013 %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// A run answers before the kernel has taken down all that it used. One command right
// behind the other pays for the one before; after a rest it doesn't, but finds idle
// processors asleep.
const rest = "sleep 0.05"

// bothWays measures a pair in a row, and with a rest before each command.
func bothWays(what string, limit float64, ours, theirs string) error {
	return errors.Join(pair(what, limit, ours, theirs), pair("  the same, after a rest", limit, ours, theirs, "--prepare", rest))
}

// pair measures two command lines in turns and prints their medians.
func pair(what string, limit float64, ours, theirs string, flags ...string) error {
	var a, b []float64
	for range *rounds {
		for _, side := range []struct {
			command string
			times   *[]float64
		}{{ours, &a}, {theirs, &b}} {
			t, err := hyperfine(append(flags, side.command)...)
			if err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			*side.times = append(*side.times, t...)
		}
	}
	report(what, median(a), median(b), limit)
	return nil
}

func report(what string, ours, theirs, limit float64) {
	verdict := ""
	if ours/theirs > limit {
		verdict = "  over"
	}
	fmt.Printf("%-46s %9.2f ms %9.2f ms %8.2f %8.2f%s\n", what, 1000*ours, 1000*theirs, ours/theirs, limit, verdict)
}

func hyperfine(args ...string) ([]float64, error) {
	out, err := os.CreateTemp("", "hyperfine-*.json")
	if err != nil {
		return nil, err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	line := []string{"hyperfine", "-N", "--style", "none", "--warmup", "2", "--runs", strconv.Itoa(*runs), "--export-json", out.Name()}
	line = append(line, args...)
	if _, err := os.Stat("/sys/fs/cgroup/unified"); err == nil {
		// crun refuses a host of both cgroup versions, so nobody sees the second.
		line = append([]string{"unshare", "-m", "sh", "-c", "umount /sys/fs/cgroup/unified; exec \"$@\"", "sh"}, line...)
	}
	cmd := exec.Command(line[0], line[1:]...)
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("hyperfine %s: %w\n%s", strings.Join(args, " "), err, said)
	}
	var result struct {
		Results []struct{ Times []float64 }
	}
	if err := json.NewDecoder(out).Decode(&result); err != nil {
		return nil, err
	}
	return result.Results[0].Times, nil
}

func median(times []float64) float64 {
	slices.Sort(times)
	return times[len(times)/2]
}

func (b *bencher) docker() string { return filepath.Join(*bin, "docker2013") }

// startup is the client alone: it is paid by every command.
func (b *bencher) startup() error {
	return pair("client: --help against /bin/true", 4, b.docker()+" --help", "/bin/true")
}

// mounted makes a container that has ended and whose root file system is mounted.
func (b *bencher) mounted(path string) (id string, err error) {
	if _, err := b.client("run", "--path", path, "base", "/bin/true"); err != nil {
		return "", err
	}
	list, err := b.client("ps", "-a", "-q")
	if err != nil {
		return "", err
	}
	id = strings.Fields(list)[0]
	_, err = b.client("mount", id)
	return id, err
}

// run is one container, against lxc-start with the very same config.lxc on a
// root file system that is mounted already.
func (b *bencher) run() error {
	id, err := b.mounted("classic")
	if err != nil {
		return err
	}
	config := filepath.Join(b.root(), "containers", id, "config.lxc")
	if err := bothWays("run base /bin/true against lxc-start -F", 1.3, b.docker()+" run base /bin/true",
		fmt.Sprintf("lxc-start -n %s -f %s -F -q -- /bin/true", id, config)); err != nil {
		return err
	}
	_, err = b.client("umount", id)
	return err
}

// put is an import, against tar -x of the same file. Every round has a tar of its
// own, and nothing is deleted before the end: the disk is busy with deletions
// long after they were asked for.
func (b *bencher) put() error {
	files, size, rounds := 20000, 25<<10, 3
	if *quick {
		files, rounds = 2000, 2
	}
	var ours, theirs []float64
	for i := range rounds {
		archive := filepath.Join(b.work, fmt.Sprintf("layer%d.tar", i))
		if err := makeTar(archive, files, size, byte(i)); err != nil {
			return err
		}
		dir := filepath.Join(b.work, fmt.Sprintf("untar%d", i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		t, err := timed(nil, "tar", "-x", "-f", archive, "-C", dir)
		if err != nil {
			return err
		}
		theirs = append(theirs, t)
		in, err := os.Open(archive)
		if err != nil {
			return err
		}
		t, err = timed(in, b.docker(), "put", fmt.Sprintf("layer%d", i))
		if err = errors.Join(err, in.Close()); err != nil {
			return err
		}
		ours = append(ours, t)
	}
	report(fmt.Sprintf("put of %d files, %d MB, against tar -x", files, files*size>>20), median(ours), median(theirs), 1.3)
	peak, err := b.peakMemory()
	if err != nil {
		return err
	}
	fmt.Printf("%-46s %9.1f MB\n", "the daemon's peak memory after that", float64(peak)/(1<<20))
	return nil
}

func timed(in io.Reader, name string, args ...string) (float64, error) {
	cmd := exec.Command(name, args...)
	cmd.Stdin, cmd.Stderr = in, os.Stderr
	start := time.Now()
	err := cmd.Run()
	return time.Since(start).Seconds(), err
}

// peakMemory is the daemon's high water mark (VmHWM, proc_pid_status(5)), in bytes.
func (b *bencher) peakMemory() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.daemon.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("no VmHWM in the daemon's status")
}

// makeTar makes a tar of files that don't compress, 100 in a folder.
func makeTar(path string, files, size int, seed byte) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := tar.NewWriter(f)
	random := rand.NewChaCha8([32]byte{20, 13, seed})
	content := make([]byte, size)
	for i := range files {
		if i%100 == 0 {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("d%d/", i/100), Mode: 0o755}); err != nil {
				return err
			}
		}
		if _, err := random.Read(content); err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("d%d/f%d", i/100, i), Mode: 0o644, Size: int64(size)}); err != nil {
			return err
		}
		if _, err := w.Write(content); err != nil {
			return err
		}
	}
	return w.Close()
}

// list is ps -a with 1,000 stopped containers, against version.
func (b *bencher) list() error {
	want := 1000
	if *quick {
		want = 100
	}
	list, err := b.client("ps", "-a", "-q")
	if err != nil {
		return err
	}
	for n := len(strings.Fields(list)); n < want; n++ {
		if _, err := b.client("run", "base", "/bin/true"); err != nil {
			return err
		}
	}
	return pair(fmt.Sprintf("ps -a with %d containers against version", want), 3, b.docker()+" ps -a", b.docker()+" version")
}
