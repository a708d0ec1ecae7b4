// Package cgroups limits, counts and freezes the processes of a container with
// the kernel's control groups (cgroups(7)).
//
// A cgroup is a folder in a hierarchy, a controller is a part of the kernel that
// limits one resource. In v1, which Docker had in 2013, every controller has a
// hierarchy of its own, mounted below /sys/fs/cgroup, and a process is in one
// cgroup of each. In v2 there is one hierarchy for all controllers, and a cgroup
// has those that its parent hands down (Documentation/admin-guide/cgroup-v2.rst).
// A hybrid host has v1 for its controllers and an empty v2 beside them: here it
// counts as v1.
//
// First a plan, then its application: [Host.Plan] turns the limits of an OCI
// configuration into a list of files and values, or says what this host can't do,
// before anything is made; [Host.Create] makes the cgroup and writes them.
//
// # Joining
//
// Moving another process into a v1 hierarchy takes a lock that every fork and exit
// of the system holds for reading, and waits for grace periods; a thread that
// writes 0 to the file "tasks" moves itself alone and waits for nobody
// (kernel/cgroup/cgroup.c, cgroup_procs_write_start). In v2 a process is born in
// its cgroup: clone3(2), CLONE_INTO_CGROUP. [Group.Join] has the descriptors for
// both.
package cgroups
