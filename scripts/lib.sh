# shellcheck shell=bash
# What the scripts share. They are all run by make, at the top of the checkout.

say() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*"; }

die() {
	printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2
	exit 1
}

need_root() {
	[ "$(id -u)" = 0 ] || die "needs root: sudo make $(basename "$0" .sh)"
}

# hand_back PATH: what sudo made here belongs to the user who called sudo.
hand_back() {
	[ -z "${SUDO_UID:-}" ] || chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$1"
}

# The daemon that demo starts and stop ends: where it keeps its data, where it
# listens, its cgroup. All can be set from outside: make demo DOCKER2013_ROOT=…
DOCKER2013_ROOT=${DOCKER2013_ROOT:-}
export DOCKER=${DOCKER:-127.0.0.1:4242}
DOCKER2013_HTTP=${DOCKER2013_HTTP:-127.0.0.1:8080}
DOCKER2013_CGROUP=${DOCKER2013_CGROUP:-docker2013}

# modern_docker DIR: does DIR hold the data of a Docker later than 2013? The
# daemon refuses the same names.
modern_docker() {
	local name
	for name in overlay2 image containerd buildkit volumes network swarm engine-id repositories-aufs linkgraph.db; do
		[ ! -e "$1/$name" ] || return 0
	done
	return 1
}

# choose_root sets DOCKER2013_ROOT, and pidfile and logfile in it: the place of
# 2013, unless a modern Docker lives there.
choose_root() {
	if [ -z "$DOCKER2013_ROOT" ]; then
		DOCKER2013_ROOT=/var/lib/docker
		if modern_docker "$DOCKER2013_ROOT"; then
			DOCKER2013_ROOT=/var/lib/docker2013
			say "/var/lib/docker holds a modern Docker's data and is left alone: using $DOCKER2013_ROOT"
		fi
	fi
	DOCKER2013_ROOT=$(realpath -m "$DOCKER2013_ROOT")
	pidfile=$DOCKER2013_ROOT/dockerd2013.pid
	logfile=$DOCKER2013_ROOT/dockerd2013.log
}

# daemon becomes our daemon on the chosen root, with further flags, in a session
# of its own: the terminal's ^C and end are not for it. To be called in a subshell.
daemon() {
	exec setsid bin/dockerd2013 --root "$DOCKER2013_ROOT" --tcp "$DOCKER" --http "$DOCKER2013_HTTP" \
		--cgroup-parent "$DOCKER2013_CGROUP" "$@" >>"$logfile" 2>&1 </dev/null
}

# daemon_pid prints the process that the pid file is about, if it is our daemon.
daemon_pid() {
	local pid
	pid=$(cat "$pidfile" 2>/dev/null) && is_daemon "$pid" && printf '%s\n' "$pid"
}

# is_daemon PID: does our daemon run as that process? The number may have been
# given to another one meanwhile, and one that has ended has no exe any more,
# even when nobody has waited for it.
is_daemon() {
	case $(readlink "/proc/$1/exe" 2>/dev/null) in
	*/dockerd2013 | */'dockerd2013 (deleted)') return 0 ;;
	*) return 1 ;;
	esac
}

# answers: does a daemon of ours answer on $DOCKER?
answers() {
	[ -x bin/docker2013 ] && timeout 5 bin/docker2013 version >/dev/null 2>&1
}
