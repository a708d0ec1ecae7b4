package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// courseTime is how long the whole course may play, with all its exercises.
const courseTime = 5 * time.Minute

// newDaemon is a daemon of the test's own, not started yet.
func newDaemon(t *testing.T) *daemon {
	t.Helper()
	work, err := os.MkdirTemp(filepath.Dir(binaries), "course-")
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{work: work, cgroup: fmt.Sprintf("docker2013-test-%d-%d", os.Getpid(), daemons.Add(1))}
	if d.tcp, err = freeAddr(); err == nil {
		d.http, err = freeAddr()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 10 { // the course may have started a daemon, and may still be ending
			if _, err := d.docker2013("cleanup"); err == nil {
				break
			}
			time.Sleep(time.Second)
		}
		d.end()
		if err := os.RemoveAll(work); err != nil {
			t.Error(err)
		}
	})
	return d
}

// learner is the environment of somebody who learns with this daemon.
func (d *daemon) learner() []string {
	return append(os.Environ(),
		"PATH="+binaries+":"+os.Getenv("PATH"), "DOCKER="+d.tcp, "XDG_DATA_HOME="+filepath.Join(d.work, "data"),
		// Where no daemon answers, the course's own is made so.
		"DOCKER2013_ROOT="+filepath.Join(d.work, "root"), "DOCKER2013_HTTP="+d.http, "DOCKER2013_CGROUP="+d.cgroup,
		"DOCKER2013_PATH=", "DOCKER2013_CHAPTERS=", "LC_ALL=C.UTF-8", "LANG=en_US.UTF-8")
}

func (d *daemon) docker2013(args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(binaries, "docker2013"), args...)
	cmd.Env = d.learner()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Every chapter of the course shows what it says, on both paths, and every exercise
// can be solved.
func TestCourse(t *testing.T) {
	d := newDaemon(t)
	if err := d.start(nil); err != nil {
		t.Fatal(err)
	}
	list, err := d.docker2013("chapter", "list")
	if err != nil {
		t.Fatalf("%v\n%s", err, list)
	}
	skipped := regexp.MustCompile(`(?m)^SKIP +(.*): this host has no (.*)$`)
	begin := time.Now()
	for line := range strings.Lines(list) {
		chapter := strings.Fields(line)[0]
		t.Run(chapter, func(t *testing.T) {
			out, err := d.docker2013("chapter", "test", chapter)
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			for _, m := range skipped.FindAllStringSubmatch(out, -1) {
				t.Run(m[1], func(t *testing.T) { t.Skipf("not on this host: %s", m[2]) })
			}
		})
	}
	cpu, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Fatal(err)
	}
	emulated := strings.Contains(string(cpu), "QEMU TCG") // and so some five times slower
	if took := time.Since(begin); took > courseTime && !emulated {
		t.Errorf("the course took %s, want less than %s", took.Round(time.Second), courseTime)
	} else {
		t.Logf("the course took %s", took.Round(time.Second))
	}
}

// tmux is a real terminal.
type tmux struct {
	t      *testing.T
	socket string
	env    []string
}

func newTmux(t *testing.T, d *daemon) *tmux {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("there is no tmux: scripts/setup.sh tmux installs it")
	}
	m := &tmux{t: t, socket: filepath.Join(d.work, "tmux"), env: d.learner()}
	t.Cleanup(func() { m.try("kill-server") })
	return m
}

