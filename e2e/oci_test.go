package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

var ociRuns atomic.Int32

// TestOCI plays scenarios of the OCI runtime alone, as an engine calls it.
func TestOCI(t *testing.T) {
	busybox := needBusybox(t)
	root, err := os.MkdirTemp(filepath.Dir(binaries), "oci-")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/oci",
		WorkdirRoot:         root,
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", binaries+":"+os.Getenv("PATH"))
			env.Setenv("STATE", filepath.Join(env.WorkDir, "state"))
			env.Setenv("CGROUP", fmt.Sprintf("docker2013-test-%d-oci%d", os.Getpid(), ociRuns.Add(1)))
			env.Setenv("BUSYBOX", busybox)
			state := filepath.Join(env.WorkDir, "state")
			env.Defer(func() { deleteAll(state) })
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond == "cgroup:v1" {
				_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
				return err != nil, nil
			}
			return false, fmt.Errorf("no such condition: %s", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"oci": cmdOCI, "bundle": cmdBundle, "status": cmdStatus, "nothing-left": cmdNothingLeft, "console": cmdConsole,
			"capture": cmdCapture,
		},
	})
}

func needBusybox(t *testing.T) string {
	for _, file := range []string{"/bin/busybox", "/usr/bin/busybox"} {
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	t.Skip("SKIP: no busybox: apt-get install busybox-static")
	return ""
}

// deleteAll removes what a scenario that failed has left.
func deleteAll(state string) {
	entries, _ := os.ReadDir(state) // none
	for _, e := range entries {
		cmd := exec.Command(filepath.Join(binaries, "docker2013-oci"), "--root", state, "delete", "--force", e.Name())
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "clean up after a scenario: %v\n%s", err, out)
		}
	}
}

// cmdOCI runs the runtime; as with docker2013, =N is the exit status that it must have.
func cmdOCI(ts *testscript.TestScript, neg bool, args []string) {
	want := 0
	if len(args) > 0 && strings.HasPrefix(args[0], "=") {
		n, err := strconv.Atoi(args[0][1:])
		ts.Check(err)
		want, args = n, args[1:]
	}
	err := runOCI(ts, args...)
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if neg && code == 0 || !neg && code != want {
		ts.Fatalf("exit status %d, want %d", code, want)
	}
}

// runOCI: a created container has our standard streams for as long as it lives, so
// they are files.
func runOCI(ts *testscript.TestScript, args ...string) error {
	cmd := exec.Command(filepath.Join(binaries, "docker2013-oci"), append([]string{"--root", ts.Getenv("STATE")}, args...)...)
	cmd.Dir = ts.Getenv("WORK")
	out, err := os.CreateTemp(ts.Getenv("WORK"), "stdout-")
	ts.Check(err)
	defer out.Close()
	errs, err := os.CreateTemp(ts.Getenv("WORK"), "stderr-")
	ts.Check(err)
	defer errs.Close()
	cmd.Stdout, cmd.Stderr = out, errs
	rerr := cmd.Run()
	for file, to := range map[*os.File]io.Writer{out: ts.Stdout(), errs: ts.Stderr()} {
		_, err := io.Copy(to, io.NewSectionReader(file, 0, 1<<20))
		ts.Check(err)
	}
	return rerr
}

