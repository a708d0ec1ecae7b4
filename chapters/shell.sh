# shellcheck shell=bash
# What every script of the course begins with (bash sources $BASH_ENV).
unset BASH_ENV
set +eu
if [ -r "$COURSE_STATE/variables" ]; then
	# shellcheck source=/dev/null
	. "$COURSE_STATE/variables" 2>/dev/null # what is readonly says so
fi
cd "$W"
trap course_keep EXIT

# course_keep leaves variables and functions to the next script.
course_keep() {
	local course_status=$?
	trap - EXIT
	set +eu
	unset BASH_EXECUTION_STRING
	{ declare -p; declare -f; } >"$COURSE_STATE/variables.new" 2>/dev/null &&
		mv "$COURSE_STATE/variables.new" "$COURSE_STATE/variables"
	return "$course_status"
}

# expect WHAT FOUND EXPECTED [HINT]: they are the same, or the check ends here.
expect() {
	if [ "$2" = "$3" ]; then
		course_tell ok "$1" "$2" "$3" ""
	else
		course_tell wrong "$1" "$2" "$3" "${4:-}"
		exit 1
	fi
}

# fail WHAT [HINT]: the check ends here.
fail() {
	course_tell fail "$1" "" "" "${2:-}"
	exit 1
}

course_tell() { printf '%s\0' "$@" >>"$COURSE_STATE/results"; }

set -euo pipefail
