package ociconfig

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"docker2013/container"
)

// userNamespace is the namespace that owns all the others. What would join one of
// the host's, or needs privileges there, can't be had in it.
func userNamespace(c container.Config) ([]specs.LinuxNamespace, error) {
	switch c.UsernsMode {
	case "", "host":
		return nil, nil
	case container.UsernsAuto:
	default:
		return nil, fmt.Errorf("--userns %s: say auto, or host", c.UsernsMode)
	}
	for _, x := range []struct {
		option string
		given  bool
	}{
		{"--privileged", c.Privileged},
		{"--pid " + c.PidMode, c.PidMode == "host" || strings.HasPrefix(c.PidMode, "container:")},
		{"--ipc " + c.IpcMode, c.IpcMode == "host" || strings.HasPrefix(c.IpcMode, "container:")},
	} {
		if x.given {
			return nil, fmt.Errorf("--userns auto and %s: whoever is nobody on the host can't have that; leave one of them out", x.option)
		}
	}
	return []specs.LinuxNamespace{{Type: specs.UserNamespace}}, nil
}

// mappings are lines of /proc/PID/uid_map.
func mappings(ids *container.IDs) []specs.LinuxIDMapping {
	if ids == nil {
		return nil
	}
	if ids.First == 0 && ids.Count > 1 {
		// The daemon's own, in a user namespace: its root is the user, the others
		// are subordinate ids, and no line may span both (user_namespaces(7)).
		return []specs.LinuxIDMapping{{Size: 1}, {ContainerID: 1, HostID: 1, Size: ids.Count - 1}}
	}
	return []specs.LinuxIDMapping{{HostID: ids.First, Size: ids.Count}}
}

// knownUser refuses one that the namespace doesn't know, and leaves out such groups.
func knownUser(p *specs.Process, ids *container.IDs) error {
	if ids == nil || p == nil {
		return nil
	}
	p.User.AdditionalGids = slices.DeleteFunc(p.User.AdditionalGids, func(gid uint32) bool { return gid >= ids.Count })
	if p.User.UID < ids.Count && p.User.GID < ids.Count {
		return nil
	}
	if ids.Count == 1 {
		return fmt.Errorf("-u: user %d, group %d: this container has but one of each, 0: install the package uidmap, and let root give you more, with usermod --add-subuids and --add-subgids", p.User.UID, p.User.GID)
	}
	return fmt.Errorf("-u: user %d, group %d: this container's go up to %d", p.User.UID, p.User.GID, ids.Count-1)
}

// ttyGroup is whom terminals belong to, in most systems.
const ttyGroup = 5

// knownGroups leaves out what a namespace of one user and one group doesn't know.
func knownGroups(mounts []specs.Mount, ids *container.IDs) {
	if ids == nil || ids.Count > ttyGroup {
		return
	}
	for i := range mounts {
		mounts[i].Options = slices.DeleteFunc(mounts[i].Options, func(o string) bool { return o == fmt.Sprintf("gid=%d", ttyGroup) })
	}
}
