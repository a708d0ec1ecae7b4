# shellcheck shell=bash
# daemon ROOT: starts a daemon of its own for ROOT, on free ports; its address is
# then in ROOT.address, its PID in ROOT.pid, what it says in ROOT.log. It fails at
# once where the daemon does.
daemon() {
  rm -f "$1.address" "$1.pid"
  setsid -f dockerd2013 --root "$1" --tcp 127.0.0.1:0 --http 127.0.0.1:0 --pidfile "$1.pid" \
    --cgroup-parent "course-$CHAPTER" </dev/null >"$1.log" 2>&1
  for _ in $(seq 100); do
    if grep -q 'msg=ready' "$1.log"; then
      grep -oE 'msg=ready tcp=[0-9.:]+' "$1.log" | cut -d = -f 3 >"$1.address"
      return 0
    fi
    if grep -q '^dockerd2013: ' "$1.log"; then return 1; fi
    sleep .05
  done
  return 1
}

# halt PID: ends the daemon with this PID, if it is one, and waits for its end.
halt() {
  grep -q dockerd2013 "/proc/$1/comm" 2>/dev/null || return 0
  kill "$1"
  gone "$1"
}

# gone PID: waits until that process has ended; a zombie has.
gone() {
  for _ in $(seq 400); do
    readlink "/proc/$1/exe" >/dev/null || return 0
    sleep .05
  done
  return 1
}
