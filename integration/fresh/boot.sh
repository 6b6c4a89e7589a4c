#!/bin/sh
# Boots the Debian that it runs in with systemd, in namespaces of its own and without a
# network, and runs a script there. It prints what the script printed, and ends with its
# exit code.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get install -qq -y --no-install-recommends systemd-sysv systemd-resolved dbus iproute2 nftables procps >/dev/null
cp "$1" /root/booted.sh
cat >/etc/systemd/system/booted.service <<'UNIT'
[Unit]
After=multi-user.target
[Service]
Environment=HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
StandardOutput=append:/root/booted.out
StandardError=append:/root/booted.out
ExecStart=/bin/sh -c 'timeout 120 sh -eu /root/booted.sh; echo $? >/root/booted.code; exec systemctl poweroff --force --force'
[Install]
WantedBy=default.target
UNIT
systemctl --quiet enable booted.service
systemctl --quiet set-default multi-user.target
# A container has no console of its own, and no clock to set.
systemctl --quiet mask console-getty.service systemd-timesyncd.service
container=fresh timeout -s KILL 180 unshare --net --pid --mount --cgroup --uts --ipc --fork --kill-child sh -euc '
	mount -t proc proc /proc
	umount -R /sys && mount -t sysfs sysfs /sys && mount -t cgroup2 cgroup2 /sys/fs/cgroup
	mount -t tmpfs tmpfs /run
	exec /lib/systemd/systemd --show-status=no --log-target=journal' || true
cat /root/booted.out || true
exit "$(cat /root/booted.code || echo 1)"
