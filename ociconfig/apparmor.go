package ociconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"sync"

	"github.com/moby/profiles/apparmor"
)

// apparmorProfile is the default one: Docker's text, under a name of ours, since a
// Docker may have its own here.
const apparmorProfile = "docker2013-default"

// hasApparmor asks the kernel's module: /sys/kernel/security may be covered, as podman
// does it for a container with a user namespace.
func hasApparmor() bool {
	enabled, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && strings.HasPrefix(string(enabled), "Y")
}

// defaultApparmor is the default profile's name, loaded into the kernel, which
// keeps it; "" where there is no AppArmor, or no apparmor_parser to load one with, or
// for an ordinary user, who may load none.
var defaultApparmor = sync.OnceValues(func() (string, error) {
	if _, err := os.Stat("/sys/kernel/security/apparmor/profiles"); err != nil {
		return "", nil
	}
	if _, err := exec.LookPath("apparmor_parser"); err != nil {
		return "", nil
	}
	loaded, err := apparmor.IsLoaded(apparmorProfile)
	if errors.Is(err, fs.ErrPermission) {
		return "", nil
	}
	if err == nil && !loaded {
		err = apparmor.InstallDefault(apparmorProfile)
	}
	if err != nil {
		return "", fmt.Errorf("load the AppArmor profile %s: %w: or run without, with --security-opt apparmor=unconfined", apparmorProfile, err)
	}
	return apparmorProfile, nil
})
