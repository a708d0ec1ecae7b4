package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

var (
	update = flag.Bool("update", false, "write the scripts' expected output anew")
	union  = flag.String("union", "auto", "the classic path's union")
)

// binaries is the folder with docker2013 and dockerd2013: built once, or a link to
// that of $DOCKER2013_BIN, for a machine without Go.
var binaries string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "SKIP: the end-to-end tests make containers and need root: sudo make test")
		if os.Getenv("CI") != "" {
			return 1
		}
		return 0
	}
	dir, err := os.MkdirTemp("", "docker2013-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaries = filepath.Join(dir, "bin")
	if built := os.Getenv("DOCKER2013_BIN"); built != "" {
		err = os.Symlink(built, binaries)
	} else {
		err = build(binaries)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	races := filepath.Join(dir, "race")
	if err := os.Setenv("GORACE", "log_path="+races); err != nil { // of daemons; see RACE in doc.go
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	before, err := census()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("host:", host())
	code := m.Run()
	if left := leftovers(before); len(left) > 0 {
		fmt.Fprintf(os.Stderr, "FAIL: the tests have left:\n\t%s\n", strings.Join(left, "\n\t"))
		return 1
	}
	found, _ := filepath.Glob(races + ".*") // the pattern is well-formed
	for _, file := range found {
		report, err := os.ReadFile(file)
		fmt.Fprintf(os.Stderr, "FAIL: a data race in the daemon: %s%v\n", report, err)
		code = 1
	}
	return code
}

func build(dir string) error {
	programs := map[string]string{"docker2013": "0", "docker2013-learn": "0", "docker2013-shim": "0", "docker2013-aufs": "0", "docker2013-oci": "1", "dockerd2013": "1"}
	for name, cgo := range programs {
		how := "-trimpath"
		if name == "dockerd2013" && os.Getenv("RACE") != "" {
			how = "-race"
		}
		cmd := exec.Command("go", "build", how, "-o", filepath.Join(dir, name), "docker2013/cmd/"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	return nil
}

// Both paths run the same scenarios; what a script says of one only stands behind
// [path:classic] or [path:modern].
func TestScript(t *testing.T) { scripts(t, "classic") }
func TestModern(t *testing.T) { scripts(t, "modern") }

func scripts(t *testing.T, path string) {
	// In our folder, by which the census knows what is ours: others may run
	// these tests at the same time. A new one for each -count.
	root, err := os.MkdirTemp(filepath.Dir(binaries), "run-")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		WorkdirRoot:         root,
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", binaries+":"+os.Getenv("PATH"))
			env.Setenv("ROOT", filepath.Join(env.WorkDir, "root"))
			d := &daemon{work: env.WorkDir, cgroup: fmt.Sprintf("docker2013-test-%d-%d", os.Getpid(), daemons.Add(1))}
			env.Setenv("CGROUP", d.cgroup)
			env.Setenv("DOCKER2013_PATH", path)
			env.Setenv("DOCKER2013", filepath.Join(binaries, "docker2013"))
			env.Values[daemonKey{}] = d
			env.Defer(func() {
				if t, ok := env.T().(interface{ Failed() bool }); ok && t.Failed() {
					fmt.Fprintf(os.Stderr, "the daemon's log:\n%s", d.log())
				}
				d.end()
			})
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if p, ok := strings.CutPrefix(cond, "path:"); ok {
				return p == path, nil
			}
			if file := map[string]string{"apparmor": "/sys/kernel/security/apparmor/profiles", "cgroup:v2": "/sys/fs/cgroup/cgroup.controllers"}[cond]; file != "" {
				_, err := os.Stat(file)
				return err == nil, nil
			}
			return false, fmt.Errorf("no such condition: %s", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"daemon":     cmdDaemon,
			"docker2013": cmdClient,
			"raw":        cmdRaw,
			"http":       cmdHTTP,
			"terminal":   cmdTerminal,
			"capture":    cmdCapture,
			"eventually": cmdEventually,
			"normal":     cmdNormal,
			"frames":     cmdFrames,
			"serve":      cmdServe,
			"unmounted":  cmdUnmounted,
			"events":     cmdEvents,
			"disk":       cmdDisk,
		},
	})
}

type daemonKey struct{}

var daemons atomic.Int32

// daemon is a scenario's daemon.
type daemon struct {
	work, cgroup string
	disk         string // its root, if that is a file system of its own
	tcp, http    string
	cmd          *exec.Cmd
	exited       chan error
}

func theDaemon(ts *testscript.TestScript) *daemon {
	return ts.Value(daemonKey{}).(*daemon)
}

// cmdDaemon starts and ends the scenario's daemon:
//
//	daemon start [FLAG…]   waits until it answers; sets $DOCKER and $HTTP
//	daemon stop            SIGTERM, and waits for its end
//	daemon kill            SIGKILL
//	daemon refuses FLAG…   it must end by itself; its stderr becomes stderr
//	daemon clean           runs it with --cleanup
//	daemon log             its log becomes stdout
func cmdDaemon(ts *testscript.TestScript, neg bool, args []string) {
	d := theDaemon(ts)
	if len(args) == 0 {
		ts.Fatalf("usage: daemon start|stop|kill|refuses|log")
	}
	switch args[0] {
	case "start":
		ts.Check(d.start(args[1:]))
		ts.Setenv("DOCKER", d.tcp)
		ts.Setenv("HTTP", d.http)
	case "stop":
		ts.Check(d.cmd.Process.Signal(syscall.SIGTERM))
		select {
		case err := <-d.exited:
			d.cmd = nil
			if (err != nil) != neg {
				ts.Fatalf("the daemon ended with %v; its log:\n%s", err, d.log())
			}
		case <-time.After(60 * time.Second):
			ts.Fatalf("the daemon hasn't ended a minute after SIGTERM; its log:\n%s", d.log())
		}
	case "kill":
		ts.Check(d.cmd.Process.Kill())
		<-d.exited
		d.cmd = nil
		// A child that it was just making has its sockets until it is a program of its own.
		for range 500 {
			conn, err := net.Dial("tcp", d.tcp)
			if err != nil {
				break
			}
			_ = conn.Close()
			time.Sleep(10 * time.Millisecond)
		}
	case "refuses":
		cmd := d.command(args[1:])
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Run(); err == nil {
			ts.Fatalf("the daemon ran; it should have refused")
		}
		ts.Check(os.WriteFile(ts.MkAbs("refusal"), stderr.Bytes(), 0o644))
	case "clean":
		out, err := d.command([]string{"--cleanup"}).CombinedOutput()
		if err != nil {
			ts.Fatalf("--cleanup: %v\n%s", err, out)
		}
	case "log":
		_, err := io.WriteString(ts.Stdout(), d.log())
		ts.Check(err)
	default:
		ts.Fatalf("daemon %s: no such thing", args[0])
	}
}

func (d *daemon) command(flags []string) *exec.Cmd {
	args := []string{"--root", filepath.Join(d.work, "root"), "--cgroup-parent", d.cgroup, "--union", *union}
	// As careful people start daemons: a container shall have a root that all can enter,
	// and hear signals, all the same.
	script := []string{"-c", `umask 077; exec nohup "$@"`, "sh", filepath.Join(binaries, "dockerd2013")}
	cmd := exec.Command("sh", append(append(script, args...), flags...)...)
	cmd.Dir = d.work
	cmd.Env = append(os.Environ(), "PATH="+binaries+":"+os.Getenv("PATH")) // for --runtime
	return cmd
}

func (d *daemon) start(flags []string) error {
	if d.cmd != nil {
		return errors.New("the daemon runs already")
	}
	if d.tcp == "" { // the same ports after a restart
		var err error
		if d.tcp, err = freeAddr(); err == nil {
			d.http, err = freeAddr()
		}
		if err != nil {
			return err
		}
	}
	log, err := os.OpenFile(filepath.Join(d.work, "daemon.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	d.cmd = d.command(append([]string{"--tcp", d.tcp, "--http", d.http}, flags...))
	d.cmd.Stderr = log
	if err := d.cmd.Start(); err != nil {
		return err
	}
	d.exited = make(chan error, 1)
	go func(cmd *exec.Cmd) { d.exited <- cmd.Wait() }(d.cmd)
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if conn, err := net.Dial("tcp", d.tcp); err == nil {
			return conn.Close()
		}
		select {
		case err := <-d.exited:
			d.cmd = nil
			return fmt.Errorf("the daemon ended: %v\n%s", err, d.log())
		default:
		}
	}
	return fmt.Errorf("the daemon doesn't answer on %s\n%s", d.tcp, d.log())
}

// end leaves nothing, whatever the scenario did: it ends the daemon, and if it
// had been killed, what it left.
func (d *daemon) end() {
	if d.cmd != nil {
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-d.exited:
		case <-time.After(60 * time.Second):
			_ = d.cmd.Process.Kill()
			<-d.exited
		}
		d.cmd = nil
	}
	if out, err := d.command([]string{"--cleanup"}).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "clean up after a scenario: %v\n%s", err, out)
	}
	if d.disk != "" {
		if err := unix.Unmount(d.disk, 0); err != nil {
			fmt.Fprintf(os.Stderr, "clean up after a scenario: unmount %s: %v\n", d.disk, err)
		}
	}
}

