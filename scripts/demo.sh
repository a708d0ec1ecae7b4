#!/usr/bin/env bash
# demo: gets everything ready, starts the daemon and runs a container in which
# one can see what a container is, with the trace of how it came about.
set -euo pipefail
. scripts/lib.sh

main() {
	need_root
	scripts/setup.sh
	scripts/build.sh
	choose_root
	start_daemon
	if [ -z "$(bin/docker2013 images -q base)" ]; then
		run docker2013 pull base
	fi
	run docker2013 run --trace base /bin/bash -c "$in_the_container"
	what_next
}

# shellcheck disable=SC2016 # all of it is for the container's shell
in_the_container='
echo "hostname:   $(hostname)"
echo "my PID:     $$"
echo "namespaces: $(for n in /proc/self/ns/*; do readlink "$n"; done | sort -u | tr "\n" " ")"
echo "cgroups:"
cat /proc/self/cgroup
'

# run shows a command as one would type it, and runs it.
run() {
	local shown="" word
	for word; do
		case $word in
		*[!A-Za-z0-9_./:=-]*) shown+=" '$word'" ;;
		*) shown+=" $word" ;;
		esac
	done
	printf '\n$%s\n' "$shown"
	"bin/$1" "${@:2}"
}

start_daemon() {
	if answers; then
		say "a daemon answers on $DOCKER already: using that one"
		return
	fi
	local address
	for address in "$DOCKER" "$DOCKER2013_HTTP"; do
		! listens "$address" || die "something else listens on $address: end it, or choose other addresses:" \
			"sudo make demo DOCKER=127.0.0.1:4243 DOCKER2013_HTTP=127.0.0.1:8081"
	done
	[ -d "$DOCKER2013_ROOT" ] || install -d -m 0700 "$DOCKER2013_ROOT"
	daemon --pidfile "$pidfile" &
	local started=$!
	for _ in $(seq 100); do
		if answers; then
			say "dockerd2013 runs: data in $DOCKER2013_ROOT, log in $logfile"
			return
		fi
		kill -0 "$started" 2>/dev/null || break
		sleep 0.1
	done
	tail -n 5 "$logfile" >&2
	die "dockerd2013 doesn't answer on $DOCKER: see above and $logfile, and try: sudo bin/docker2013 doctor"
}

# listens HOST:PORT: does anything listen there?
listens() {
	(exec 3<>"/dev/tcp/${1%:*}/${1##*:}") 2>/dev/null
}

what_next() {
	printf '\nWhat to type next:\n\n'
	if [ "$(command -v docker2013)" != "$PWD/bin/docker2013" ]; then
		printf '  %-45s %s\n' "export PATH=\"$PWD/bin:\$PATH\"" "to find the program"
	fi
	if [ "$DOCKER" != 127.0.0.1:4242 ]; then
		printf '  %-45s %s\n' "export DOCKER=$DOCKER" "to find the daemon"
	fi
	printf '  %-45s %s\n' \
		"docker2013 run base /bin/bash" "a shell in a new container; exit ends it" \
		"docker2013 run --path modern base /bin/bash" "the same, as it is made now" \
		"docker2013 ps -a" "every container there is" \
		"docker2013 diff ID" "what one has changed" \
		"docker2013 commit ID mine" "make that an image" \
		"sudo -E env PATH=\$PATH docker2013 learn" "fourteen chapters: each claim, proved by the kernel" \
		"sudo bin/docker2013 doctor" "what this host can do" \
		"sudo make stop" "end the daemon, and clean up"
}

main
