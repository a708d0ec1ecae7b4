#!/usr/bin/env bash
# tidy: brings go.mod and go.sum up to date. `go mod tidy` doesn't look at
# go.work; where that stands in for a module that no proxy gives, go.mod must say
# so meanwhile, and the sums of that module are kept.
set -euo pipefail
. scripts/lib.sh

lxc=github.com/lxc/go-lxc
copy=$(awk -v lxc="$lxc" '$1 == "replace" && $2 == lxc { print $4 }' go.work 2>/dev/null || true)
if [ -z "$copy" ]; then
	go mod tidy
	exit
fi
sums=$(grep "^$lxc " go.sum || true)
go mod edit -replace "$lxc=$copy"
trap 'go mod edit -dropreplace "$lxc"' EXIT
go mod tidy
printf '%s\n' "$sums" | sort -u - go.sum | sed '/^$/d' >go.sum.new
mv go.sum.new go.sum
