#!/usr/bin/env bash
# build: resolves the chapters' references to our source, and makes the programs in bin/.
set -euo pipefail
. scripts/lib.sh

# program NAME FLAG... makes bin/NAME. What the linker has written through a mapping the
# kernel caches page by page, a copy of it in large folios: that starts a sixth faster.
program() {
	local file=bin/$1 before
	before=$(stat -c %i "$file" 2>/dev/null || true)
	go build -trimpath "${@:2}" -o "$file" "./cmd/$1"
	[ "$(stat -c %i "$file")" != "$before" ] || return 0
	cp "$file" "$file.new"
	mv "$file.new" "$file"
}

go run ./scripts/symbols
export CGO_ENABLED=0
program docker2013
program docker2013-learn
program docker2013-shim -ldflags="-s -w"
program docker2013-aufs -ldflags="-s -w"
export CGO_ENABLED=1
program dockerd2013
program docker2013-oci -ldflags="-s -w"
hand_back bin
