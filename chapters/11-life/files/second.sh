# A daemon of the step's own, beside the course's: it may be killed without harm.
#   second    starts it; its PID is $SECOND
#   d ARG...  docker2013, talking to it
# When the step ends, however it ends, so does all that the daemon has made.

second() {
	dockerd2013 --root "$W/second" --tcp 127.0.0.1:0 --http 127.0.0.1:0 --socket "$W/second.sock" \
		--cgroup-parent course-second-$$ --log-level error >"$W/second.log" 2>&1 &
	SECOND=$!
	for _ in {1..100}; do
		d version >/dev/null 2>&1 && return
		sleep 0.02
	done
	cat "$W/second.log" >&2
	return 1
}

d() { docker2013 -H "unix://$W/second.sock" "$@"; }

end() {
	kill "$SECOND" 2>/dev/null && wait "$SECOND" 2>/dev/null
	dockerd2013 --root "$W/second" --cgroup-parent course-second-$$ --cleanup >/dev/null 2>&1
}
trap end EXIT
