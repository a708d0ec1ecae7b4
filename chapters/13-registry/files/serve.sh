# serve FOLDER: an HTTP server for it on loopback, for as long as this script runs.
# $AT is its address.
serve() {
	for _ in {1..20}; do
		AT=http://127.0.0.1:$((20000 + RANDOM % 20000))
		busybox httpd -f -p "${AT#http://}" -h "$1" 2>/dev/null &
		SERVER=$!
		trap 'kill $SERVER 2>/dev/null || true' EXIT
		for _ in {1..50}; do
			kill -0 $SERVER 2>/dev/null || continue 2   # the port is somebody else's
			curl -so /dev/null "$AT/" && return
			sleep 0.02
		done
	done
	return 1
}