func (m *tmux) try(args ...string) (string, error) {
	cmd := exec.Command("tmux", append([]string{"-u", "-S", m.socket, "-f", "/dev/null"}, args...)...)
	cmd.Env = m.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (m *tmux) do(args ...string) string {
	m.t.Helper()
	out, err := m.try(args...)
	if err != nil {
		m.t.Fatalf("tmux %s: %v\n%s", args, err, out)
	}
	return out
}

// screen is what the terminal shows.
func (m *tmux) screen() string { return m.do("capture-pane", "-p", "-t", "learn") }

func (m *tmux) press(keys ...string) {
	m.t.Helper()
	m.do(append([]string{"send-keys", "-t", "learn"}, keys...)...)
}

// see waits until the screen matches.
func (m *tmux) see(pattern string) string {
	m.t.Helper()
	re := regexp.MustCompile(pattern)
	last := ""
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(30 * time.Millisecond) {
		if last = m.screen(); re.MatchString(last) {
			return last
		}
	}
	m.t.Fatalf("never saw %s; the screen:\n%s", pattern, last)
	return ""
}

// learn starts the course in a new window, and waits for it.
func (m *tmux) learn(pattern string) {
	m.t.Helper()
	m.do("new-session", "-d", "-x", "110", "-y", "60", "-s", "learn", "docker2013 learn 2>&1; echo ended with $?; exec sleep 1000")
	m.see(pattern)
}

// quit ends the course, and what it ran in.
func (m *tmux) quit() {
	m.t.Helper()
	m.press("q")
	m.see(`(?m)^ended with 0$`)
	m.do("kill-session", "-t", "learn")
}

// A learner plays the first chapter, quits in the middle, and goes on there. There is no
// daemon at first.
func TestLearn(t *testing.T) {
	d := newDaemon(t)
	m := newTmux(t, d)
	list, err := d.docker2013("chapter", "list")
	first := regexp.MustCompile(`^(\S+) +0 of (\d+) steps`).FindStringSubmatch(list)
	if err != nil || first == nil {
		t.Fatalf("%v\n%s", err, list)
	}
	chapter, steps := first[1], 0
	fmt.Sscan(first[2], &steps)
	number := strings.TrimLeft(chapter[:2], "0")
	if number == "" {
		number = "0"
	}
	// run runs the page's step, which has shown what it says, or can't on this host.
	run := func(page int) {
		t.Helper()
		m.see(fmt.Sprintf(`(?m)^ %s\.%d/\d+ `, number, page))
		m.press("Enter")
		m.see(`✓ all of it is there|! not run:`)
	}

	m.learn(`docker2013: the course`)
	m.press("Enter")
	m.see(fmt.Sprintf(`(?m)^ %s\.0/`, number))
	half := (steps + 1) / 2
	for page := 1; page <= half; page++ {
		m.press("n")
		run(page)
	}
	// Another window, another language, another path; and as before.
	m.do("resize-window", "-t", "learn", "-x", "40", "-y", "12")
	m.see(`(?m)^ ` + number + `\.`)
	m.press("l")
	m.see(`上一页`)
	m.press("l", "p")
	m.see(`(?m)^ .* · modern( [▲▼] \d+)* *$`)
	m.press("p", "p")
	m.do("resize-window", "-t", "learn", "-x", "110", "-y", "60")
	m.see(`✓ all of it is there|! not run:`)
	// The X-ray of a container, over the page.
	m.press("x")
	m.see(`(?m)^NAMESPACES|there is no strace`)
	m.press("x")
	m.see(`✓ all of it is there|! not run:`)
	// The daemon dies. It is the course's own, and comes back.
	pid, err := os.ReadFile(filepath.Join(d.work, "root", "course.pid"))
	if err != nil {
		t.Fatal(err)
	}
	var daemon int
	if _, err := fmt.Sscan(string(pid), &daemon); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(daemon, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for range 100 { // dead is who doesn't answer
		if _, err := d.docker2013("version"); err != nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	m.press("r")
	m.see(`(?s)✓ all of it is there.*the daemon had ended: it was started again`)
	m.quit()

	if out, err := d.docker2013("ps", "-a", "-q", "--filter", "label=docker2013.course"); err != nil || out != "" {
		t.Errorf("left running: %q, %v", out, err)
	}
	if left, _ := filepath.Glob(filepath.Join(d.work, "root", "course", "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	out, err := d.docker2013("chapter", "list")
	if want := fmt.Sprintf("%s +%d of %d steps", chapter, half, steps); err != nil || !regexp.MustCompile(want).MatchString(out) {
		t.Errorf("in the middle: no %q in\n%s", want, out)
	}

	m.learn(fmt.Sprintf(`(?m)^ %s\.%d/`, number, half))
	for page := half + 1; page <= steps; page++ {
		m.press("n")
		run(page)
	}
	// An exercise: what it says of what hasn't been done yet.
	m.press("n")
	m.see(`enter makes what it begins with`)
	m.press("Enter")
	m.see(`enter checks what you have done`)
	m.press("Enter")
	m.see(`(?s)✗ .*Hint`)
	m.press("m")
	m.see(fmt.Sprintf(`%d/%d · 0/`, steps, steps))
	m.quit()

	out, err = d.docker2013("cleanup")
	if err != nil || !strings.Contains(out, "which the course has started") || !strings.Contains(out, "nothing of the course is left") {
		t.Errorf("cleanup: %v\n%s", err, out)
	}
	if out, err = d.docker2013("version"); err == nil {
		t.Errorf("the course's daemon still answers:\n%s", out)
	}
}

// A step is ended by ^C, which leaves nothing; then the course and its daemon are killed in
// the middle of it, and cleanup takes away all that they left.
func TestCleanupAfterACrash(t *testing.T) {
	d := newDaemon(t)
	dir := filepath.Join(d.work, "chapters", "01-x")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	prose := "# T\n\nI.\n\n## hang — H\n\nC.\n\n> Q?\n\nA.\n\n## exercise e — E\n\nT.\n\n### hint\n\nH.\n"
	data := `
steps:
  - id: hang
    run: |
      docker2013 run -d base /bin/sleep 1000
      docker2013 commit $(docker2013 run -d base /bin/touch /file) course-crash
      D=/sys/fs/cgroup; [ ! -d $D/pids ] || D=$D/pids; mkdir $D/$COURSE-crash
      ip netns add $COURSE-crash
      trap 'rmdir $D/$COURSE-crash; ip netns delete $COURSE-crash; echo the trap has run' EXIT
      mkdir $W/m; mount -t tmpfs none $W/m
      sleep 1000 &
      echo "it hangs: $COURSE-crash"
      sleep 1000
    evidence: [{match: never}]
exercises:
  - {name: e, kind: hunt, level: 1, start: docker2013 run -d base /bin/sleep 1000, check: fail it, solution: 'true', reset: echo it was reset}
`
	for file, text := range map[string]string{"chapter.yaml": data, "en.md": prose, "zh.md": prose} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	folder := "--chapters=" + filepath.Dir(dir)
	before, err := census()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := d.docker2013("exercise", "start", "01-e", folder); err != nil || !strings.Contains(out, "started dockerd2013 at "+d.tcp) {
		t.Fatalf("%v\n%s", err, out)
	}
	started, err := census()
	if err != nil {
		t.Fatal(err)
	}
	hang := func() (*exec.Cmd, *screen) {
		play := exec.Command(filepath.Join(binaries, "docker2013"), "chapter", "play", "--plain", "1", folder)
		play.Env = d.learner()
		out := &screen{}
		pipe, err := play.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := play.Start(); err != nil {
			t.Fatal(err)
		}
		go out.read(pipe.(*os.File))
		if !out.wait("\nit hangs: ", 30*time.Second) {
			t.Errorf("it doesn't hang:\n%s", out.all())
		}
		return play, out
	}

	// ^C: the step's own traps run, and all else is taken away.
	play, out := hang()
	if err := play.Process.Signal(syscall.SIGINT); err != nil {
		t.Error(err)
	}
	_ = play.Wait()
	if code := play.ProcessState.ExitCode(); code != 130 || !out.wait("the trap has run", time.Second) {
		t.Errorf("after ^C: exit status %d\n%s", code, out.all())
	}
	if left := slices.DeleteFunc(leftovers(started), func(s string) bool { return strings.Contains(s, d.cgroup+"/pivot") }); len(left) > 0 {
		t.Errorf("left after ^C:\n\t%s", strings.Join(left, "\n\t"))
	}

	play, out = hang()
	name := regexp.MustCompile(`course[0-9a-f]{4}-crash`).FindString(out.all())
	if name == "" {
		t.Fatalf("no name of its own:\n%s", out.all())
	}
	// Meanwhile nothing is cleaned up, and nobody else plays the same.
	if text, err := d.docker2013("cleanup", folder); err == nil || !strings.Contains(text, "somebody plays 01-x-classic") {
		t.Errorf("cleanup while one plays: %v\n%s", err, text)
	}
	if text, err := d.docker2013("chapter", "play", "--plain", "1", folder); err == nil || !strings.Contains(text, "somebody else plays 01-x-classic") {
		t.Errorf("play while one plays: %v\n%s", err, text)
	}
	var daemon int
	pid, err := os.ReadFile(filepath.Join(d.work, "root", "course.pid"))
	if err == nil {
		_, err = fmt.Sscan(string(pid), &daemon)
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = play.Process.Kill()
	_ = play.Wait()
	if err := syscall.Kill(daemon, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	if left := leftovers(before); len(left) == 0 {
		t.Error("the crash has left nothing: what is tested?")
	}
	text, err := d.docker2013("cleanup", folder)
	if err != nil || !strings.Contains(text, "nothing of the course is left") || !strings.Contains(text, "01-e: it was reset") {
		t.Errorf("cleanup: %v\n%s", err, text)
	}
	for _, want := range []string{"the image course-crash:", "the network namespace /run/netns/" + name, "/" + name + "\n", "the process ", "/course/01-x-classic/w/m\n"} {
		if !bytes.Contains([]byte(text), []byte(want)) {
			t.Errorf("cleanup doesn't tell of %s:\n%s", want, text)
		}
	}
	if left := leftovers(before); len(left) > 0 {
		t.Errorf("left after cleanup:\n\t%s", strings.Join(left, "\n\t"))
	}
}
