// Package e2e holds the end-to-end tests: scenarios in testdata/script, played
// against a real daemon that is started as a user starts it, on real LXC, real
// mounts and real cgroups. Nothing is mocked.
//
// Every scenario has a daemon of its own, with its own root, ports and cgroup.
// When all have ended, a last check makes sure that no mount, cgroup, process or
// folder is left.
//
// Run one with
//
//	go test ./e2e -run Script/commit
//
// and write its expected output anew with -update. With RACE=1 in the environment the
// daemon is built with Go's race detector, and a race is a failure.
package e2e
