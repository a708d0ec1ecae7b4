#!/usr/bin/env bash
# test-vm [-json]: the tests that have to do with the kernel, the end-to-end ones
# above all, in a virtual machine that is as most people's machines are, with
# Debian's own kernel, cgroup v2 alone and AppArmor. It is emulated, so it runs
# where no other virtual machine does.
#
#   VM        no: leave it out, and say so
#   VM_ROOMS  whose tests: "e2e" for the end-to-end tests alone
#   VM_RUN    which of the tests: what go test takes for -run
#   VM_TIME   how long it may take, in seconds
#   VM_ACCEL  how it is run: tcg, or kvm where that works
#
# The root file system is kept in .cache/vm, and made anew when a package is added
# below, or when that folder is removed. With -json the tests' events are for
# testreport to read.
set -euo pipefail
. scripts/lib.sh

packages=(linux-image-cloud-amd64 kmod mount procps iproute2 apparmor lxc bash-static busybox-static fuse3 xz-utils strace curl uidmap runc crun podman)
read -ra rooms <<<"${VM_ROOMS:-cgroups evidence lxc native native/launch e2e}"
package="in a virtual machine"
cache=.cache/vm
: "${VM_RUN:=}" "${VM_TIME:=3600}" "${VM_ACCEL:=tcg,thread=multi}"

main() {
	if [ "${1:-}" != -json ]; then
		"$0" -json | go run ./scripts/testreport
		return
	fi
	local why
	if why=$(why_not); then
		skip "$why"
		return
	fi
	work=$(mktemp -d)
	trap clean_up EXIT
	image=$cache/$(key)
	[ -d "$image" ] || make_image
	make_disk
	boot | go tool test2json -t -p "$package"
}

# why_not prints why there is no virtual machine, if so.
why_not() {
	if [ "${VM:-}" = no ]; then
		echo "left out: VM=no"
	elif [ "$(id -u)" != 0 ]; then
		echo "it needs root: sudo make test-vm"
	elif [ "$(uname -m)" != x86_64 ]; then
		echo "not on this host: the virtual machine is x86_64"
	elif ! command -v apt-get >/dev/null; then
		echo "not on this host: its file system is made of Debian's packages, and there is no apt-get"
	elif [ -z "$(sources)" ]; then
		echo "not on this host: apt's sources have no Debian 12 (bookworm)"
	elif ! scripts/setup.sh qemu-system-x86 mmdebstrap e2fsprogs >&2; then
		echo "not on this host: qemu-system-x86, mmdebstrap and e2fsprogs can't be installed"
	else
		return 1
	fi
}

# skip tells testreport of a test that is skipped, so that nobody overlooks it.
skip() {
	local event='{"Action":"%s","Package":"'$package'","Test":"Test","Output":"%s"}\n'
	# shellcheck disable=SC2059 # that is the format
	printf "$event" output "    test-vm.sh:1: $1\\n" skip ""
}

# sources are this host's own for Debian 12: it is known which mirror it can reach.
sources() {
	# shellcheck disable=SC2016 # the $(…) are apt's
	apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		grep -E ' bookworm(-updates|-security)? main$' | sort -u
}

# key names what the image is made of.
key() { { sources; printf '%s\n' "${packages[@]}"; cat scripts/vm/initramfs.sh; } | sha256sum | cut -c 1-16; }

# make_image makes a folder with the kernel, the initramfs and the root disk.
make_image() {
	say "making the virtual machine's root file system, once" >&2
	local root=$work/root made=$work/image list
	list=$(IFS=,; echo "${packages[*]}")
	sources | mmdebstrap --variant=apt --include="$list" --format=directory \
		--aptopt='APT::Install-Recommends "false"' \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		bookworm "$root" - >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; die "mmdebstrap failed: see above"; }
	mkdir -p "$made" "$cache"
	mv "$root"/boot/vmlinuz-* "$made/kernel"
	rm "$root"/boot/initrd.img-*
	make_initramfs "$root" >"$made/initramfs"
	mke2fs -q -t ext4 -O ^has_journal -d "$root" "$made/disk" 3G >/dev/null
	rm -rf "${cache:?}"/* "$root"
	mv "$made" "$image"
	hand_back .cache
}

# make_initramfs prints one with the modules that the disks need, in the order in
# which they need each other.
make_initramfs() {
	local dir=$work/initramfs n=10 module
	mkdir -p "$dir"/{bin,dev,root,modules}
	cp "$1/bin/busybox" "$dir/bin"
	cp scripts/vm/initramfs.sh "$dir/init"
	while read -r module; do
		cp "$1$module" "$dir/modules/$((n += 1))-${module##*/}"
	done < <(chroot "$1" modprobe -S "$(ls "$1/lib/modules")" --show-depends -a virtio_pci virtio_blk |
		awk '$1 == "insmod" && !seen[$2]++ { print $2 }')
	(cd "$dir" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1)
}

# make_disk makes the second disk: our programs and the tests.
make_disk() {
	local dir=$work/disk room
	mkdir "$dir"
	cp -r bin scripts/vm/init.sh "$dir"
	CGO_ENABLED=0 go build -trimpath -o "$dir/bin/trust-probe" ./e2e/trust/probe
	mkdir -p "$dir/tests/docs" && cp docs/trust.md "$dir/tests/docs"
	for room in "${rooms[@]}"; do
		mkdir -p "$dir/tests/$room"
		go test -c -o "$dir/tests/$room/tests" "./$room"
		[ ! -d "$room/testdata" ] || cp -r "$room/testdata" "$dir/tests/$room"
	done
	printf '%s\n' "${rooms[@]}" >"$dir/rooms"
	# They end by themselves a little before the machine is ended.
	printf '%s\n' -test.timeout="$((VM_TIME - 30))s" ${VM_RUN:+"-test.run=$VM_RUN"} >"$dir/args"
	mke2fs -q -t ext4 -O ^has_journal -d "$dir" "$work/tests" "$(($(du -sm "$dir" | cut -f 1) + 32))M" >/dev/null
}

# boot prints what the tests say. What is written to the disks is forgotten.
boot() {
	say "booting, with $VM_TIME seconds for all" >&2
	timeout --foreground "$VM_TIME" qemu-system-x86_64 -pidfile "$work/pid" -M pc -cpu max -accel "$VM_ACCEL" -smp 2 -m 2G \
		-kernel "$image/kernel" -initrd "$image/initramfs" -append "console=ttyS0 quiet panic=-1" -no-reboot \
		-drive "file=$image/disk,format=raw,if=virtio,snapshot=on" \
		-drive "file=$work/tests,format=raw,if=virtio,readonly=on" \
		-serial "file:$work/console" -serial stdio -display none -monitor none -nic none </dev/null |
		tee "$work/said" || true
	if ! grep -qaE '^(ok  |FAIL)\s+all\s' "$work/said"; then
		tail -n 40 "$work/console"
		printf 'FAIL\tall\tthe machine ended before its tests did: see above for its console\n'
	fi
}

# clean_up is for an end before the machine's own, too.
clean_up() {
	[ ! -f "$work/pid" ] || kill -KILL "$(cat "$work/pid")" 2>/dev/null || true
	rm -rf "$work"
}

main "$@"
