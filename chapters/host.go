package chapters

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"docker2013/cli2013"
)

// labelKey is the label of everything that the course makes; its value is the
// chapter's number or the exercise's name.
const labelKey = "docker2013.course"

// imagePrefix begins the names of images that the course makes.
const imagePrefix = "course-"

// Host is a running daemon and what a script must know of it.
type Host struct {
	Addr string // for calls: $DOCKER
	HTTP string // for HTTP, host:port
	Root string // its data
	Bin  string // the folder of our programs
}

// Connect asks the daemon at an address who it is.
func Connect(ctx context.Context, addr, bin string) (*Host, error) {
	h := &Host{Addr: addr, Bin: bin}
	info, err := h.call(ctx, "info")
	if err != nil {
		return nil, err
	}
	m := regexp.MustCompile(`(?m)^root: (.*)$`).FindStringSubmatch(info)
	if m == nil {
		return nil, fmt.Errorf("the daemon at %s doesn't tell its root: is it a dockerd2013 of this version?", addr)
	}
	h.Root = m[1]
	url, err := h.call(ctx, "web", "-u")
	if err != nil {
		return nil, err
	}
	h.HTTP = strings.Trim(strings.TrimPrefix(strings.TrimSpace(url), "http://"), "/")
	if !isLocalDir(h.Root) {
		return nil, fmt.Errorf("the daemon at %s has its root %s elsewhere: the course needs one on this host", addr, h.Root)
	}
	return h, nil
}

func isLocalDir(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
}

// Name begins the names of what scripts make on the host beside our folders: cgroups,
// network devices and the like. It differs from daemon to daemon, so that two of them can
// play at a time.
func (h *Host) Name() string {
	return fmt.Sprintf("course%04x", crc32.ChecksumIEEE([]byte(h.Root))&0xffff)
}

var otherName = regexp.MustCompile(`^course[0-9a-f]{4}(\W|_|$)`)

// ours reports whether the course of this daemon may have made what has this name. One
// that is fixed, course-08-tree, is everybody's.
func (h *Host) ours(name string) bool {
	return strings.HasPrefix(name, "course") && (strings.HasPrefix(name, h.Name()) || !otherName.MatchString(name))
}

// call makes a call and returns its output. The error has the daemon's words.
func (h *Host) call(ctx context.Context, args ...string) (string, error) {
	client := cli2013.Client{Addr: h.Addr}
	out, err := client.Output(ctx, args...)
	if err != nil {
		return out, fmt.Errorf("docker2013 %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}

// dir is the folder of the course's own, below the daemon's root.
func (h *Host) dir() string { return filepath.Join(h.Root, "course") }

// HaveBase makes the image base if there is none.
func (h *Host) HaveBase(ctx context.Context) error {
	out, err := h.call(ctx, "images", "-q", "base")
	if err == nil && strings.TrimSpace(out) == "" {
		_, err = h.call(ctx, "pull", "base")
	}
	return err
}

// removeContainers ends and removes what has a label: KEY or KEY=VALUE.
func (h *Host) removeContainers(ctx context.Context, label string) (removed []string, err error) {
	ps := func(flags ...string) ([]string, error) {
		out, err := h.call(ctx, append([]string{"ps", "-a", "-q", "--filter", "label=" + label}, flags...)...)
		return strings.Fields(out), err
	}
	all, err := ps()
	if err != nil || len(all) == 0 {
		return nil, err
	}
	paused, err := ps("--filter", "status=paused")
	if err != nil {
		return nil, err
	}
	for _, id := range paused {
		_, perr := h.call(ctx, "unpause", id)
		err = errors.Join(err, perr)
	}
	running, perr := ps("--filter", "status=running")
	err = errors.Join(err, perr)
	for _, id := range running {
		// A moment's grace is of no use to what is thrown away. One that ended meanwhile is fine.
		_, _ = h.call(ctx, "update", "--restart", "no", id)
		_, _ = h.call(ctx, "kill", id)
	}
	for _, id := range all {
		if _, rerr := h.call(ctx, "rm", id); rerr != nil {
			if left, perr := ps(); perr == nil && !slices.Contains(left, id) {
				continue // one with --rm removes itself
			}
			err = errors.Join(err, rerr)
			continue
		}
		removed = append(removed, id)
	}
	return removed, err
}

// courseImages are the ids of images that the course made.
func (h *Host) courseImages(ctx context.Context) ([]string, error) {
	out, err := h.call(ctx, "images", "-q")
	ids := strings.Fields(out)
	return slices.DeleteFunc(ids, func(id string) bool { return !strings.HasPrefix(id, imagePrefix) }), err
}

// removeImages removes the course's images but for some.
func (h *Host) removeImages(ctx context.Context, keep []string) (removed []string, err error) {
	images, err := h.courseImages(ctx)
	if err != nil {
		return nil, err
	}
	for _, id := range images {
		if slices.Contains(keep, id) {
			continue
		}
		if _, rerr := h.call(ctx, "rmi", id); rerr != nil {
			err = errors.Join(err, rerr)
			continue
		}
		removed = append(removed, id)
	}
	return removed, err
}
