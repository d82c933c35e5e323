#!/bin/bash
# machine.sh FOLDER NAME: systemd as PID 1 over this host's root, until standard input ends.
#
# Whoever started this need not live to clean up: when it is gone, its end of the pipe is too. Run
# it in a mount namespace of its own (unshare --mount); what is in FOLDER/upper lies over this host's
# files. Prints the number of systemd-nspawn. When this ends with status 0, no process, mount, control
# group or file of the machine is left.

set -euo pipefail
folder=$1 name=$2
root=$folder/root
export LC_ALL=C
# A Ctrl-C is for the tests; this ends after them.
trap '' INT TERM HUP

# Everything of the machine is in control groups of its own, so that it is found whatever it does.
# On hosts without systemd, /sys/fs/cgroup may hold several hierarchies.
groups=()
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
	if [[ -e $hierarchy/cgroup.procs ]]; then
		groups+=("$hierarchy/$name")
	fi
done

members() {
	local group
	for group in "${groups[@]}"; do
		[[ ! -d $group ]] || find "$group" -name cgroup.procs -exec cat {} + 2>/dev/null || true
	done | sort -un
}

finish() {
	local pids left=0
	for ((round = 0; round < 300; round++)); do
		mapfile -t pids < <(members)
		((${#pids[@]})) || break
		kill -KILL "${pids[@]}" 2>/dev/null || true
		sleep 0.1
	done
	umount "$root" 2>/dev/null || umount --lazy "$root" 2>/dev/null || true
	for group in "${groups[@]}"; do
		[[ ! -d $group ]] || find "$group" -depth -type d -exec rmdir {} + || left=1
	done
	[[ ! -d /run/systemd/nspawn/propagate/$name ]] || rmdir "/run/systemd/nspawn/propagate/$name" || left=1
	rm -rf --one-file-system "$folder" || left=1
	exit "$left"
}
trap finish EXIT

mkdir -p "$folder"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" "$root"
# What else this host starts is none of the machine's business.
rm -rf "$root"/etc/systemd/system/*.wants
# Images of containers forbid packages to start services.
rm -f "$root/usr/sbin/policy-rc.d"
mkdir -p "${groups[@]}"

(
	for group in "${groups[@]}"; do
		echo "$BASHPID" >"$group/cgroup.procs"
	done
	exec systemd-nspawn --quiet --directory="$root" --machine="$name" --boot --register=no --keep-unit \
		--private-network --link-journal=no --console=pipe </dev/null >/dev/null
) &
echo "$!"
# Its end is no news.
disown "$!"

# Until the other end is closed.
read -r _ || true
