#!/bin/sh
# Holds what a machine takes from its host, and releases it: run in a mount namespace of its own as
#   hold.sh FOLDER LAYERS CGROUP...
# It makes FOLDER with an overlay over LAYERS (separated by ":") and the control groups, prints
# "ready", and waits for the end of its input. That comes when the harness closes it or dies,
# however it dies.
set -eu
folder=$1 layers=$2
shift 2
trap '' INT TERM HUP

release() {
    # A process may fork between the look and the kill: look again until none is left.
    while pids=$(find "$@" -name cgroup.procs -exec cat {} + 2>/dev/null || true); [ -n "$pids" ]; do
        # shellcheck disable=SC2086 # one word a process
        kill -KILL $pids 2>/dev/null || true
        sleep 0.02
    done
    find "$@" -depth -type d -exec rmdir {} + 2>/dev/null || true
    umount "$folder/root" 2>/dev/null || true
    rm -rf --one-file-system "$folder"
}
trap 'release "$@"' EXIT

mkdir -p "$folder/upper" "$folder/work" "$folder/root"
mount -t overlay overlay \
    -o "lowerdir=$layers,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"
for group; do
    mkdir "$group"
    if [ -e "$group/cpuset.cpus" ] && [ -e "$group/cpuset.mems" ] && [ ! -e "$group/cgroup.controllers" ]; then
        # Version 1 accepts no process into a cpuset without CPUs and memory.
        for file in cpuset.cpus cpuset.mems; do
            cat "$(dirname "$group")/$file" > "$group/$file"
        done
    fi
done
echo ready
read -r _ || true
