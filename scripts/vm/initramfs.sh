#!/bin/busybox sh
# shellcheck shell=dash
# The first program of the virtual machine: finds the disks and goes to the first.
for module in /modules/*; do
	/bin/busybox insmod "$module"
done
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t ext4 /dev/vda /root
/bin/busybox mount -t ext4 -o ro /dev/vdb /root/mnt
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /mnt/init.sh
