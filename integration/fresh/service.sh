# The agent under systemd: on demand, as a service, restarted and killed, and what its
# unit allows it; names on the host. Run by boot.sh, on a machine on which Berth is installed.
fail() { echo "FAIL: $*"; journalctl --no-pager -n 40; exit 1; }
# until COMMAND...: within 30 s it succeeds.
until_ok() {
	for _ in $(seq 300); do
		if "$@" >/dev/null 2>&1; then return 0; fi
		sleep 0.1
	done
	fail "not within 30 s: $*"
}
plugin() { # VERB CONTAINER
	CNI_COMMAND=$1 CNI_CONTAINERID=$2 CNI_NETNS=/run/netns/$2 CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin \
		CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAME=$2" /opt/cni/bin/bridge <<-CONF
		{"cniVersion": "1.0.0", "name": "shop", "type": "bridge", "bridge": "shop0", "isDefaultGateway": true,
		 "names": true, "ipam": {"subnet": "10.77.0.0/24"}}
	CONF
}
asks() { ip netns exec "$1" getent hosts "$2"; }
for c in web shopdb; do
	ip netns add $c
	mkdir -p /etc/netns/$c
	echo 'nameserver 10.77.0.1' >/etc/netns/$c/resolv.conf
done

echo 'on demand: the first container starts the agent through systemd, the last one ends it'
plugin ADD web >/dev/null
systemctl is-active berth-agent-on-demand.service
asks web web
plugin DEL web
until_ok sh -c '! systemctl is-active berth-agent-on-demand.service'

echo 'as a service: it takes over from the one on demand'
plugin ADD web >/dev/null
systemctl enable --now berth-agent.service
asks web web
plugin ADD shopdb >/dev/null
asks web shopdb
berth resolve shopdb

echo 'names on the host, through systemd-resolved'
ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
until_ok systemctl is-active systemd-resolved.service
mkdir -p /etc/berth
echo 'host-names: 127.0.0.55' >/etc/berth/agent.yaml
systemctl restart berth-agent.service
berth host-names on
until_ok getent hosts shopdb.shop.berth
resolvectl --legend=no query shopdb.shop.berth
berth host-names off
until_ok sh -c '! getent hosts shopdb.shop.berth'
asks web shopdb

echo 'restarted, and killed: names come back'
systemctl restart berth-agent.service
asks web shopdb
systemctl kill --signal KILL berth-agent.service
until_ok sh -c '[ "$(systemctl show --property NRestarts --value berth-agent.service)" = 1 ]'
until_ok asks web shopdb

echo 'what it keeps, within what its unit allows'
ip link set shop0 down
until_ok sh -c 'ip -o link show shop0 | grep -q "[<,]UP[,>]"'
nft delete table inet berth
until_ok nft list table inet berth
sysctl -q -w net.ipv4.ip_forward=0
until_ok sh -c '[ "$(cat /proc/sys/net/ipv4/ip_forward)" = 1 ]'

echo 'stopped: the records stay, and DEL works'
systemctl stop berth-agent.service
berth ps
plugin DEL web
plugin DEL shopdb
[ -z "$(berth ps -q)" ] || fail 'records are left'
systemctl --failed --no-legend | grep . && fail 'units have failed'
echo 'booted: all as it should be'
