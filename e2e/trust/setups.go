package trust

// hostileImage makes an image of busybox alone, in which LINK leads to TO.
const hostileImage = `
image() { # LINK TO
	rm -rf image && mkdir -p image/bin image/dev image/etc image/proc image/sys
	cp /bin/busybox image/bin/busybox
	ln -s busybox image/bin/sh
	rm -rf "image/$1"
	ln -s "$2" "image/$1"
	tar -C image -cf - . | docker2013 put hostile >/dev/null
}
# started tells whether a container starts, and whether it came to $OUT.
started() {
	answer=refused
	docker2013 run "$@" >/dev/null 2>&1 && answer=started
	[ -z "$(ls -A "$OUT")" ] || answer="wrote to the host"
	echo "$answer"
}
`

const (
	linkRefused = "refused"
	stayedIn    = "started"
)

// setups are tried from outside.
var setups = []Setup{
	{"proc-link", "an image whose /proc is a link to a folder of the host", hostileImage + `image proc "$OUT"; started hostile /bin/busybox true`, linkRefused, linkRefused, ""},
	{"sys-link", "an image whose /sys is one", hostileImage + `image sys "$OUT"; started hostile /bin/busybox true`, linkRefused, linkRefused, ""},
	{"dev-link", "an image whose /dev is one", hostileImage + `image dev "$OUT"; started hostile /bin/busybox true`, linkRefused, linkRefused, ""},
	{"etc-link", "an image whose /etc, where resolv.conf is mounted, is one", hostileImage + `image etc "$OUT"; started hostile /bin/busybox true`, linkRefused, linkRefused, ""},
	{"etc-dots", "an image whose /etc leads out by dots", hostileImage + `image etc "../../../../../../../..$OUT"; started hostile /bin/busybox true`, linkRefused, linkRefused, ""},
	{"volume-link", "a mount on a path that the image has a link at", hostileImage + `image data "$OUT"; started -v /etc:/data/deep:ro hostile /bin/busybox true`, linkRefused, linkRefused, ""},
	{"tmpfs-link", "a tmpfs on such a path", hostileImage + `image data "$OUT"; started --tmpfs /data/deep hostile /bin/busybox true`, linkRefused, linkRefused, ""},
	{"volume-dots", "a mount on a path with dots: it is inside all the same", hostileImage + `image x /; started -v /etc:/../../..$OUT:ro hostile /bin/busybox true`, stayedIn + "|refused", stayedIn, ""},
	{"workdir", "a working directory that is a folder of the runtime's (CVE-2024-21626)", hostileImage + `
		image link /proc/self/fd
		echo canary >canary
		id=$(docker2013 run -d base /bin/sleep 1000)
		for fd in 4 6 7 8 9 10; do
			docker2013 run -w /proc/self/fd/$fd base /bin/sh -c "cat ../../../../../../../../../..$PWD/canary" 2>/dev/null || true
			docker2013 run -w /link/$fd hostile /bin/busybox sh -c "/bin/busybox cat ../../../../../../../../../..$PWD/canary" 2>/dev/null || true
			docker2013 exec -w /proc/self/fd/$fd $id /bin/sh -c "cat ../../../../../../../../../..$PWD/canary" 2>/dev/null || true
		done | grep -q canary && echo outside || echo inside
		docker2013 kill $id >/dev/null`, "inside", "inside", ""},
	{"user-link", "an image whose passwd is a link to the host's", hostileImage + `image etc/passwd /etc/passwd; started -u daemon hostile /bin/busybox true`, linkRefused, linkRefused, ""},
	{"cat-link", "cat of a link to a file of the host", `
		echo canary >canary
		id=$(docker2013 run -d base /bin/sh -c "ln -s $PWD/canary /link; ln -s ../../../../../../../../..$PWD/canary /dots")
		docker2013 wait $id >/dev/null
		{ docker2013 cat $id /link || docker2013 cat $id /dots; } 2>/dev/null | grep -q canary && echo outside || echo inside`, "inside", "inside", ""},
	{"cp-link", "cp into a folder that is a link to one of the host", `
		id=$(docker2013 run -d base /bin/sh -c "ln -s $OUT /link"); docker2013 wait $id >/dev/null
		echo x >file; docker2013 cp file $id:/link/ >/dev/null 2>&1 || true
		[ -z "$(ls -A "$OUT")" ] && echo inside || echo outside`, "inside", "inside", ""},
	{"disk-in-image", "an image that brings the node of the host's disk along", hostileImage + `
		image x /
		mknod image/dev/disk b $(awk 'NR == 3 { print $1, $2 }' /proc/partitions)
		tar -C image -cf - . | docker2013 put disk >/dev/null
		docker2013 run disk /bin/busybox dd if=/dev/disk of=/dev/null count=1 >out 2>&1 && echo allowed || sed -n "s/.*\(Operation not permitted\|No such file or directory\).*/\1/p" out`,
		"No such file or directory", "No such file or directory", ""},
	{"runtime-exe", "a program whose interpreter is /proc/self/exe: it is the runtime, whose file a program inside then tries to write to (CVE-2019-5736)", `
		id=$(docker2013 run -d -v $PROBE:/probe:ro base /probe hold-exe)
		printf '#!/proc/self/exe\n' >evil; chmod 755 evil; docker2013 cp evil $id:/evil
		for i in 1 2 3 4 5 6 7 8 9 10; do docker2013 exec $id /evil >/dev/null 2>&1 || true; done
		docker2013 wait $id >/dev/null; docker2013 logs $id`, "read-only", "sealed", ""},
	{"signal-out", "kill -1: every process that can be seen", `
		docker2013 run base /bin/sh -c 'kill -9 -1; echo still here' && sleep 0 && docker2013 version >/dev/null && echo "only its own"`, "only its own", "only its own", ""},
}