// cmdDisk gives the daemon's root a small disk of its own, in memory:
//
//	disk OPTIONS   those of tmpfs(5): size=64m,nr_inodes=3000
func cmdDisk(ts *testscript.TestScript, neg bool, args []string) {
	d, root := theDaemon(ts), ts.Getenv("ROOT")
	ts.Check(os.Mkdir(root, 0o700))
	ts.Check(unix.Mount("disk", root, "tmpfs", 0, args[0]))
	d.disk = root
}

func (d *daemon) log() string {
	data, _ := os.ReadFile(filepath.Join(d.work, "daemon.log"))
	return string(data)
}

var ports atomic.Int32

// freeAddr finds a port where nobody listens, below those that the kernel gives to
// connections (ip(7), ip_local_port_range): none of those may take it meanwhile.
func freeAddr() (addr string, err error) {
	for range 100 {
		port := 10_000 + (os.Getpid()*101+int(ports.Add(1)))%20_000
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", err
}

// cmdClient runs our client as a user does. Its exit status can be asked for:
// `docker2013 =7 run base …` must end with status 7.
func cmdClient(ts *testscript.TestScript, neg bool, args []string) {
	want, fixed := 0, false
	if len(args) > 0 && strings.HasPrefix(args[0], "=") {
		n, err := strconv.Atoi(args[0][1:])
		ts.Check(err)
		want, fixed, args = n, true, args[1:]
	}
	err := ts.Exec("docker2013", args...)
	var exit *exec.ExitError
	code := 0
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	switch {
	case fixed && code != want:
		ts.Fatalf("exit status %d, want %d", code, want)
	case !fixed && (code != 0) != neg:
		ts.Fatalf("exit status %d", code)
	}
}

// cmdRaw sends bytes to the TCP port and makes the answer stdout:
//
//	raw 'LINE' [FILE]   LINE and a newline, then the file; a half-close; all that comes back
//
// \n, \0 and \xNN in LINE are what Go means by them.
func cmdRaw(ts *testscript.TestScript, neg bool, args []string) {
	line, err := strconv.Unquote(`"` + strings.ReplaceAll(args[0], `"`, `\"`) + `"`)
	ts.Check(err)
	conn, err := net.Dial("tcp", theDaemon(ts).tcp)
	ts.Check(err)
	defer conn.Close()
	_, err = io.WriteString(conn, line+"\n")
	ts.Check(err)
	if len(args) > 1 {
		f, err := os.Open(ts.MkAbs(args[1]))
		ts.Check(err)
		defer f.Close()
		_, err = io.Copy(conn, f)
		ts.Check(err)
	}
	ts.Check(conn.(*net.TCPConn).CloseWrite())
	_, err = io.Copy(ts.Stdout(), conn)
	ts.Check(err)
}

// cmdHTTP makes a request and prints status, a blank line and the body:
//
//	http [-body FILE] [-H 'Name: value']… METHOD PATH [Q…]
func cmdHTTP(ts *testscript.TestScript, neg bool, args []string) {
	f := flag.NewFlagSet("http", flag.ContinueOnError)
	body := f.String("body", "", "")
	var headers []string
	f.Func("H", "", func(s string) error { headers = append(headers, s); return nil })
	ts.Check(f.Parse(args))
	args = f.Args()
	u := "http://" + theDaemon(ts).http + args[1]
	if len(args) > 2 {
		u += "?" + url.Values{"q": args[2:]}.Encode()
	}
	var in io.Reader
	if *body != "" {
		file, err := os.Open(ts.MkAbs(*body))
		ts.Check(err)
		defer file.Close()
		in = file
	}
	req, err := http.NewRequest(args[0], u, in)
	ts.Check(err)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ":")
		if strings.EqualFold(name, "Host") {
			req.Host = strings.TrimSpace(value)
		} else {
			req.Header.Set(name, strings.TrimSpace(value))
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	ts.Check(err)
	defer resp.Body.Close()
	fmt.Fprintf(ts.Stdout(), "%d\n\n", resp.StatusCode)
	_, err = io.Copy(ts.Stdout(), resp.Body)
	ts.Check(err)
}

// cmdCapture puts the last stdout, without its line break, into a variable.
func cmdCapture(ts *testscript.TestScript, neg bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// cmdEventually repeats a client command until it succeeds and prints what the
// regexp wants, for at most 20 seconds:
//
//	eventually 'REGEXP' ps -a
func cmdEventually(ts *testscript.TestScript, neg bool, args []string) {
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	var out []byte
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		cmd := exec.Command(filepath.Join(binaries, "docker2013"), args[1:]...)
		cmd.Env = append(os.Environ(), "DOCKER="+theDaemon(ts).tcp)
		out, err = cmd.CombinedOutput()
		if re.Match(out) != neg && err == nil {
			return
		}
	}
	ts.Fatalf("%v: never %q; the last answer:\n%s", args[1:], args[0], out)
}

// cmdNormal rewrites the last stdout for comparison: container ids become
// CONTAINER1, CONTAINER2 … in the order in which they appear, layer ids LAYER1 …,
// ages AGE, the root ROOT. It goes to the named file.
func cmdNormal(ts *testscript.TestScript, neg bool, args []string) {
	text := ts.ReadFile("stdout")
	text = strings.ReplaceAll(text, ts.Getenv("ROOT"), "ROOT")
	number := func(re *regexp.Regexp, name string) {
		seen := map[string]string{}
		text = re.ReplaceAllStringFunc(text, func(id string) string {
			if seen[id] == "" {
				seen[id] = fmt.Sprintf("%s%d", name, len(seen)+1)
			}
			return seen[id]
		})
	}
	number(regexp.MustCompile(`\b[0-9a-f]{16}\b`), "LAYER")
	number(regexp.MustCompile(`\b[0-9a-f]{8}\b`), "CONTAINER")
	text = regexp.MustCompile(`(Less than a second|About a minute|\d+ seconds)( ago)?`).ReplaceAllString(text, "AGE")
	text = regexp.MustCompile(` {3,}`).ReplaceAllString(text, "   ")
	var b bytes.Buffer
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		fmt.Fprintln(&b, strings.TrimRight(s.Text(), " "))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b.Bytes(), 0o644))
}

// cmdUnmounted waits until nothing is mounted below $ROOT. A run answers when
// its program has ended; the unmounting goes on behind that.
func cmdUnmounted(ts *testscript.TestScript, neg bool, args []string) {
	var mounts []byte
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		var err error
		mounts, err = os.ReadFile("/proc/self/mounts")
		ts.Check(err)
		if !bytes.Contains(mounts, []byte(ts.Getenv("ROOT"))) {
			return
		}
	}
	ts.Fatalf("still mounted:\n%s", mounts)
}
