package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The OCI's own validation suite: programs that make bundles, have a runtime run them,
// and say what is wrong (https://testanything.org).
const (
	suite    = "github.com/opencontainers/runtime-tools@v0.9.1-0.20250523060157-0ea5ed0382a2"
	suiteSum = "h1:2xZEHOdeQBV6PW8ZtimN863bIOl7OCW/X10K0cnxKeA="
)

// complaint is one that the suite has, and why we leave it at that.
type complaint struct {
	program, says string
	why           string
	maybe         bool // on some hosts, or at times
}

var complaints = []complaint{
	{"hooks", "MUST be called in the listed order", "it waits for post-start1, but its own hook writes post-start1 called", false},
	{"hooks_stdin", `MUST be passed to "prestart" hook`, "create hasn't ended yet, so creating is what it is; runc and crun say so too", false},
	{"linux_cgroups_blkio", "leafWeight", "kernels since 5.0 have no leaf weight", true},
	{"linux_cgroups_relative_blkio", "exit status 1", "the same", true},
	{"linux_cgroups_hugetlb", `no cgroup controller "hugetlb"`, "this host has it not", true},
	{"linux_cgroups_relative_hugetlb", "exit status 1", "the same", true},
	{"linux_cgroups_memory", "memory kernel", "a limit of the kernel's own memory: ignored since runtime-spec 1.0.3 and Linux 5.16", true},
	{"linux_cgroups_relative_memory", "memory kernel", "the same", true},
	{"linux_cgroups_network", `no cgroup controller "net_`, "this host has it not", true},
	{"linux_cgroups_relative_network", "exit status 1", "the same", true},
	{"linux_mount_label", "linux.mountLabel", "SELinux's, of which none of us has a host to try it on", false},
	{"linux_ns_itype", "exit status 1", "it leaves the mount namespace out: what runc mounts then stays on the host, we refuse", false},
	{"linux_process_apparmor_profile", "AppArmor", "it asks for a profile that nobody has loaded", true},
	{"misc_props", "unknown annotation key", "it has forgotten to copy runtimetest into its bundle", false},
	{"pidfile", "create with '--pid-file' option works", "it kills a container that has ended, where the specification wants an error", true},
	{"poststart", "MUST be called after the user-specified process is executed", "it is; which of the two writes first then is theirs", true},
	{"poststart_fail", "MUST log a warning", "since runtime-spec 1.3 it must be an error, and the container ends; runc always did so", false},
	{"prestart", "MUST be called after the `start` operation", "since runtime-spec 1.1 they are called by create", false},
	{"process_capabilities", "capability CAP_", "this host has taken capabilities from everybody", true},
	{"process_capabilities_fail", "MUST cause an error", "since runtime-spec 1.1 it must be a warning", false},
	{"process_rlimits", "soft RLIMIT_NOFILE", "runtimetest is a Go program, and Go raises it when a program starts", true},
	{"start", "if `process` was not set", "the error that it wants is there, and it takes the error for the failure", false},
	{"start", "timeout in waiting", "so it waits for the end of what never began", false},
}

