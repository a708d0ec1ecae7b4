package container

import (
	"fmt"
	"syscall"
	"time"
)

// Record is what is known of a container, and its config.json. The fields are
// those of 2013 (docker@bba4e36807:container.go:21) and, below the line, ours.
type Record struct {
	Id      string    // 8 hex digits
	Root    string    // the container's folder
	Created time.Time // when
	Path    string    // the program
	Args    []string  // its arguments, without the program's name

	Config     Config
	Filesystem Filesystem
	State      State

	// ---

	// Engine is the path it was created with: Classic or Modern.
	Engine string `json:",omitempty"`
	// Name is a second name, unique among containers; "" if it has none.
	Name string `json:",omitempty"`
	// Restarts counts how often the restart policy has started it again.
	Restarts int `json:",omitempty"`
}

// Config is what the container was asked to be.
type Config struct {
	Hostname  string
	Ram       int64 // bytes, 0: no limit
	Tty       bool
	OpenStdin bool

	// ---

	Env        []string `json:",omitempty"` // KEY=VALUE, in order
	Limits     Limits   `json:",omitzero"`
	AutoRemove bool     `json:",omitempty"` // remove it when it has ended
	Keys       string   `json:",omitempty"` // "2013": config.lxc in the keys of 2013

	WorkingDir string            `json:",omitempty"` // absolute; "": /
	User       string            `json:",omitempty"` // USER[:GROUP], each a name or a number; "": root
	Groups     []string          `json:",omitempty"` // further groups
	Mounts     []Mount           `json:",omitempty"` // in the order in which they are made
	ReadOnly   bool              `json:",omitempty"` // the root file system is
	Labels     map[string]string `json:",omitempty"`

	CapAdd      []string          `json:",omitempty"` // NET_RAW, or ALL
	CapDrop     []string          `json:",omitempty"`
	Privileged  bool              `json:",omitempty"` // all capabilities and devices, nothing masked, no filter
	SecurityOpt []string          `json:",omitempty"` // no-new-privileges, seccomp=…, apparmor=…, label=…
	Devices     []Device          `json:",omitempty"`
	Ulimits     []Ulimit          `json:",omitempty"`
	Sysctls     map[string]string `json:",omitempty"`
	OomScoreAdj int               `json:",omitempty"`

	// Namespaces other than new ones: "host", or "container:ID".
	PidMode    string `json:",omitempty"`
	IpcMode    string `json:",omitempty"`
	UsernsMode string `json:",omitempty"` // "", "host", or UsernsAuto

	Runtime     string         `json:",omitempty"` // another OCI runtime makes it: a path, or a name in PATH
	Init        bool           `json:",omitempty"` // a small init is PID 1
	Restart     RestartPolicy  `json:",omitzero"`
	StopSignal  syscall.Signal `json:",omitempty"` // 0: SIGTERM
	StopTimeout int            `json:",omitempty"` // seconds before SIGKILL; 0: the daemon's
}

// UsernsAuto is a user namespace of its own, with ids that no other has.
const UsernsAuto = "auto"

// Mount is a further mount in a container.
type Mount struct {
	Type     string   // "bind", or "tmpfs"
	Source   string   `json:",omitempty"` // on the host, absolute; for bind
	Target   string   // in the container, absolute
	ReadOnly bool     `json:",omitempty"`
	Options  []string `json:",omitempty"` // mount(8)'s: size=64m, mode=1777, rshared
}

// Device is a device node of the host in a container.
type Device struct {
	Host        string // its path there
	Container   string // and in the container
	Permissions string // of r, w and m (mknod)
}

// UlimitNames are setrlimit(2)'s, as ulimit(1) calls them.
var UlimitNames = []string{"as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc",
	"rss", "rtprio", "rttime", "sigpending", "stack"}

// Ulimit is a resource limit as of setrlimit(2).
type Ulimit struct {
	Name       string // "nofile"
	Soft, Hard int64  // -1: unlimited
}

// RestartPolicy is when a container is started again by itself.
type RestartPolicy struct {
	Name string // "", "no", "on-failure", "always" or "unless-stopped"
	Max  int    `json:",omitempty"` // most restarts in a row of on-failure; 0: any number
}

// Limits are the limits beside Ram. Zero or empty is no limit.
type Limits struct {
	CPUShares   uint64 `json:",omitempty"` // relative weight, 1024 is everybody's
	CPUs        int64  `json:",omitempty"` // thousandths of a CPU: 1500 is 1.5
	CPUSet      string `json:",omitempty"` // CPUs it may use: "0-2,4"
	Pids        int64  `json:",omitempty"` // processes and threads
	BlkioWeight uint64 `json:",omitempty"` // relative weight of block I/O, 10 to 1000

	MemorySwap      int64      `json:",omitempty"` // bytes of memory and swap together; -1: no limit of swap
	DeviceReadBps   []Throttle `json:",omitempty"` // bytes a second
	DeviceWriteBps  []Throttle `json:",omitempty"`
	DeviceReadIOps  []Throttle `json:",omitempty"` // operations a second
	DeviceWriteIOps []Throttle `json:",omitempty"`
}

// Throttle is a limit for one block device.
type Throttle struct {
	Path string // of the device on the host
	Rate uint64
}

// State is where a container is in its life.
type State struct {
	Running   bool
	Pid       int // the first process, in the host's PID namespace; 0: none
	ExitCode  int // of the last run; 128+N after signal N; 255: nobody saw it end
	StartedAt time.Time

	// ---

	Paused     bool      `json:",omitempty"`
	OOMKilled  bool      `json:",omitempty"` // the kernel killed one of its processes for memory
	Stopped    bool      `json:",omitempty"` // by its user: unless-stopped leaves it so
	FinishedAt time.Time `json:",omitzero"`
	Error      string    `json:",omitempty"` // why it didn't start, or what is not known of its end
}

// ExitUnknown is the exit code of a container whose end nobody saw.
const ExitUnknown = 255

// Status is the column of `ps`: "Up 5 minutes" or "Exit 0".
func (s State) Status(now time.Time) string {
	switch {
	case s.Running && s.Paused:
		return fmt.Sprintf("Up %s (Paused)", HumanDuration(now.Sub(s.StartedAt)))
	case s.Running:
		return "Up " + HumanDuration(now.Sub(s.StartedAt))
	case s.StartedAt.IsZero() && s.FinishedAt.IsZero() && s.ExitCode == 0:
		return "Created"
	default:
		return fmt.Sprintf("Exit %d", s.ExitCode)
	}
}

// HumanDuration says how long something took or is ago, as roughly as a person
// would (docker@bba4e36807:future/future.go).
func HumanDuration(d time.Duration) string {
	hours := int(d.Hours())
	switch {
	case d < time.Second:
		return "Less than a second"
	case d < time.Minute:
		return fmt.Sprintf("%d seconds", int(d.Seconds()))
	case d < 2*time.Minute:
		return "About a minute"
	case d < time.Hour:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	case hours < 2:
		return "About an hour"
	case hours < 48:
		return fmt.Sprintf("%d hours", hours)
	case hours < 24*14:
		return fmt.Sprintf("%d days", hours/24)
	case hours < 24*90:
		return fmt.Sprintf("%d weeks", hours/24/7)
	case hours < 24*365*2:
		return fmt.Sprintf("%d months", hours/24/30)
	default:
		return fmt.Sprintf("%d years", hours/24/365)
	}
}
