package compare

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Measure runs all that can, in turns, rounds times. say is told what is going on.
func Measure(ctx context.Context, runtimes []Runtime, rounds int, say func(string)) []Result {
	results := make([]Result, len(runtimes))
	starts, exits := make([][]float64, len(runtimes)), make([][]float64, len(runtimes))
	n := 0
	for i, r := range runtimes {
		results[i] = Result{Name: r.Name, About: r.About, Failed: r.Missing, Memory: -1, Processes: -1, Syscalls: -1}
		if r.Missing != "" {
			continue
		}
		say("looking at " + r.Name)
		n++
		if _, _, err := time1(ctx, r, n); err != nil { // the first run is for nobody
			results[i].Failed = err.Error()
			continue
		}
		n++
		isolation, err := isolate(ctx, r, n)
		if err != nil {
			results[i].Failed = err.Error()
			continue
		}
		isolation.Kernel = r.Machine
		results[i].Isolation = isolation
		n++
		results[i].Processes, results[i].Memory = footprint(ctx, r, n)
		n++
		results[i].Syscalls = countCalls(ctx, r, n)
	}
	for round := range rounds {
		say(fmt.Sprintf("round %d of %d", round+1, rounds))
		for i, r := range runtimes {
			if results[i].Failed != "" || r.Slow && round >= 3 {
				continue
			}
			n++
			start, exit, err := time1(ctx, r, n)
			if err != nil {
				results[i].Failed = err.Error()
				continue
			}
			starts[i], exits[i] = append(starts[i], start.Seconds()), append(exits[i], exit.Seconds())
		}
	}
	for i := range results {
		results[i].Start, results[i].Exit = summary(starts[i]), summary(exits[i])
	}
	return results
}

func summary(times []float64) Times {
	if len(times) == 0 {
		return Times{}
	}
	slices.Sort(times)
	at := func(part float64) float64 { return times[int(part*float64(len(times)-1)+0.5)] }
	return Times{Median: at(0.5), Low: at(0.25), High: at(0.75), Runs: len(times)}
}

// word is what the job says.
const word = "started"

// time1 is one run.
func time1(ctx context.Context, r Runtime, n int) (start, exit time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := r.Command(n, "/bin/echo", word)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })()
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	said := ""
	lines := bufio.NewReader(out)
	for !strings.Contains(said, word) {
		line, rerr := lines.ReadString('\n')
		said += line
		if rerr != nil {
			break
		}
	}
	start = time.Since(begun)
	_, _ = io.Copy(io.Discard, lines)
	err = cmd.Wait()
	exit = time.Since(begun)
	if err != nil || !strings.Contains(said, word) {
		return 0, 0, failed(err, said+errs.String())
	}
	return start, exit, nil
}

// failed is the last line that a runtime said.
func failed(err error, said string) error {
	lines := strings.Split(strings.TrimSpace(said), "\n")
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		return errors.New(last)
	}
	if err == nil {
		err = errors.New("the program said nothing")
	}
	return err
}

// footprint counts the processes that a running container needs beside its own, and
// what memory is theirs: from the parent of its first process up to a daemon, or to
// us.
func footprint(ctx context.Context, r Runtime, n int) (processes int, memory int64) {
	marker := fmt.Sprintf("%s-%d-%d", word, os.Getpid(), n)
	cmd := r.Command(n, "/bin/sh", "-c", "echo "+marker+"; read nothing")
	in, err := cmd.StdinPipe()
	if err != nil {
		return -1, -1
	}
	out, err := cmd.StdoutPipe()
	if err != nil || cmd.Start() != nil {
		return -1, -1
	}
	defer func() {
		_ = in.Close()
		done := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
		done.Stop()
	}()
	lines := bufio.NewScanner(out) // a virtual machine may have more to say
	for lines.Scan() && !strings.Contains(lines.Text(), marker) {
	}
	if lines.Err() != nil || !strings.Contains(lines.Text(), marker) {
		return -1, -1
	}
	time.Sleep(1500 * time.Millisecond) // what was needed for the start alone has gone
	pid := cmd.Process.Pid              // a virtual machine: nobody sees what runs in it
	if inside := contained(marker); inside > 0 {
		pid = parent(inside)
	}
	daemons := r.Daemons(ctx)
	for ; pid > 1 && pid != os.Getpid() && (len(daemons) == 0 || pid != daemons[0]); pid = parent(pid) {
		pss, err := PSS(pid)
		if err != nil {
			return -1, -1
		}
		processes++
		memory += pss
	}
	return processes, memory
}

