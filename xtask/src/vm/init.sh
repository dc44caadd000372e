#!/busybox sh
# The first program of the virtual machine: finds the files of the machine that it runs on, lays
# memory over them, and starts the script.
/busybox mkdir -p /proc /sys /dev /lower /upper /new
/busybox mount -t proc proc /proc
/busybox mount -t sysfs sysfs /sys
/busybox mount -t devtmpfs dev /dev
for module in /modules/*; do /busybox insmod "$module"; done

share=trans=virtio,version=9p2000.L,msize=512000,cache=loose
/busybox mount -t 9p -o "ro,$share" root /lower
/busybox mount -t tmpfs tmpfs /upper
/busybox mkdir /upper/files /upper/work
/busybox mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work overlay /new
for directory in proc sys dev; do /busybox mount --move /$directory /new/$directory; done
/busybox mkdir -p /new/dev/pts
/busybox mount -t devpts devpts /new/dev/pts
/busybox mount -t tmpfs tmpfs /new/run
/busybox mkdir -p /new/run/vm /new/lib/modules
/busybox mount -t 9p -o "ro,$share" vm /new/run/vm
/busybox mount --bind /new/run/vm/root/lib/modules /new/lib/modules

exec /busybox switch_root /new /bin/sh -c '
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
    ip link set lo up
    . /run/vm/job.sh
    echo o >/proc/sysrq-trigger
    while :; do :; done'
