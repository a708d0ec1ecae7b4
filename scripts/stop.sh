#!/usr/bin/env bash
# stop: ends the daemon that demo started and its containers, takes away what a
# killed one left, and checks that nothing is left.
set -euo pipefail
. scripts/lib.sh

main() {
	need_root
	choose_root
	if pid=$(daemon_pid); then
		end_daemon "$pid"
	elif answers; then
		say "the daemon on $DOCKER was not started by make demo: it is left alone"
		return
	fi
	rm -f "$pidfile"
	if [ -n "$(leftovers)" ]; then
		clean_up
	fi
	check
}

end_daemon() {
	say "ending dockerd2013, process $1, and its containers"
	kill -TERM "$1"
	for _ in $(seq 300); do
		is_daemon "$1" || return 0
		sleep 0.1
	done
	say "it doesn't end within 30 s: killing it"
	kill -KILL "$1"
	sleep 1
}

clean_up() {
	say "cleaning up what a killed daemon left"
	[ -x bin/dockerd2013 ] || die "there is no bin/dockerd2013 to do it with: make build"
	(daemon --cleanup) || tail -n 5 "$logfile" >&2
}

# leftovers lists what is still there of the daemon's work, a line each. Its
# processes and those of lxc-start name the root in their command line; the
# containers' own are in its cgroups.
leftovers() {
	awk -v below="$DOCKER2013_ROOT/" 'index($5, below) == 1 { print "mount " $5 }' /proc/self/mountinfo
	find /sys/fs/cgroup -depth -type d \( -path "*/$DOCKER2013_CGROUP" -o -path "*/$DOCKER2013_CGROUP/*" \) -printf 'cgroup %p\n' 2>/dev/null || true
	# The pattern comes by a pipe: on its command line grep would find itself.
	# shellcheck disable=SC2062 # there it is no pattern but the files
	printf '%s\n' "$DOCKER2013_ROOT/containers" |
		grep -lsaFf - /proc/[0-9]*/cmdline | sed 's,/proc/\(.*\)/cmdline,process \1,' || true
}

check() {
	local left
	left=$(leftovers)
	if [ -n "$left" ]; then
		printf '%s\n' "$left" >&2
		die "the above is still there"
	fi
	say "no process, mount or cgroup is left"
	[ ! -d "$DOCKER2013_ROOT" ] || say "images and containers are kept in $DOCKER2013_ROOT"
}

main