// contained finds the process with the marker that is in a PID namespace of its own
// and whose parent isn't.
func contained(marker string) int {
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return 0
	}
	in := func(pid int) string {
		ns, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
		return ns
	}
	for _, pid := range pids() {
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if ns := in(pid); bytes.Contains(cmdline, []byte(marker)) && ns != "" && ns != own && in(parent(pid)) == own {
			return pid
		}
	}
	return 0
}

func parent(pid int) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), ") ") // the name can hold anything
	f := strings.Fields(rest)
	if len(f) < 2 {
		return 0
	}
	ppid, _ := strconv.Atoi(f[1])
	return ppid
}

func pids() (list []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			list = append(list, pid)
		}
	}
	return list
}

// PSS is a process's memory in bytes, of which what is shared counts in parts
// (proc_pid_smaps_rollup(5)).
func PSS(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Pss:" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("no Pss in smaps_rollup")
}

// countCalls counts the system calls of one run: the command's, its children's and
// its daemons'. -1: there is no strace, or it may not.
func countCalls(ctx context.Context, r Runtime, n int) int {
	if _, err := exec.LookPath("strace"); err != nil {
		return -1
	}
	dir, err := os.MkdirTemp("", "docker2013-compare-")
	if err != nil {
		return -1
	}
	defer os.RemoveAll(dir)
	stop := func() bool { return true }
	if daemons := r.Daemons(ctx); len(daemons) > 0 {
		if stop, err = watchCalls(daemons, dir+"/daemons"); err != nil {
			return -1
		}
	}
	inner := r.Command(n, "/bin/echo", word)
	outer := exec.CommandContext(ctx, "strace", append([]string{"-f", "-c", "-U", "name,calls", "-o", dir + "/command"}, inner.Args...)...)
	outer.Env, outer.Dir = inner.Env, inner.Dir
	err = outer.Run()
	if !stop() || err != nil {
		return -1
	}
	return sumCalls(dir+"/command") + sumCalls(dir+"/daemons")
}

// watchCalls has strace count processes' calls into a file, until stop is called, which
// tells whether all of them are in it.
func watchCalls(pids []int, file string) (stop func() bool, err error) {
	args := []string{"-f", "-c", "-U", "name,calls", "-o", file}
	for _, pid := range pids {
		args = append(args, "-p", strconv.Itoa(pid))
	}
	watcher := exec.Command("strace", args...)
	watcher.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	said, err := watcher.StderrPipe()
	if err == nil {
		err = watcher.Start()
	}
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(said)
	for attached := 0; attached < len(pids) && lines.Scan(); {
		if strings.Contains(lines.Text(), " attached") {
			attached++
		}
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	return func() bool {
		time.Sleep(200 * time.Millisecond)
		_ = watcher.Process.Signal(unix.SIGINT)
		// It waits for all that it watches to halt, which may wait for each other.
		late := time.AfterFunc(5*time.Second, func() { _ = watcher.Process.Kill() })
		_ = watcher.Wait() // its status is the signal's
		return late.Stop()
	}, nil
}

// sumCalls is what a file of strace -c counts; without a file, nothing.
func sumCalls(file string) (total int) {
	data, _ := os.ReadFile(file)
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] != "total" {
			calls, _ := strconv.Atoi(f[1])
			total += calls
		}
	}
	return total
}
