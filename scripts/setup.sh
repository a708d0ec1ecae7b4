#!/usr/bin/env bash
# setup [PACKAGE...]: gets ready what the build and the tests need, and the
# further Debian packages that are named. Does nothing, quickly, when all is there.
set -euo pipefail
. scripts/lib.sh

# Go itself can't come from Debian 12, whose own is too old.
need_go() {
	local have want
	want=$(awk '$1 == "go" { print $2 }' go.mod)
	local help="install Go $want or later from https://go.dev/dl into /usr/local/go"
	command -v go >/dev/null || die "there is no go on the PATH nor in /usr/local/go/bin: $help"
	# An old go fetches the one that go.mod asks for, if it can.
	have=$(GOWORK=off go env GOVERSION 2>/dev/null) || die "$(go version | cut -d ' ' -f 3) is too old and can't fetch a newer one: $help"
	printf '%s\n' "$want" "${have##*go}" | sort --version-sort --check=quiet || die "$have is too old: $help"
}

# installed PACKAGE: LXC's headers have one name in Debian 12, another elsewhere.
installed() {
	case $1 in
	lxc-dev) grep -qxE '(lib)?lxc-dev installed' <<<"$packages" ;;
	*) grep -qx "$1 installed" <<<"$packages" ;;
	esac
}

need_packages() {
	if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
		need_programs
		return
	fi
	# shellcheck disable=SC2016 # the ${…} are dpkg-query's
	packages=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" liblxc-dev 2>/dev/null || true)
	local package missing=()
	for package; do
		installed "$package" || missing+=("$package")
	done
	[ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"
}

install_packages() {
	[ "$(id -u)" = 0 ] || die "missing Debian packages: $*; install them with: sudo make setup"
	say "installing $*"
	local log
	log=$(mktemp)
	if ! try_install "$@" >"$log" 2>&1; then # no package lists yet, or old ones
		apt_get update >>"$log" 2>&1 || true
		if ! try_install "$@" >>"$log" 2>&1; then
			tail -n 20 "$log" >&2
			rm -f "$log"
			die "apt-get can't install $*: see above; then try: sudo apt-get update && sudo apt-get install $*"
		fi
	fi
	rm -f "$log"
}

try_install() {
	local package packages=()
	for package; do
		if [ "$package" = lxc-dev ] && apt-cache show liblxc-dev >/dev/null 2>&1; then
			package=liblxc-dev
		fi
		packages+=("$package")
	done
	apt_get install --yes --no-install-recommends "${packages[@]}"
}

apt_get() {
	DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 "$@" </dev/null
}

# need_programs is for other systems than Debian's: it can only look.
need_programs() {
	local missing=()
	command -v lxc-start >/dev/null || missing+=("LXC 4.0 or later (lxc-start)")
	command -v pkg-config >/dev/null || missing+=(pkg-config)
	pkg-config --exists lxc 2>/dev/null || missing+=("LXC's headers (lxc.pc)")
	command -v gcc >/dev/null || missing+=(gcc)
	command -v bash-static >/dev/null || missing+=("a statically linked bash, named bash-static")
	command -v busybox >/dev/null || missing+=("a statically linked busybox")
	[ ${#missing[@]} = 0 ] && return
	local list
	list=$(printf ', %s' "${missing[@]}")
	die "missing: ${list#, }; there is no apt-get here, so install them with your system's package manager"
}

# need_go_lxc: some module proxies refuse this one module. Debian has its source
# as a package; go.work, which git ignores, then puts that in its place.
need_go_lxc() {
	local copy=/usr/share/gocode/src/gopkg.in/lxc/go-lxc.v2
	local replace="replace github.com/lxc/go-lxc => $copy"
	if grep -qsxF "$replace" go.work && [ -f "$copy/go.mod" ]; then
		return
	fi
	if GOFLAGS='' GOWORK=off timeout 60 go mod download github.com/lxc/go-lxc 2>/dev/null; then
		if grep -qs 'lxc/go-lxc =>' go.work; then # it points to what isn't there any more
			rm -f go.work go.work.sum
		fi
		return
	fi
	say "no module proxy gives github.com/lxc/go-lxc: using Debian's copy of it"
	command -v apt-get >/dev/null || die "missing: the Go module github.com/lxc/go-lxc; set GOPROXY to a proxy that has it"
	need_packages golang-gopkg-lxc-go-lxc.v2-dev
	[ -f "$copy/go.mod" ] || die "missing: $copy/go.mod, though golang-gopkg-lxc-go-lxc.v2-dev is installed"
	printf 'go %s\n\nuse .\n\n%s\n' "$(awk '$1 == "go" { print $2 }' go.mod)" "$replace" >go.work
	hand_back go.work
}

need_go
need_packages lxc lxc-dev libseccomp-dev pkg-config gcc libc6-dev bash-static busybox-static xz-utils strace iproute2 procps curl "$@"
need_go_lxc
