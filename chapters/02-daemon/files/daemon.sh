# daemon ROOT: starts a daemon of its own for ROOT, on free ports; its address is
# then in ROOT.address, its PID in ROOT.pid, what it says in ROOT.log.
daemon() {
  setsid -f dockerd2013 --root "$1" --tcp 127.0.0.1:0 --http 127.0.0.1:0 --pidfile "$1.pid" \
    --cgroup-parent "course-$CHAPTER" </dev/null >"$1.log" 2>&1
  for _ in $(seq 100); do
    if grep -oE 'msg=ready tcp=[0-9.:]+' "$1.log" | cut -d = -f 3 >"$1.address"; then return; fi
    sleep .05
  done
  cat "$1.log" >&2
  return 1
}

# gone PID: waits until there is no such process.
gone() {
  for _ in $(seq 100); do
    [ -d "/proc/$1" ] || return 0
    sleep .05
  done
  return 1
}
