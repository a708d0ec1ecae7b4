package lxc

import (
	"os"
	"strings"
	"testing"
	"time"

	"docker2013/container"
)

func record() *container.Record {
	return &container.Record{
		Id: "cefccf5b", Root: "/var/lib/docker/containers/cefccf5b", Created: time.Unix(1359417600, 0),
		Path: "/bin/echo", Args: []string{"hello"},
		Config: container.Config{Hostname: "cefccf5b"},
		Filesystem: container.Filesystem{
			RootFS: "/var/lib/docker/containers/cefccf5b/rootfs",
			RWPath: "/var/lib/docker/containers/cefccf5b/rw",
			Layers: []string{"/var/lib/docker/images/layers/aca382227ddb6a81"},
		},
	}
}

var v1 = cgroupHost{Version: 1, Weight: "blkio.weight"}
var v2 = cgroupHost{Version: 2, Weight: "io.weight"}

// The whole of config.lxc, for each kind of host and of keys.
// UPDATE=1 writes the golden files.
func TestRenderGolden(t *testing.T) {
	cases := map[string]struct {
		host   cgroupHost
		change func(*container.Record)
	}{
		"today-v1":  {v1, func(*container.Record) {}},
		"today-v2":  {v2, func(*container.Record) {}},
		"keys-2013": {v1, func(r *container.Record) { r.Config.Keys = "2013" }},
		"terminal":  {v1, func(r *container.Record) { r.Config.Tty = true; r.Config.Env = []string{"TERM=xterm"} }},
		"limits-v1": {v1, limits},
		"limits-v2": {v2, limits},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := record()
			c.change(r)
			got, err := render(r, c.host, "docker2013")
			if err != nil {
				t.Fatal(err)
			}
			file := "testdata/" + name + ".lxc"
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("config.lxc is\n%s\nwant (%s)\n%s", got, file, want)
			}
		})
	}
}

func limits(r *container.Record) {
	r.Config.Ram = 512 << 20
	r.Config.Limits = container.Limits{CPUShares: 512, CPUs: 1500, CPUSet: "0-1", Pids: 100, BlkioWeight: 500}
}

func TestRenderRefusesInjection(t *testing.T) {
	for name, change := range map[string]func(*container.Record){
		"hostname":    func(r *container.Record) { r.Config.Hostname = "x\nlxc.hook.pre-start = /bin/sh" },
		"environment": func(r *container.Record) { r.Config.Env = []string{"A=b\nlxc.cap.drop ="} },
		"return":      func(r *container.Record) { r.Config.Env = []string{"A=b\rlxc.cap.drop ="} },
		"root":        func(r *container.Record) { r.Filesystem.RootFS = "/tmp/a\nlxc.cap.drop =" },
	} {
		t.Run(name, func(t *testing.T) {
			r := record()
			change(r)
			if text, err := render(r, v1, "docker2013"); err == nil {
				t.Errorf("rendered:\n%s", text)
			}
		})
	}
}

func TestLimitsThisHostLacks(t *testing.T) {
	for name, c := range map[string]struct {
		host   cgroupHost
		config container.Config
		want   string
	}{
		"memory": {cgroupHost{Version: 1, Missing: map[string]bool{"memory": true}}, container.Config{Ram: 1 << 30}, "memory"},
		"pids":   {cgroupHost{Version: 1, Missing: map[string]bool{"pids": true}}, container.Config{Limits: container.Limits{Pids: 3}}, "pids"},
		"weight": {cgroupHost{Version: 1}, container.Config{Limits: container.Limits{BlkioWeight: 300}}, "--blkio-weight"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := limitLines(c.config, c.host)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one that names %q", err, c.want)
			}
		})
	}
}

func TestStartError(t *testing.T) {
	const noise = `lxc-start a 2026 ERROR    sync - ../src/lxc/sync.c:sync_wait:34 - An error occurred in another process (expected sequence number 7)
lxc-start a 2026 ERROR    start - ../src/lxc/start.c:__lxc_start:2107 - Failed to spawn container "a"
`
	exec := func(cause string) string {
		return `lxc-start a 2026 ERROR    start - ../src/lxc/start.c:start:2197 - ` + cause + ` - Failed to exec "/bin/echo"` + "\n" + noise
	}
	for name, c := range map[string]struct {
		log  string
		keys string
		code int
		text string
	}{
		"missing":          {exec("No such file or directory"), "", 127, "no such program"},
		"not executable":   {exec("Permission denied"), "", 126, "permission denied"},
		"loop":             {exec("Too many levels of symbolic links"), "", 126, "symbolic links"},
		"something else":   {noise, "", 125, "An error occurred in another process"},
		"empty":            {"", "", 125, "no reason"},
		"2013":             {"", "2013", 125, "keys of 2013"},
		"not a log at all": {"\x00\xff\n\n ERROR \n", "", 125, "lxc-start failed"},
	} {
		t.Run(name, func(t *testing.T) {
			r := record()
			r.Config.Keys = c.keys
			se := startError(r, c.log)
			if se.Code != c.code || !strings.Contains(se.Text, c.text) {
				t.Errorf("got %d %q, want %d and %q in it", se.Code, se.Text, c.code, c.text)
			}
		})
	}
}
