#!/usr/bin/env bash
# test: everything that must hold, the quickest first. Results are never taken
# from Go's cache: the kernel they depend on is not part of its key.
#
#   FUZZTIME  how much each fuzz target runs: 20000x inputs, or 5m. A time can end in Go's own
#             "context deadline exceeded", a number can't
#   VM        no: leave the virtual machine out
#   CI        true: a skipped test is a failure
set -euo pipefail
. scripts/lib.sh

step() { printf '== %s\n' "$*"; }

# go_test runs tests to the end, whatever fails; status keeps that one did.
status=0
go_test() { go test -json -count=1 -timeout 10m "$@" </dev/null || status=1; }

# fuzz_targets prints PACKAGE TARGET for each. go test lists a package's targets
# and then "ok PACKAGE TIME".
fuzz_targets() {
	go test -list '^Fuzz' "$@" | awk '
		/^Fuzz/ { target[n++] = $1 }
		$1 == "ok" { for (i = 0; i < n; i++) print $2, target[i]; n = 0 }'
}

step format
unformatted=$(find . -name '*.go' -not -path '*/testdata/*' -exec gofmt -l {} +)
[ -z "$unformatted" ] || die "not formatted, make fmt does it: ${unformatted//$'\n'/ }"

step vet
go vet ./...

step lint
go tool staticcheck ./...

mapfile -t units < <(go list ./... | grep -v /e2e)
targets=$(fuzz_targets "${units[@]}")
strict=()
[ "${CI:-}" != true ] || strict=(-strict)

{
	step unit tests
	go_test -race "${units[@]}"

	step "fuzz targets, ${FUZZTIME:=20000x} each"
	while read -r package target; do
		[ -n "$package" ] || continue
		printf -- '-- %s\n' "$target"
		time=$FUZZTIME
		[ "$target" != FuzzHistory ] || time=${FUZZMOUNTS:-100x} # each of its inputs mounts file systems
		go_test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 1x "$package"
	done <<<"$targets"

	step end-to-end tests
	go_test -timeout 20m ./e2e/... # the course alone may take five

	# All of them take longer than all the rest together: make test-vm.
	step "some tests in a virtual machine: Debian's kernel, cgroup v2 alone, AppArmor (make test-vm runs all)"
	VM_ROOMS=${VM_ROOMS:-e2e} VM_RUN=${VM_RUN:-^Test(Script|Modern|Rootless|OCI)\$/^(smoke|life|options|devices|apparmor|userns|own|subordinate)\$} scripts/test-vm.sh -json || status=1

	exit "$status"
} | go run ./scripts/testreport "${strict[@]}"
