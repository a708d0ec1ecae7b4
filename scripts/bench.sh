#!/usr/bin/env bash
# bench: measures us against what we are made of, and crun; see scripts/bench/main.go.
set -euo pipefail
. scripts/lib.sh

need_root
command -v hyperfine >/dev/null || die "hyperfine is missing: apt-get install hyperfine"
go run ./scripts/bench -bin bin "$@"
