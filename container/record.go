package container

import (
	"fmt"
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

	// Engine is the path it was created with: "classic" or "modern".
	Engine string `json:",omitempty"`
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
}

// Limits are the limits beside Ram. Zero or empty is no limit.
type Limits struct {
	CPUShares   uint64 `json:",omitempty"` // relative weight, 1024 is everybody's
	CPUs        int64  `json:",omitempty"` // thousandths of a CPU: 1500 is 1.5
	CPUSet      string `json:",omitempty"` // CPUs it may use: "0-2,4"
	Pids        int64  `json:",omitempty"` // processes and threads
	BlkioWeight uint64 `json:",omitempty"` // relative weight of block I/O, 10 to 1000
}

// State is where a container is in its life.
type State struct {
	Running   bool
	Pid       int // the first process, in the host's PID namespace; 0: none
	ExitCode  int // of the last run; 128+N after signal N; 255: nobody saw it end
	StartedAt time.Time

	// ---

	Paused     bool      `json:",omitempty"`
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
