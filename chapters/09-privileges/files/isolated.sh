# isolated PID ROOT OUTSIDE judges a process by what the kernel says of it: would we
# call it a container? ROOT is a folder of the host that it must not be able to see,
# OUTSIDE the PID of who started it, whose namespaces it must have left.
isolated() {
  local pid=$1 root=$2 outside=$3 ns found extra
  for ns in pid mnt uts ipc net; do
    found=own
    if [ "$(readlink "/proc/$pid/ns/$ns")" = "$(readlink "/proc/$outside/ns/$ns")" ]; then found="the host's"; fi
    expect "its $ns namespace" "$found" own namespaces
  done
  expect "its PID inside" "$(awk '/^NSpid/{print $NF}' "/proc/$pid/status")" 1 init
  found=no
  if nsenter -t "$pid" -m /bin/busybox ls -d "$root" >/dev/null 2>&1; then found=yes; fi
  expect "the host's files seen from its mount namespace" "$found" no root
  expect "its mounts that are shared" "$(grep -c ' shared:' "/proc/$pid/mountinfo" || true)" 0 shared
  expect "processes in its /proc" "$(nsenter -t "$pid" -m -p /bin/busybox sh -c 'cd /proc && echo [0-9]*' | wc -w)" 2 proc
  # No capability outside of the 14 that Docker leaves.
  extra=$((0x$(awk '/^CapBnd/{print $2}' "/proc/$pid/status") & ~0xa80425fb))
  expect "capabilities in its bounding set beyond Docker's" "$(printf %x $extra)" 0 bounding
  extra=$((0x$(awk '/^CapEff/{print $2}' "/proc/$pid/status") & ~0xa80425fb))
  expect "effective capabilities beyond Docker's" "$(printf %x $extra)" 0 bounding
  expect "NoNewPrivs" "$(awk '/^NoNewPrivs/{print $2}' "/proc/$pid/status")" 1 nnp
}
