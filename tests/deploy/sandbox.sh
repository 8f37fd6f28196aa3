#!/bin/sh
# Run a command in an image as a container runtime does: process 1, root file system read-only, no network but loopback.
# Called in new namespaces: unshare --mount --pid --net --fork sh sandbox.sh ROOT UID COMMAND…
set -eu
root=$1
user=$2
shift 2
mount --make-rprivate /
mount --bind "$root" "$root"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
for folder in tmp data/input data/output data/user; do
    mount -t tmpfs -o mode=1777 tmpfs "$root/$folder"
done
mount -o remount,bind,ro "$root"
ip link set lo up
exec chroot --userspec="$user" "$root" "$@"
