package lxc

import (
	"fmt"
	"strings"
	"text/template"

	"docker2013/container"
)

// keys are the names that changed when LXC 2.1 renamed its configuration.
// LXC 3 and later refuse the old ones (lxc.container.conf(5)).
type keys struct {
	Utsname, Rootfs, Pts, Console, Tty string
}

var (
	keysToday = keys{"lxc.uts.name", "lxc.rootfs.path", "lxc.pty.max", "lxc.console.path", "lxc.tty.max"}
	keys2013  = keys{"lxc.utsname", "lxc.rootfs", "lxc.pts", "lxc.console", "lxc.tty"}
)

// configTemplate is config.lxc (docker@bba4e36807:lxc_template.go).
//
// The mount targets are relative: LXC takes them below the container's root.
// In 2013 they were absolute, and began with the path of rootfs/.
var configTemplate = template.Must(template.New("config.lxc").Parse(`# {{.Record.Id}}: written anew at every start

# ours: where LXC says what went wrong; first, so that it can say so of all below
lxc.log.file = {{.Log}}
lxc.log.level = ERROR

{{.Keys.Utsname}} = {{.Hostname}}

# the union mount
{{.Keys.Rootfs}} = {{.Record.Filesystem.RootFS}}

# a devpts of its own
{{.Keys.Pts}} = 1024
{{- if .Record.Config.Tty}}

# with a terminal LXC makes the console the session's controlling terminal;
# in 2013 this was "none" here too, and a shell had no job control
{{- else}}

# no console: the standard streams are what lxc-start was given
{{.Keys.Console}} = none
{{- end}}
{{.Keys.Tty}} = 1

# no device but these
{{.Cgroup}}.devices.deny = a
{{- range .Devices}}
{{$.Cgroup}}.devices.allow = {{.Rule}} rwm
{{- end}}

# what every program expects to be mounted
lxc.mount.entry = proc {{.Target "proc"}} proc nosuid,nodev,noexec{{.Create "dir"}} 0 0
lxc.mount.entry = sysfs {{.Target "sys"}} sysfs nosuid,nodev,noexec{{.Create "dir"}} 0 0
lxc.mount.entry = devpts {{.Target "dev/pts"}} devpts newinstance,ptmxmode=0666,nosuid,noexec 0 0
lxc.mount.entry = /etc/resolv.conf {{.Target "etc/resolv.conf"}} none bind,ro{{.Create "file"}} 0 0

# what root in here can't do
lxc.cap.drop = {{.Dropped}}
{{- if .Limits}}

# limits
{{- range .Limits}}
{{.}}
{{- end}}
{{- end}}
{{- if .Options}}

# ours: options of later years
{{- range .Options}}
{{.}}
{{- end}}
{{- end}}
{{- if .Today}}

# ours: what 2013 left to LXC's defaults
{{- range .Record.Config.Env}}
lxc.environment = {{.}}
{{- end}}
lxc.cgroup.dir.container = {{.CgroupDir}}
lxc.cgroup.dir.monitor = {{.CgroupDir}}.monitor
lxc.cgroup.dir.monitor.pivot = {{.CgroupPivot}}
{{- end}}
`))

// device is a character device that a container may use.
type device struct{ Rule, Name string }

var devices = []device{
	{"c 1:3", "null"}, {"c 1:5", "zero"},
	{"c 5:1", "console"}, {"c 5:0", "tty"}, {"c 4:0", "tty0"}, {"c 4:1", "tty1"},
	{"c 1:9", "urandom"}, {"c 1:8", "random"},
	{"c 136:*", "pts"}, {"c 5:2", "ptmx"},
	{"c 10:200", "tun"},
}

// dropped are the capabilities that even root lacks in the container.
var dropped = []string{
	"audit_control", "audit_write", "mac_admin", "mac_override", "mknod", "net_raw",
	"setfcap", "setpcap", "sys_admin", "sys_boot", "sys_module", "sys_nice",
	"sys_pacct", "sys_rawio", "sys_resource", "sys_time", "sys_tty_config",
}

// view is what the template sees.
type view struct {
	Record                 *container.Record
	Keys                   keys
	Today                  bool
	Cgroup                 string // "lxc.cgroup" or "lxc.cgroup2"
	Devices                []device
	Dropped                string
	Limits, Options        []string
	CgroupDir, CgroupPivot string
}

// Hostname is the container's name for itself.
func (v view) Hostname() string {
	if v.Record.Config.Hostname != "" {
		return v.Record.Config.Hostname
	}
	return v.Record.Id
}

// Log is the file of LXC's own log. (Given on the command line instead, lxc-start
// writes to the container's stderr as well, -q or not.)
func (v view) Log() string { return logPath(v.Record) }

// Target is where something is mounted, the way the year wants it.
func (v view) Target(path string) string {
	if v.Today {
		return path
	}
	return v.Record.Filesystem.RootFS + "/" + path
}

// Create makes LXC create a target that the image lacks; in 2013 such an image
// didn't start.
func (v view) Create(kind string) string {
	if v.Today {
		return ",create=" + kind
	}
	return ""
}

// render makes the text of config.lxc. It is pure: host says which cgroup
// version the limits are for, parent which cgroup the container's is below.
func render(r *container.Record, host cgroupHost, parent string) (string, error) {
	today := r.Config.Keys != "2013"
	limits, err := limitLines(r.Config, host)
	if err != nil {
		return "", err
	}
	options, err := optionLines(r.Config, host.prefix())
	if err != nil {
		return "", err
	}
	drop, err := dropFor(r.Config)
	if err != nil {
		return "", err
	}
	v := view{
		Record: r, Keys: keysToday, Today: today, Cgroup: host.prefix(),
		Devices: devices, Dropped: strings.Join(drop, " "), Limits: limits, Options: options,
		CgroupDir: parent + "/" + r.Id, CgroupPivot: parent + "/pivot",
	}
	if !today {
		v.Keys = keys2013
	}
	// A line break would end a value and begin a key of somebody's choosing.
	for _, value := range append([]string{v.Hostname(), r.Filesystem.RootFS}, r.Config.Env...) {
		if strings.ContainsAny(value, "\n\r\x00") {
			return "", fmt.Errorf("%q holds a line break, which config.lxc can't", value)
		}
	}
	var b strings.Builder
	if err := configTemplate.Execute(&b, v); err != nil {
		return "", fmt.Errorf("render config.lxc: %w", err)
	}
	return b.String(), nil
}
