#!/bin/sh
# Runs a command in a root: enter.sh ROOT COMMAND..., called in mount and network namespaces of its own.
# TRAFFIC names a program that runs meanwhile, outside of the root and in the same network namespace.
set -eu
root=$1
shift
mount --bind "$root" "$root"
mkdir -p "$root/proc" "$root/sys" "$root/dev" "$root/run"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t bpf bpf "$root/sys/fs/bpf"
mount -t tracefs tracefs "$root/sys/kernel/tracing" || true
mount --rbind /dev "$root/dev"
mount -t tmpfs run "$root/run"
ip link set lo up
if [ -n "${TRAFFIC:-}" ]; then
    python3 "$TRAFFIC" >"$TRAFFIC.said" &
    traffic=$!
    trap 'kill "$traffic"; wait "$traffic" || true' EXIT
    # Its listener is there, and its first sockets are old enough.
    sleep 3
fi
code=0
chroot "$root" "$@" || code=$?
exit "$code"
