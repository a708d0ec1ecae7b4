# podman with all that it keeps in one folder, $POD (a short name: it wants that).
# Some hosts give root no right to raise limits, so they are set low.
POD=$(mktemp -d /tmp/pod-XXXX)

pod() {
	podman --root "$POD/root" --runroot "$POD/run" --tmpdir "$POD/tmp" --storage-driver vfs \
		--events-backend none --cgroup-manager cgroupfs --runtime runc "$@"
}

# pod_run NAME ROOTFS COMMAND...
pod_run() {
	local name=$1 rootfs=$2
	shift 2
	pod run -d --name "$name" --network none --cgroup-parent /course-podman \
		--ulimit nofile=1000:1000 --ulimit nproc=1000:1000 --rootfs "$rootfs" "$@" >/dev/null
}

# pod_end NAME: removes the container, the folder, and the empty cgroups that podman leaves.
pod_end() {
	pod rm -f -t 0 "$1" >/dev/null || true
	local try
	for try in {1..100}; do # conmon is still on its way out
		find /sys/fs/cgroup -depth -type d -path '*/course-podman*' -exec rmdir {} + 2>/dev/null || true
		[ -n "$(find /sys/fs/cgroup -type d -name course-podman 2>/dev/null)" ] || break
		sleep 0.02
	done
	rm -rf "$POD"
}
