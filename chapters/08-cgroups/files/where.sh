# where CONTROLLER PID prints the folder of a process's cgroup: in the controller's
# own hierarchy on cgroup v1, in the one tree on v2.
where() {
  local mounted
  mounted=$(findmnt -rno TARGET -t cgroup -O "$1" | head -n 1 || true)
  if [ -n "$mounted" ]; then
    echo "$mounted$(awk -F: -v c="$1" '("," $2 ",") ~ ("," c ",") {print $3}' "/proc/$2/cgroup")"
  else
    echo "/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$2/cgroup")"
  fi
}

# top CONTROLLER prints where that hierarchy is mounted.
top() {
  local mounted
  mounted=$(findmnt -rno TARGET -t cgroup -O "$1" | head -n 1 || true)
  echo "${mounted:-/sys/fs/cgroup}"
}

# cpu FOLDER prints how much processor time a cgroup has used, in milliseconds:
# v1's controller cpuacct counts nanoseconds, v2's cpu.stat microseconds.
cpu() {
  if [ -e "$1/cpu.stat" ] && grep -q ^usage_usec "$1/cpu.stat"; then
    awk '/^usage_usec/ {print int($2 / 1000)}' "$1/cpu.stat"
  else
    echo $(($(cat "$1/cpuacct.usage") / 1000000))
  fi
}
