package chapters

import (
	"bufio"
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// StepTime is how long a script may run; it should take two seconds.
const StepTime = 60 * time.Second

// maxLine is how much of a line of output is kept.
const maxLine = 4096

// markKey is the variable that all processes of the course have: the shell's folder,
// which tells whose they are.
const markKey = "DOCKER2013_COURSE="

//go:embed shell.sh
var prelude []byte

//go:embed daemon.sh
var daemonScript []byte // among every chapter's files

// Shell is the bash of one chapter or exercise on one path. It owns what its scripts
// make, see the package's doc. Its methods are not for several goroutines.
type Shell struct {
	host  *Host
	label string // its value: "04-classic", "04-hunt-whiteout"
	dir   string // the shell's folder; w/, files/ and state/ are in it
	lock  *os.File
	env   []string
	mark  string // in the environment of all its processes

	output *os.File // where scripts write
	got    chan string
	done   chan struct{}
}

// Open makes the shell of a chapter on a path.
func (h *Host) Open(ctx context.Context, c *Chapter, path Path) (*Shell, error) {
	return h.open(ctx, c, c.ID+"-"+string(path), fmt.Sprintf("%02d-%s", c.Number, path), path, true)
}

// open makes a shell named name. Fresh: what one before it left is removed first;
// else it is taken over.
func (h *Host) open(ctx context.Context, c *Chapter, name, label string, path Path, fresh bool) (*Shell, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the course makes namespaces and mounts: be root, with sudo")
	}
	s := &Shell{host: h, label: label, dir: filepath.Join(h.dir(), name), mark: markKey + filepath.Join(h.dir(), name)}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, err
	}
	if err := s.acquire(name); err != nil {
		return nil, err
	}
	err := s.prepare(ctx, c, path, fresh)
	if err != nil {
		return nil, errors.Join(err, s.lock.Close())
	}
	return s, nil
}

// acquire makes sure that nobody else plays in this folder.
func (s *Shell) acquire(name string) error {
	lock, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return errors.Join(fmt.Errorf("somebody else plays %s on this daemon: end that first", name), lock.Close())
	}
	s.lock = lock
	return nil
}

func (s *Shell) prepare(ctx context.Context, c *Chapter, path Path, fresh bool) error {
	if fresh {
		if err := s.purge(ctx); err != nil {
			return fmt.Errorf("clean up what was left: %w", err)
		}
	}
	for _, sub := range []string{"w", "state", "files"} {
		if err := os.MkdirAll(filepath.Join(s.dir, sub), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(s.dir, "files", "daemon.sh"), daemonScript, 0o644); err != nil {
		return err
	}
	if err := s.copyFiles(c); err != nil {
		return err
	}
	if err := os.WriteFile(s.state("prelude"), prelude, 0o644); err != nil {
		return err
	}
	if fresh {
		images, err := s.host.courseImages(ctx)
		if err != nil {
			return err
		}
		if err := s.keep("images", images); err != nil {
			return err
		}
	}
	s.env = append(cleanEnv(), s.host.variables(s.dir, c, path)...)
	s.env = append(s.env, "PATH="+s.host.Bin+":"+os.Getenv("PATH"), "DOCKER2013_LABEL="+labelKey+"="+s.label, "COURSE="+s.host.Name(),
		"COURSE_STATE="+s.state(""), "BASH_ENV="+s.state("prelude"), s.mark)
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	s.output, s.got, s.done = w, make(chan string), make(chan struct{})
	go s.read(r)
	return nil
}

// variables are what every script finds in its environment.
func (h *Host) variables(dir string, c *Chapter, path Path) []string {
	return []string{
		"W=" + filepath.Join(dir, "w"), "FILES=" + filepath.Join(dir, "files"), "CHAPTER=" + c.ID,
		"DOCKER=" + h.Addr, "HTTP=" + h.HTTP, "ROOT=" + h.Root, "DOCKER2013_PATH=" + string(path),
	}
}

// W is the folder that the scripts work in.
func (s *Shell) W() string { return filepath.Join(s.dir, "w") }

func (s *Shell) state(name string) string { return filepath.Join(s.dir, "state", name) }

// cleanEnv is our environment without what would change what scripts show.
func cleanEnv() []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return strings.HasPrefix(name, "DOCKER2013_") || strings.HasPrefix(name, "LC_") ||
			slices.Contains([]string{"PATH", "DOCKER", "HTTP", "ROOT", "W", "FILES", "CHAPTER", "LANG", "LANGUAGE", "TERM", "COLUMNS", "LINES", "BASH_ENV", "ENV"}, name)
	})
	return append(env, "LC_ALL=C.UTF-8", "TERM=dumb")
}

