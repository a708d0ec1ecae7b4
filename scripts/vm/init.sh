#!/bin/bash
# What systemd does on a Debian of somebody's own, as far as containers care; then
# the tests, which are beside this file. What they say goes to the second serial
# port, as bytes; all else to the console. When it fails the kernel panics, and the
# machine ends.
set -e
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t securityfs security /sys/kernel/security
mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 run /run
mkdir -p /dev/pts /dev/shm
ln -s /proc/self/fd /dev/fd
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs shm /dev/shm
ip link set lo up
modprobe -a overlay veth bridge fuse
apparmor_parser -r /etc/apparmor.d/usr.bin.lxc-start /etc/apparmor.d/lxc-containers
stty -F /dev/ttyS1 raw

export DOCKER2013_BIN=/mnt/bin
mapfile -t args </mnt/args
verdict='ok  '
{
	# A line for each, as `go test` writes it; the last one decides.
	while read -r room; do
		cd "/mnt/tests/$room"
		SECONDS=0 result='ok  '
		./tests -test.v=test2json "${args[@]}" </dev/null || result=FAIL verdict=FAIL
		printf '%s\t%s\t%ss\n' "$result" "$room" "$SECONDS"
	done </mnt/rooms
	printf '%s\tall\t%ss\n' "$verdict" "$(cut -d . -f 1 /proc/uptime)"
} >/dev/ttyS1 2>&1
busybox poweroff -f
