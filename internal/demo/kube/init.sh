# The first process of a cluster's namespaces: what it mounts is seen in them only,
# and when it ends the kernel ends every process in them. $1 is the cluster's folder,
# $2 that of its programs.
set -e
# What the host unmounts goes here too; what is mounted here stays here.
mount --make-rslave /
mount --make-rshared /
# Before /run is its own, nothing is noted there: it would be the host's.
mount -n -t proc proc /proc
echo 1 >/proc/sys/net/ipv4/ip_forward
# The places where containerd, runc, the CNI plugins and the kubelet leave sockets,
# locks and state whatever they are told. The two folders stay visible in them.
exec 8<"$1" 9<"$2"
for place in /run /var/lib /var/log; do
	mount -n -t tmpfs -o mode=755 cluster "$place"
done
show() { [ -e "$2" ] || { mkdir -p "$2" && mount --no-canonicalize --bind "/proc/self/fd/$1" "$2"; }; }
show 8 "$1"
show 9 "$2"
exec 8<&- 9<&-
# The kubelet sets these to its taste, for the whole machine: it gets copies.
for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
	copy=/run/sys/$setting
	mkdir -p "${copy%/*}"
	cat "/proc/sys/$setting" >"$copy"
	mount --bind "$copy" "/proc/sys/$setting"
done
echo ready
# Standard input is a pipe that the owner holds: it ends when the owner does. The
# shell waits, which also collects the processes whose parents have gone.
exec 3<&0
cat <&3 >/dev/null &
wait