// copyFiles gives the scripts the chapter's files.
func (s *Shell) copyFiles(c *Chapter) error {
	return fs.WalkDir(c.dir, "files", func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path == "files" {
			return nil
		}
		if err != nil {
			return err
		}
		to := filepath.Join(s.dir, path)
		if d.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		data, err := fs.ReadFile(c.dir, path)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if strings.HasPrefix(string(data), "#!") {
			mode = 0o755 // what is embedded has no mode
		}
		return os.WriteFile(to, data, mode)
	})
}

// read passes on the lines that scripts write, for as long as anybody can write.
func (s *Shell) read(r *os.File) {
	defer close(s.got)
	defer r.Close()
	in := bufio.NewReaderSize(r, maxLine)
	for {
		line, prefix, err := in.ReadLine()
		if err != nil {
			return
		}
		text := strings.TrimRight(string(line), "\r")
		for prefix && err == nil { // the rest of a long line
			_, prefix, err = in.ReadLine()
		}
		select {
		case s.got <- text:
		case <-s.done:
		}
	}
}

// errTime is how a script ended that ran too long.
var errTime = errors.New("it ran too long")

// Run runs a script and hands each line of its output, stdout and stderr as they
// come, to line. It returns the exit status. An end of ctx ends the script. What it
// started in the background goes on.
func (s *Shell) Run(ctx context.Context, name, script string, line func(string)) (status int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, StepTime, errTime)
	defer cancel()
	cmd := exec.Command("bash", "-c", script+"\n", name)
	cmd.Env, cmd.Dir = s.env, s.W()
	cmd.Stdout, cmd.Stderr = s.output, s.output
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true} // a terminal's ^C is for us
	if err := cmd.Start(); err != nil {
		return -1, err
	}
	// What was written before the end stands in the pipe before this line.
	end := "end of script " + rand.Text()
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		_, werr := io.WriteString(s.output, end+"\n")
		ended <- errors.Join(err, werr)
	}()
	stop := ctx.Done()
	var look, again, kill <-chan time.Time
	var deaf []string
	for {
		select {
		case text, ok := <-s.got:
			if !ok {
				return -1, errors.New("the shell's output is closed")
			}
			if rest, is := strings.CutSuffix(text, end); is {
				if rest != "" {
					line(rest)
				}
				err := <-ended
				var exit *exec.ExitError
				switch {
				case context.Cause(ctx) != nil && stop == nil:
					return -1, context.Cause(ctx)
				case errors.As(err, &exit):
					return exitStatus(exit), nil
				}
				return 0, err
			}
			line(text)
		case <-stop:
			stop = nil
			// The whole group: bash runs its traps when what it waits for has ended.
			_ = unix.Kill(-cmd.Process.Pid, unix.SIGTERM)
			look, again = time.After(100*time.Millisecond), time.After(time.Second)
			kill = time.After(10 * time.Second) // as long as its traps may take on a busy machine
		case <-look: // one that was just being forked hasn't heard it, and bash waits for it
			deaf = childrenOf(cmd.Process.Pid)
		case <-again:
			for _, child := range childrenOf(cmd.Process.Pid) {
				if pid, err := strconv.Atoi(child); err == nil && slices.Contains(deaf, child) {
					_ = unix.Kill(pid, unix.SIGTERM)
				}
			}
		case <-kill:
			_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		}
	}
}

func childrenOf(pid int) []string {
	return strings.Fields(content(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid)))
}

// exitStatus is that of a shell: 128 and more for a signal.
func exitStatus(exit *exec.ExitError) int {
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return exit.ExitCode()
}

// Close removes all that the shell's scripts made.
func (s *Shell) Close(ctx context.Context) error {
	err := s.stop()
	err = errors.Join(err, s.purge(ctx), os.Remove(s.dir))
	_ = os.Remove(s.host.dir()) // the last one's
	return errors.Join(err, s.lock.Close())
}