// cmdBundle makes a bundle with busybox in it:
//
//	bundle DIR [PATCH]   PATCH: a file with what differs from `spec` (RFC 7396)
func cmdBundle(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.MkAbs(args[0])
	bin := filepath.Join(dir, "rootfs/bin")
	if _, err := os.Stat(bin); err != nil {
		ts.Check(os.MkdirAll(bin, 0o755))
		data, err := os.ReadFile(ts.Getenv("BUSYBOX"))
		ts.Check(err)
		ts.Check(os.WriteFile(filepath.Join(bin, "busybox"), data, 0o755))
		for name := range strings.FieldsSeq("sh cat echo sleep id ls mount test touch ps env tty stat grep pwd hostname mkdir true uname readlink date stty sed seq umask") {
			ts.Check(os.Symlink("busybox", filepath.Join(bin, name)))
		}
	}
	_ = os.Remove(filepath.Join(dir, "config.json")) // of an earlier one
	ts.Check(ts.Exec("docker2013-oci", "spec", "--bundle", dir))
	file := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(file)
	ts.Check(err)
	var config map[string]any
	ts.Check(json.Unmarshal(data, &config))
	process := config["process"].(map[string]any)
	process["terminal"] = false
	delete(process, "rlimits") // nobody here may raise one
	config["linux"].(map[string]any)["cgroupsPath"] = "/" + ts.Getenv("CGROUP") + "/" + args[0]
	if len(args) > 1 {
		patch := map[string]any{}
		text := strings.ReplaceAll(ts.ReadFile(args[1]), "$WORK", ts.Getenv("WORK"))
		text = strings.ReplaceAll(text, "\n", " ") // a script may have several lines
		ts.Check(json.Unmarshal([]byte(text), &patch))
		merge(config, patch)
	}
	data, err = json.Marshal(config)
	ts.Check(err)
	ts.Check(os.WriteFile(file, data, 0o644))
}

// merge patches an object; "+KEY" adds to a list.
func merge(to, patch map[string]any) {
	for key, v := range patch {
		list, add := strings.CutPrefix(key, "+")
		inner, isMap := v.(map[string]any)
		there, wasMap := to[key].(map[string]any)
		switch {
		case add:
			old, _ := to[list].([]any)
			to[list] = append(old, v.([]any)...)
		case v == nil:
			delete(to, key)
		case isMap && wasMap:
			merge(there, inner)
		default:
			to[key] = v
		}
	}
}

// patchConfig changes a config.json.
func patchConfig(t *testing.T, file string, patch map[string]any) {
	t.Helper()
	config := map[string]any{}
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &config)
	}
	if err != nil {
		t.Fatal(err)
	}
	merge(config, patch)
	if data, err = json.Marshal(config); err == nil {
		err = os.WriteFile(file, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// cmdStatus waits until a container has a status, for at most 10 seconds.
func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	var state struct{ Status string }
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		out, err := exec.Command(filepath.Join(binaries, "docker2013-oci"), "--root", ts.Getenv("STATE"), "state", args[0]).Output()
		ts.Check(err)
		ts.Check(json.Unmarshal(out, &state))
		if state.Status == args[1] {
			return
		}
	}
	ts.Fatalf("%s is %s, and not %s", args[0], state.Status, args[1])
}

// cmdNothingLeft: no folder, no cgroup, no mount, no process of the scenario's.
func cmdNothingLeft(ts *testscript.TestScript, neg bool, args []string) {
	var left []string
	for range 100 {
		entries, _ := os.ReadDir(ts.Getenv("STATE"))
		left = nil
		for _, e := range entries {
			left = append(left, "state of "+e.Name())
		}
		dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + ts.Getenv("CGROUP"))
		more, _ := filepath.Glob("/sys/fs/cgroup/" + ts.Getenv("CGROUP"))
		left = append(append(left, dirs...), more...)
		mounts, err := os.ReadFile("/proc/self/mounts")
		ts.Check(err)
		if strings.Contains(string(mounts), ts.Getenv("WORK")) {
			left = append(left, "a mount")
		}
		if len(left) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("left: %s", strings.Join(left, ", "))
}

