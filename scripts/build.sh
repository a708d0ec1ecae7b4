#!/usr/bin/env bash
# build: resolves the chapters' references to our source, and makes the programs in bin/.
set -euo pipefail
. scripts/lib.sh

go run ./scripts/symbols
CGO_ENABLED=0 go build -trimpath -o bin/docker2013 ./cmd/docker2013
CGO_ENABLED=0 go build -trimpath -o bin/docker2013-learn ./cmd/docker2013-learn
CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o bin/docker2013-shim ./cmd/docker2013-shim
CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o bin/docker2013-aufs ./cmd/docker2013-aufs
CGO_ENABLED=1 go build -trimpath -o bin/dockerd2013 ./cmd/dockerd2013
CGO_ENABLED=1 go build -trimpath -ldflags="-s -w" -o bin/docker2013-oci ./cmd/docker2013-oci
hand_back bin