// Leave ends the shell and leaves what it made, for a later one.
func (s *Shell) Leave() error { return errors.Join(s.stop(), s.lock.Close()) }

func (s *Shell) stop() error {
	close(s.done)
	return s.output.Close()
}

// purge removes what is there of this shell's, whoever made it.
func (s *Shell) purge(ctx context.Context) error {
	killMarked(s.mark + "\x00")
	_, err := s.host.removeContainers(ctx, labelKey+"="+s.label)
	if exists(s.state("images")) {
		keep := s.kept("images")
		others, _ := filepath.Glob(filepath.Join(s.host.dir(), "*", "state"))
		for _, state := range others {
			if state != s.state("") {
				keep = append(keep, (&Shell{dir: filepath.Dir(state)}).kept("made")...)
			}
		}
		_, rerr := s.host.removeImages(ctx, keep)
		err = errors.Join(err, rerr)
	}
	return errors.Join(err, removeRun(s.dir), removeTree(s.dir, false))
}

// removeRun removes what LXC, started by hand on a folder, keeps of it in /run/lxc.
func removeRun(dir string) (err error) {
	for _, base := range []string{"/run/lxc/lock", "/run/lxc"} {
		err = errors.Join(err, os.RemoveAll(base+dir))
		for up := filepath.Dir(base + dir); len(up) > len(base) && os.Remove(up) == nil; up = filepath.Dir(up) {
		}
	}
	return err
}

// The state file images lists the course's images that were there before the shell;
// made, which an exercise has, those that are its own.

func (s *Shell) keep(name string, images []string) error {
	return os.WriteFile(s.state(name), []byte(strings.Join(images, "\n")), 0o644)
}

func (s *Shell) kept(name string) []string { return strings.Fields(content(s.state(name))) }

// keepMade notes the images that the exercise has come to.
func (s *Shell) keepMade(ctx context.Context) error {
	images, err := s.host.courseImages(ctx)
	if err != nil {
		return err
	}
	before := s.kept("images")
	return s.keep("made", slices.DeleteFunc(images, func(id string) bool { return slices.Contains(before, id) }))
}

// killMarked kills the processes that have a mark in their environment, and waits
// until they are gone.
func killMarked(mark string) (killed []string) {
	for range 100 {
		found := marked(mark)
		if len(found) == 0 {
			return killed
		}
		for pid, name := range found {
			if !slices.Contains(killed, name) {
				killed = append(killed, name)
			}
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return killed
}

// marked finds processes by how a variable of their environment begins; with a NUL at
// its end mark is all of it.
func marked(mark string) map[int]string {
	found := map[int]string{}
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil || !strings.Contains("\x00"+string(data), "\x00"+mark) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(file, "/proc/%d/environ", &pid); err != nil || pid == os.Getpid() {
			continue
		}
		cmdline := strings.Fields(strings.ReplaceAll(content(fmt.Sprintf("/proc/%d/cmdline", pid)), "\x00", " "))
		found[pid] = fmt.Sprintf("%d %.60s", pid, strings.Join(cmdline, " "))
	}
	return found
}

// removeTree removes what is in a folder, and the folder too if asked to. What is
// mounted there is unmounted first, and never walked into.
func removeTree(dir string, itself bool) error {
	for _, m := range mountsBelow(dir) {
		if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", m, err)
		}
	}
	if left := mountsBelow(dir); len(left) > 0 {
		return fmt.Errorf("%s is still mounted: nothing there is removed", left[0])
	}
	if itself {
		return os.RemoveAll(dir)
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// mountsBelow are the mount points in a folder, the last mounted first.
func mountsBelow(dir string) []string {
	var list []string
	for _, m := range mountPoints() {
		if m == dir || strings.HasPrefix(m, dir+"/") {
			list = append(list, m)
		}
	}
	slices.Reverse(list)
	return list
}

// mountPoints are all of them, in the order of mountinfo.
func mountPoints() []string {
	var list []string
	for line := range strings.Lines(content("/proc/self/mountinfo")) {
		if f := strings.Fields(line); len(f) > 4 {
			list = append(list, strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(f[4]))
		}
	}
	return list
}