// cmdConsole runs the runtime with a console socket, and prints what comes from the
// terminal that it is sent:
//
//	console SOCKET ARG...   the runtime's arguments, with --console-socket SOCKET in it
func cmdConsole(ts *testscript.TestScript, neg bool, args []string) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: ts.MkAbs(args[0]), Net: "unix"})
	ts.Check(err)
	defer l.Close()
	ts.Check(l.SetDeadline(time.Now().Add(20 * time.Second)))
	received := make(chan *os.File, 1)
	go func() {
		defer close(received)
		conn, err := l.AcceptUnix()
		if err != nil {
			return
		}
		defer conn.Close()
		buf, oob := make([]byte, 100), make([]byte, unix.CmsgSpace(4))
		_, n, _, _, err := conn.ReadMsgUnix(buf, oob)
		if err != nil {
			return
		}
		if cmsgs, err := unix.ParseSocketControlMessage(oob[:n]); err == nil && len(cmsgs) == 1 {
			if fds, err := unix.ParseUnixRights(&cmsgs[0]); err == nil && len(fds) == 1 {
				received <- os.NewFile(uintptr(fds[0]), "terminal")
			}
		}
	}()
	ts.Check(runOCI(ts, args[1:]...))
	_ = l.SetDeadline(time.Now().Add(time.Second))
	master := <-received
	if master == nil {
		ts.Fatalf("no terminal came")
	}
	defer master.Close()
	done := make(chan struct{})
	go func() { // until nobody has the other side open any more
		_, _ = io.Copy(ts.Stdout(), master)
		close(done)
	}()
	ts.Check(runOCI(ts, "start", args[len(args)-1]))
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		ts.Fatalf("the terminal doesn't end")
	}
}

// TestOCIKilledAnywhere kills create, or start, at random points: delete --force
// finds whatever there is then, and leaves nothing; of one with a user namespace too.
func TestOCIKilledAnywhere(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: -short")
	}
	busybox := needBusybox(t)
	work, err := os.MkdirTemp(filepath.Dir(binaries), "oci-kills-")
	if err != nil {
		t.Fatal(err)
	}
	cgroup := fmt.Sprintf("docker2013-test-%d-ocikills", os.Getpid())
	oci := func(args ...string) *exec.Cmd {
		return exec.Command(filepath.Join(binaries, "docker2013-oci"), append([]string{"--root", work + "/state"}, args...)...)
	}
	program, err := os.ReadFile(busybox)
	if err == nil {
		err = errors.Join(os.Mkdir(work+"/rootfs", 0o755), os.WriteFile(work+"/rootfs/busybox", program, 0o755), os.Chown(work+"/rootfs", 100000, 100000),
			os.Mkdir(work+"/plain", 0o755), os.Mkdir(work+"/mapped", 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	bundles := []string{work + "/plain", work + "/mapped"}
	ids := []any{map[string]any{"containerID": 0, "hostID": 100000, "size": 65536}}
	for _, dir := range bundles {
		if out, err := oci("spec", "--bundle", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		patchConfig(t, dir+"/config.json", map[string]any{"process": map[string]any{"terminal": false, "rlimits": nil, "args": []any{"/busybox", "sleep", "1000"}},
			"root": map[string]any{"path": work + "/rootfs"}, "linux": map[string]any{"cgroupsPath": "/" + cgroup + "/c"},
			"hooks": map[string]any{"createRuntime": []any{map[string]any{"path": "/bin/true"}}}})
	}
	patchConfig(t, bundles[1]+"/config.json", map[string]any{"linux": map[string]any{
		"+namespaces": []any{map[string]any{"type": "user"}}, "uidMappings": ids, "gidMappings": ids}})
	var whole time.Duration
	for _, dir := range bundles {
		began := time.Now()
		if err := oci("run", "--detach", "--bundle", dir, "c").Run(); err != nil { // a pipe would be the container's too
			t.Fatal(err)
		}
		whole = time.Since(began)
		if out, err := oci("delete", "--force", "c").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for round := range 40 {
		cmd := oci("run", "--detach", "--bundle", bundles[round%2], "c")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(whole))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		out, err := exec.CommandContext(ctx, filepath.Join(binaries, "docker2013-oci"), "--root", work+"/state", "delete", "--force", "c").CombinedOutput()
		cancel()
		if err != nil {
			t.Errorf("round %d: delete: %v: %s", round, err, out)
		}
		if entries, err := os.ReadDir(work + "/state"); err != nil && !errors.Is(err, os.ErrNotExist) || len(entries) > 0 {
			t.Errorf("round %d: the state has %v, %v", round, entries, err)
		}
		dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + cgroup)
		if len(dirs) > 0 {
			t.Errorf("round %d: cgroups %v", round, dirs)
		}
	}
	// A process that hasn't come into its cgroup died with create: nobody waits.
	for range 100 {
		if out, _ := exec.Command("pgrep", "-f", work+"/state").Output(); len(out) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("a process of create's still lives")
}