// TestValidation has the suite try our runtime: it may complain of nothing but what is
// in the table, and of all that is.
func TestValidation(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: -short")
	}
	programs := buildSuite(t)
	work, err := os.MkdirTemp(filepath.Dir(binaries), "suite-")
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\nexec %s/docker2013-oci --root %s/state \"$@\"\n", binaries, work)
	if err := errors.Join(os.WriteFile(work+"/runtime", []byte(script), 0o755), os.Mkdir(work+"/tmp", 0o755)); err != nil {
		t.Fatal(err)
	}
	_, err = os.Stat("/sys/fs/cgroup/cgroup.controllers")
	v2 := err == nil

	names, err := filepath.Glob(programs + "/bin/*")
	if err != nil || len(names) < 50 {
		t.Fatal(len(names), "programs", err)
	}
	cgroups := func() []string { // ours, for containers that are given none
		list, _ := filepath.Glob("/sys/fs/cgroup/*/docker2013-oci") // the pattern is fine
		return list
	}
	others := cgroups()
	said := map[string][]string{}
	var mu, cgroup sync.Mutex
	var wg sync.WaitGroup
	atOnce := make(chan bool, 4) // they wait, most of the time
	for _, program := range names {
		name := filepath.Base(program)
		if v2 && (strings.HasPrefix(name, "linux_cgroups") || name == "delete_only_create_resources") {
			t.Logf("left out, on this host: %s: the suite knows cgroup v1 alone", name)
			continue
		}
		wg.Go(func() {
			if strings.HasPrefix(name, "linux_cgroups") || strings.HasPrefix(name, "delete_") { // all of them use the same one
				cgroup.Lock()
				defer cgroup.Unlock()
			}
			atOnce <- true
			defer func() { <-atOnce }()
			list := validate(program, programs, work)
			mu.Lock()
			defer mu.Unlock()
			said[name] = list
		})
	}
	wg.Wait()
	for name, list := range said {
		for _, text := range list {
			if !slices.ContainsFunc(complaints, func(c complaint) bool { return c.program == name && strings.Contains(text, c.says) }) {
				t.Errorf("%s: %s", name, text)
			}
		}
	}
	for _, c := range complaints {
		_, ran := said[c.program]
		if ran && !c.maybe && !slices.ContainsFunc(said[c.program], func(text string) bool { return strings.Contains(text, c.says) }) {
			t.Errorf("%s doesn't complain any more of %q: take it out of the table", c.program, c.says)
		}
	}
	if entries, err := os.ReadDir(work + "/state"); err != nil {
		t.Error(err)
	} else if len(entries) > 0 {
		deleteAll(work + "/state") // the suite leaves some
	}
	if left := cgroups(); len(others) == 0 && len(left) > 0 {
		t.Errorf("left: %s", left)
	}
}

// buildSuite builds it from the module proxy: a folder with bin/, and what its programs
// want in their working directory.
func buildSuite(t *testing.T) string {
	dir, err := os.MkdirTemp(filepath.Dir(binaries), "validation-")
	if err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) ([]byte, error) {
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod", "CGO_ENABLED=0")
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(errs.String()+string(out)))
		}
		return out, err
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("not on this host: the OCI's validation suite: there is no go to build it")
	}
	out, err := run("go", "mod", "download", "-json", suite)
	if err != nil {
		t.Skipf("not on this host: the OCI's validation suite can't be had: %v", err)
	}
	var module struct{ Dir, Sum string }
	if err := json.Unmarshal(out, &module); err != nil {
		t.Fatal(err)
	}
	if module.Sum != suiteSum {
		t.Fatalf("%s has the sum %s, and not %s", suite, module.Sum, suiteSum)
	}
	rootfs := fmt.Sprintf("rootfs-%s.tar.gz", runtime.GOARCH)
	data, err := os.ReadFile(filepath.Join(module.Dir, rootfs))
	if err != nil {
		t.Skipf("not on this host: the OCI's validation suite has no %s", rootfs)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, rootfs), data, 0o644), os.Mkdir(dir+"/bin", 0o755)); err != nil {
		t.Fatal(err)
	}
	if _, err := run("go", "build", "-C", module.Dir, "-ldflags=-s -w", "-o", dir+"/bin/", "./validation/...", "./cmd/runtimetest"); err != nil {
		t.Fatalf("build the OCI's validation suite: %v", err)
	}
	if err := os.Rename(dir+"/bin/runtimetest", dir+"/runtimetest"); err != nil {
		t.Fatal(err)
	}
	return dir
}

var (
	notOK     = regexp.MustCompile(`(?m)^not ok \d+ - (.*)$`)
	asserted  = regexp.MustCompile(`(?m)^(not )?ok `)
	diagnosis = regexp.MustCompile(`(?m)^\s*"error": "([^"\\]*)`)
)

// validate runs a program, and gives what it complains of.
func validate(program, dir, work string) (list []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	cmd.Dir, cmd.WaitDelay = dir, time.Second
	cmd.Env = append(os.Environ(), "RUNTIME="+work+"/runtime", "TMPDIR="+work+"/tmp")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	for _, m := range notOK.FindAllStringSubmatch(out.String(), -1) {
		list = append(list, m[1])
	}
	if !asserted.Match(out.Bytes()) { // some say it otherwise
		for _, m := range diagnosis.FindAllStringSubmatch(out.String(), -1) {
			list = append(list, m[1])
		}
	}
	if err != nil {
		list = append(list, fmt.Sprintf("%v: %s", err, strings.Join(strings.Fields(errs.String()), " ")))
	}
	return list
}
