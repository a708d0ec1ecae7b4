package lxc

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"

	"docker2013/container"
)

// prepareRoot makes the working directory, and refuses an image that has a symbolic
// link where LXC mounts something, or whose working directory is below /proc: LXC
// creates targets before it has changed the root, so that the link led it out, and
// /proc/self/fd/N can be a folder of the host that it has open (CVE-2024-21626).
// Nothing runs in the rootfs yet that could change it afterwards.
func prepareRoot(r *container.Record) error {
	rootfs := r.Filesystem.RootFS
	targets := []string{"/proc", "/sys", "/dev/pts", "/etc/resolv.conf"}
	for _, m := range r.Config.Mounts {
		targets = append(targets, m.Target)
	}
	for _, d := range r.Config.Devices {
		targets = append(targets, d.Container)
	}
	for _, target := range targets {
		target = path.Clean("/" + target)
		where, err := securejoin.SecureJoin(rootfs, target)
		if err != nil {
			return fmt.Errorf("mount on %s: %w", target, err)
		}
		if where != filepath.Join(rootfs, target) {
			return fmt.Errorf("mount on %s: the image has a symbolic link there, which would lead LXC out of it", target)
		}
	}
	where, err := securejoin.SecureJoin(rootfs, r.Config.WorkingDir)
	if err != nil {
		return fmt.Errorf("-w %s: %w", r.Config.WorkingDir, err)
	}
	if strings.HasPrefix(where+"/", filepath.Join(rootfs, "proc")+"/") {
		return fmt.Errorf("-w %s: /proc is no place to work in", r.Config.WorkingDir)
	}
	if err := os.MkdirAll(where, 0o755); err != nil { // LXC doesn't
		return fmt.Errorf("-w %s: make it: %w", r.Config.WorkingDir, err)
	}
	return nil
}
