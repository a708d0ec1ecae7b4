package ociconfig

import (
	"fmt"
	"os"
	"os/exec"
	"sync"

	"github.com/moby/profiles/apparmor"
)

// apparmorProfile is the default one: Docker's text, under a name of ours, since a
// Docker may have its own here.
const apparmorProfile = "docker2013-default"

// defaultApparmor is the default profile's name, loaded into the kernel, which
// keeps it; "" where there is no AppArmor, or no apparmor_parser to load one with.
var defaultApparmor = sync.OnceValues(func() (string, error) {
	if _, err := os.Stat("/sys/kernel/security/apparmor/profiles"); err != nil {
		return "", nil
	}
	if _, err := exec.LookPath("apparmor_parser"); err != nil {
		return "", nil
	}
	loaded, err := apparmor.IsLoaded(apparmorProfile)
	if err == nil && !loaded {
		err = apparmor.InstallDefault(apparmorProfile)
	}
	if err != nil {
		return "", fmt.Errorf("load the AppArmor profile %s: %w: or run without, with --security-opt apparmor=unconfined", apparmorProfile, err)
	}
	return apparmorProfile, nil
})
