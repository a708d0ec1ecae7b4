# docker2013: `make help` lists the targets. The work is done by scripts/.

# sudo drops a PATH that has Go in it.
export PATH := $(PATH):/usr/local/go/bin

# Where git refuses to read the checkout (another user's, say), so does Go's
# version stamp, and it would stop the build.
ifneq ($(shell git rev-parse --is-inside-work-tree 2>/dev/null),true)
export GOFLAGS := $(GOFLAGS) -buildvcs=false
endif

.DEFAULT_GOAL := help
.PHONY: help setup build test test-vm bench demo stop fmt tidy clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing: Debian packages, the module go-lxc
	@scripts/setup.sh

build: setup ## build the programs in bin/
	@scripts/build.sh

test: build ## format, vet, lint, unit, fuzz and end-to-end tests (as root)
	@scripts/setup.sh runc tmux
	-@scripts/setup.sh podman uidmap # without them the tests of engines and of subordinate ids are skipped
	@scripts/test.sh

test-vm: build ## the kernel's tests in a virtual machine with Debian 12 (as root)
	@scripts/test-vm.sh

bench: ## compare our speed with lxc-start, crun, tar and more (as root)
	@scripts/setup.sh hyperfine fuse-overlayfs
	@scripts/build.sh
	@scripts/bench.sh

demo: ## start the daemon and run a container with its trace (as root)
	@scripts/demo.sh

stop: ## end what demo started, and check that nothing is left (as root)
	@scripts/stop.sh

fmt: ## format the Go files
	gofmt -w .

tidy: ## bring go.mod and go.sum up to date
	@scripts/tidy.sh

clean: ## remove what build and test-vm made
	rm -rf bin .cache
