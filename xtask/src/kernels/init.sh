#!/bin/busybox sh
# The first process of a guest: mounts, modules, tests, off. Words for the host go to the second
# serial port.
/bin/busybox mkdir -p /bb
/bin/busybox --install -s /bb
export PATH=/bin:/usr/bin:/sbin:/usr/sbin:/bb HOME=/root TMPDIR=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
# As udev makes them: bash opens what a command prints by /dev/fd.
ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
ln -s fd/1 /dev/stdout
ln -s fd/2 /dev/stderr
mount -t tmpfs tmpfs /run
chmod 1777 /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
# Neither tracefs nor debugfs: nothing may need them.
exec </dev/null >"/dev/$CONSOLE" 2>&1
export WORDS
stty -F "/dev/$WORDS" raw -echo
for module in $(cat /modules/order); do
    insmod "/modules/$module" || echo "no $module"
done
ip link set lo up
hostname guest
# What Debian's systemd sets for everybody.
ulimit -n 20000

export TCPTRAIL_BIN=/bin/tcptrail TCPTRAIL_SLOW_MACHINE=1 TCPTRAIL_MAY_SET_CLOCK=1 RUST_BACKTRACE=0
# The host's seconds: a kernel that measures its clock on a busy machine may be wrong by a factor.
cat >/bin/now <<'END'
#!/bin/sh
cat /sys/class/rtc/rtc0/since_epoch 2>/dev/null || cut -d. -f1 /proc/uptime
END
chmod 755 /bin/now
BEGAN=$(now)
export BEGAN
echo "@@ready $(uname -r) $(cut -d' ' -f1 /proc/uptime)" >"/dev/$WORDS"
if [ -e /tests/shell ]; then
    /bin/sh /tests/shell >"/dev/$WORDS" 2>&1
    echo "@@done" >"/dev/$WORDS"
    poweroff -f
fi
xargs -r -P "$(cat /tests/jobs)" -n 2 /bin/run-one </tests/side-by-side
xargs -r -n 2 /bin/run-one </tests/alone
echo "@@done $(cut -d' ' -f1 /proc/uptime)" >"/dev/$WORDS"
sync
poweroff -f
