package ociconfig

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"

	"docker2013/container"
)

// processUser finds who the process runs as. The usual case, root, reads nothing.
func processUser(fsys container.Filesystem, c container.Config) (specs.User, error) {
	if (c.User == "" || c.User == "0" || c.User == "0:0") && len(c.Groups) == 0 {
		return specs.User{}, nil
	}
	passwd, err := imageFile(fsys, "etc/passwd")
	if err != nil {
		return specs.User{}, err
	}
	defer passwd.Close()
	group, err := imageFile(fsys, "etc/group")
	if err != nil {
		return specs.User{}, err
	}
	defer group.Close()
	found, err := find(c.User, passwd, group)
	if err != nil {
		return specs.User{}, fmt.Errorf("-u %s: %w", c.User, err)
	}
	u := specs.User{UID: uint32(found.Uid), GID: uint32(found.Gid)}
	for _, g := range found.Sgids {
		u.AdditionalGids = append(u.AdditionalGids, uint32(g))
	}
	if len(c.Groups) > 0 {
		if _, err := group.Seek(0, io.SeekStart); err != nil {
			return u, err
		}
		gids, err := groupIDs(c.Groups, group)
		if err != nil {
			return u, fmt.Errorf("--group-add: %w", err)
		}
		u.AdditionalGids = append(u.AdditionalGids, gids...)
	}
	return u, nil
}

func find(spec string, passwd, group *os.File) (*user.ExecUser, error) {
	defaults := &user.ExecUser{Home: "/"}
	found, err := user.GetExecUser(spec, defaults, passwd, group)
	switch {
	case errors.Is(err, user.ErrNoPasswdEntries):
		return nil, errors.New("no such user in the image's /etc/passwd")
	case errors.Is(err, user.ErrNoGroupEntries):
		return nil, errors.New("no such group in the image's /etc/group")
	}
	return found, err
}

func groupIDs(names []string, group *os.File) ([]uint32, error) {
	gids, err := user.GetAdditionalGroups(names, group)
	if err != nil {
		return nil, err
	}
	var list []uint32
	for _, g := range gids {
		list = append(list, uint32(g))
	}
	return list, nil
}

// imageFile opens a file as the container would see it: what it has written
// itself, else the topmost layer's. No link of the image leads out of it. A file
// that isn't there is empty.
func imageFile(fsys container.Filesystem, name string) (*os.File, error) {
	for _, dir := range append([]string{fsys.RWPath}, fsys.Layers...) {
		if dir == "" {
			continue // no container yet
		}
		f, err := securejoin.OpenInRoot(dir, name)
		if err == nil {
			defer f.Close()
			return securejoin.Reopen(f, os.O_RDONLY)
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("read the image's /%s: %w", name, err)
		}
	}
	return os.Open(os.DevNull)
}

// capabilities: Docker's 14, what was added and dropped; all for --privileged.
// A user other than root has them in the bounding set only.
func capabilities(c container.Config, root bool) (*specs.LinuxCapabilities, error) {
	known, err := knownCapabilities()
	if err != nil {
		return nil, err
	}
	set := map[string]bool{}
	if c.Privileged {
		c.CapAdd = append([]string{"ALL"}, c.CapAdd...)
	} else {
		for _, name := range defaultCapabilities {
			set[name] = true
		}
	}
	change := func(flag string, names []string, to bool) error {
		for _, n := range names {
			name := "CAP_" + strings.TrimPrefix(strings.ToUpper(n), "CAP_")
			switch {
			case name == "CAP_ALL":
				for _, k := range known {
					set[k] = to
				}
			case !slices.Contains(known, name):
				return fmt.Errorf("%s %s: this kernel has no such capability; see capabilities(7)", flag, n)
			default:
				set[name] = to
			}
		}
		return nil
	}
	// Dropping ALL comes first, so that single ones can be given back.
	dropAll, drop := split(c.CapDrop)
	if err := errors.Join(change("--cap-drop", dropAll, false), change("--cap-add", c.CapAdd, true), change("--cap-drop", drop, false)); err != nil {
		return nil, err
	}
	list := []string{}
	for _, name := range known {
		if set[name] {
			list = append(list, name)
		}
	}
	out := &specs.LinuxCapabilities{Bounding: list}
	if root {
		out.Effective, out.Permitted = list, list
	}
	return out, nil
}

func split(names []string) (all, single []string) {
	for _, n := range names {
		if strings.EqualFold(strings.TrimPrefix(strings.ToUpper(n), "CAP_"), "ALL") {
			all = append(all, n)
		} else {
			single = append(single, n)
		}
	}
	return all, single
}
