package integration

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// The networks of the tests of traces. "blue" and "red" keep from each other.
func tracedNetwork(name, third string, more ...string) string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": %q, "plugins": [{"type": "bridge", "bridge": "br-%s", "isDefaultGateway": true, "ipMasq": true,
		"capabilities": {"portMappings": true}, %s "ipam": {"ranges": [[{"subnet": "10.77.%s.0/24"}], [{"subnet": "fd00:77:%s::/64"}]]}}]}`, name, name, strings.Join(append(more, ""), ", "), third, third)
}

// traced is a host with containers web and db on the network blue, far on red, and db's
// service.
type traced struct {
	*bed
	all map[string]*sandbox.Container
	at  map[string]string // their addresses
}

func newTraced(t *testing.T, more ...string) *traced {
	t.Helper()
	b := &traced{bed: newBed(t), all: map[string]*sandbox.Container{}, at: map[string]string{}}
	b.add(tracedNetwork("blue", "1", more...), "web")
	b.add(tracedNetwork("blue", "1", more...), "db", tcpPort(8080, 5432))
	b.add(tracedNetwork("red", "2", more...), "far")
	serve(t, b.all["db"], ":5432")
	serve(t, b.outside, ":80")
	return b
}

func (b *traced) add(conflist, name string, opts ...sandbox.Option) {
	b.t.Helper()
	n, err := b.Network(conflist, b.bin)
	must(b.t, err)
	c := b.container(name)
	text, err := n.AddJSON(c, opts...)
	must(b.t, err)
	_, b.at[name] = parse(b.t, text)
	b.all[name] = c
}

// fill puts addresses and interfaces into a line: {web} is web's address, {veth:web} its
// end on the host, {out} is the outside.
func (b *traced) fill(line string) string {
	for name, c := range b.all {
		line = strings.ReplaceAll(line, "{"+name+"}", b.at[name])
		if strings.Contains(line, "{veth:"+name+"}") {
			peer, err := c.Output("sh", "-c", "cat /sys/class/net/eth0/iflink 2>/dev/null || ip -o link show eth0 | sed 's/.*eth0@if\\([0-9]*\\).*/\\1/'")
			must(b.t, err)
			link, err := b.Output("sh", "-c", "ip -o link | grep '^"+strings.TrimSpace(peer)+":' | sed 's/^[0-9]*: \\([^@:]*\\).*/\\1/'")
			must(b.t, err)
			line = strings.ReplaceAll(line, "{veth:"+name+"}", strings.TrimSpace(link))
		}
	}
	return strings.NewReplacer("{out}", sandbox.OutsideAddr4, "{out6}", sandbox.OutsideAddr6, "{host}", sandbox.HostAddr4).Replace(line)
}

// trace asks, and returns the answer.
func (b *traced) trace(question string) (r struct{ Verdict, Why, Mend string }, out string) {
	b.t.Helper()
	out, _ = b.berth("trace --format json " + b.fill(question))
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		b.t.Fatalf("berth trace %s: %v\n%s", question, err, out)
	}
	return r, out
}

// loggers are those of the address families in the namespaces.
func (b *traced) loggers() (all string) {
	b.t.Helper()
	for _, place := range []interface {
		Output(string, ...string) (string, error)
	}{b.Host, b.all["web"], b.all["db"]} {
		out, err := place.Output("sh", "-c", "cat /proc/sys/net/netfilter/nf_log/2 /proc/sys/net/netfilter/nf_log/10")
		must(b.t, err)
		all += out
	}
	return all
}

// TestTrace breaks a host in many ways, each time a new one, and asks who it was.
func TestTrace(t *testing.T) {
	t.Parallel()
	const guard = "nft add table inet guard; nft 'add chain inet guard f { type filter hook forward priority 10; }'; "
	for _, c := range []struct {
		name, host, in, harm string // harm is done on the host, or in a container
		question             string
		verdict, why, mend   string
		conf                 []string // of blue
	}{
		{name: "whole", question: "web db:5432", verdict: "arrives"},
		{name: "whole by address", question: "web {db}:5432", verdict: "arrives"},
		{name: "whole to the outside", question: "web {out}:80", verdict: "arrives"},
		{name: "whole from the host", question: "host db:5432", verdict: "arrives"},
		{name: "whole published", question: "web {host}:8080", verdict: "arrives"},
		{name: "whole UDP", question: "web db:5432/udp", verdict: "refused", why: "nobody listens"},
		{name: "whole IPv6", question: "web [{out6}]:80", verdict: "arrives"},
		{name: "whole published by iptables", conf: []string{`"firewallBackend": "iptables"`}, question: "web {host}:8080", verdict: "arrives"},
		{name: "whole without a bridge", conf: []string{`"mode": "routed"`}, question: "web db:5432", verdict: "arrives"},
		{name: "whole itself", question: "db {db}:5432", verdict: "arrives"},
		{name: "no route of IPv6", in: "web", harm: "ip -6 route del default", question: "web [{out6}]:80", verdict: "lost", why: "web: no route to {out6}"},
		{name: "no forwarding of IPv6", harm: "sysctl -qw net.ipv6.conf.all.forwarding=0", question: "web [{out6}]:80",
			verdict: "lost", why: "forwards no IPv6", mend: "berth reload"},
		{name: "isolated by iptables", conf: []string{`"firewallBackend": "iptables"`, `"isolate": true`}, question: "web far:80",
			verdict: "lost", why: "host: rule", mend: "berth network connect red web"},
		{name: "isolated without a bridge", conf: []string{`"mode": "routed"`, `"isolate": true`}, question: "web far:80",
			verdict: "lost", why: "table inet berth", mend: "berth network connect red web"},
		{name: "its port is cut off without a bridge", conf: []string{`"mode": "routed"`}, harm: "ip route del {db}", question: "web db:5432", verdict: "lost", mend: "berth reload"},
		{name: "nobody listens", question: "web db:5433", verdict: "refused", why: "nobody listens on {db}:5433/tcp"},
		{name: "somebody's rule", harm: guard + "nft add rule inet guard f ip daddr {out} drop", question: "web {out}:80",
			verdict: "lost", why: "table inet guard, chain f drops it: ip daddr {out} drop", mend: "nft delete rule inet guard f handle"},
		{name: "somebody's reject", harm: guard + "nft add rule inet guard f ip daddr {out} reject", question: "web {out}:80",
			verdict: "lost", why: "table inet guard, chain f drops it: ip daddr {out} reject"},
		{name: "somebody's policy", harm: "nft add table inet guard; nft 'add chain inet guard f { type filter hook forward priority 10; policy drop; }'", question: "web {out}:80",
			verdict: "lost", why: "the policy of table inet guard, chain f drops it"},
		{name: "the answer is dropped", harm: guard + "nft add rule inet guard f ip saddr {out} drop", question: "web {out}:80",
			verdict: "lost", why: "table inet guard, chain f drops it: ip saddr {out} drop"},
		{name: "iptables' policy", harm: "iptables -F FORWARD; iptables -P FORWARD DROP", question: "web {out}:80",
			verdict: "lost", why: "the policy of table ip filter, chain FORWARD drops it", mend: "berth reload"},
		{name: "iptables' rule", harm: "iptables -I FORWARD -d {out} -j DROP", question: "web {out}:80",
			verdict: "lost", why: "table ip filter, chain FORWARD drops it", mend: "iptables -S FORWARD"},
		{name: "iptables before nftables", harm: "iptables-legacy -I FORWARD -d {out} -j DROP", question: "web {out}:80",
			verdict: "lost", why: "host: rule 1 of table filter, chain FORWARD of iptables-legacy drops it: -A FORWARD -d {out}/32 -j DROP", mend: "iptables-legacy -t filter -D FORWARD 1"},
		{name: "raw", harm: "nft add table ip raw; nft 'add chain ip raw PREROUTING { type filter hook prerouting priority -300; }'; nft add rule ip raw PREROUTING ip daddr {out} drop",
			question: "web {out}:80", verdict: "lost", why: "table ip raw, chain PREROUTING drops it"},
		{name: "a chain of iptables before nftables", harm: "iptables-legacy -t mangle -N ours; iptables-legacy -t mangle -A FORWARD -p udp -j ACCEPT; iptables-legacy -t mangle -A FORWARD -j ours; iptables-legacy -t mangle -A ours -p tcp --dport 80 -j DROP",
			question: "web {out}:80", verdict: "lost", why: "host: rule 1 of table mangle, chain ours of iptables-legacy drops it: -A ours -p tcp -m tcp --dport 80 -j DROP", mend: "if nobody wants it: iptables-legacy -t mangle -D ours 1"},
		{name: "the policy of iptables before nftables", harm: "iptables-legacy -A FORWARD -i none0 -j ACCEPT; iptables-legacy -P FORWARD DROP", question: "web {out}:80",
			verdict: "lost", why: "host: the policy of table filter, chain FORWARD of iptables-legacy drops it", mend: "berth reload"},
		{name: "ip6tables before nftables", harm: "ip6tables-legacy -I FORWARD -d {out6} -j DROP", question: "web [{out6}]:80",
			verdict: "lost", why: "host: rule 1 of table filter, chain FORWARD of ip6tables-legacy drops it: -A FORWARD -d {out6}/128 -j DROP"},
		{name: "the source's own iptables before nftables", in: "web", harm: "iptables-legacy -A OUTPUT -p tcp --dport 5432 -j DROP", question: "web db:5432",
			verdict: "lost", why: "web: rule 1 of table filter, chain OUTPUT of iptables-legacy drops it", mend: "in the namespace of web"},
		{name: "the target's own iptables before nftables", in: "db", harm: "iptables-legacy -A INPUT -p tcp --dport 5432 -j DROP", question: "web db:5432",
			verdict: "lost", why: "db: rule 1 of table filter, chain INPUT of iptables-legacy drops it", mend: "in the namespace of db"},
		{name: "UDP and iptables before nftables", harm: "iptables-legacy -A FORWARD -p udp -d {out} -j REJECT", question: "web {out}:80/udp",
			verdict: "lost", why: "host: rule 1 of table filter, chain FORWARD of iptables-legacy drops it: -A FORWARD -d {out}/32 -p udp -j REJECT"},
		{name: "the source's own rule", in: "web", harm: "nft add table ip own; nft 'add chain ip own o { type filter hook output priority 0; }'; nft add rule ip own o tcp dport 5432 drop",
			question: "web db:5432", verdict: "lost", why: "web: rule", mend: "in the namespace of web"},
		{name: "the target's own rule", in: "db", harm: "nft add table ip own; nft 'add chain ip own i { type filter hook input priority 0; }'; nft add rule ip own i tcp dport 5432 drop",
			question: "web db:5432", verdict: "lost", why: "db: rule", mend: "in the namespace of db"},
		{name: "no route", in: "web", harm: "ip route del default", question: "web {out}:80", verdict: "lost", why: "web: no route to {out}"},
		{name: "isolated networks", question: "web far:80", conf: []string{`"isolate": true`}, verdict: "lost", why: "table inet berth", mend: "berth network connect red web"},
		{name: "no traffic between containers", conf: []string{`"icc": false`}, question: "web db:5432",
			verdict: "lost", why: "", mend: "network blue keeps its containers from each other"},
		{name: "internal", conf: []string{`"internal": true`}, question: "web {out}:80", verdict: "lost", why: "web: no route"},
		{name: "no forwarding", harm: "sysctl -qw net.ipv4.conf.br-blue.forwarding=0", question: "web {out}:80",
			verdict: "lost", why: "forwards no IPv4 from br-blue", mend: "berth reload"},
		{name: "rp_filter", harm: "sysctl -qw net.ipv4.conf.br-blue.rp_filter=1 net.ipv4.conf.all.rp_filter=1; ip route add {web}/32 dev uplink0", question: "web {out}:80",
			verdict: "lost", why: "rp_filter drops it: the way back to {web} does not lead to br-blue", mend: "rp_filter=2"},
		{name: "published no more", harm: "nft flush chain inet berth publish_2; nft flush ruleset", question: "web {host}:8080",
			verdict: "lost", why: "ends at the host itself: nobody translates it", mend: "berth reload"},
		{name: "its end is down", harm: "ip link set {veth:db} down", question: "web db:5432", verdict: "lost", why: "db: ", mend: "berth reload"},
		{name: "its address is gone", in: "db", harm: "ip addr flush dev eth0", question: "web db:5432", verdict: "lost", why: "db: ", mend: "berth reload"},
		{name: "another route takes it", harm: "ip route add {db}/32 dev uplink0", question: "host db:5432", verdict: "lost", why: "another route takes it"},
		{name: "the other side is silent", question: "web {out}:81", in: "outside", harm: "iptables -I INPUT -p tcp --dport 81 -j DROP",
			verdict: "no answer", why: "it leaves the host, and no answer comes back", mend: "beyond this host"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newTraced(t, c.conf...)
			b.all["outside"] = b.outside
			if c.harm != "" {
				run := b.Output
				if c.in != "" {
					run = b.all[c.in].Output
				}
				_, _ = run("sh", "-c", b.fill(c.harm))
			}
			loggers := b.loggers()
			r, out := b.trace(c.question)
			if now := b.loggers(); now != loggers {
				t.Errorf("the loggers of packets were %q, and are %q", loggers, now)
			}
			if r.Verdict != c.verdict || !strings.Contains(r.Why, b.fill(c.why)) || !strings.Contains(r.Mend, c.mend) {
				t.Errorf("%s: %q: %q, %q; want %q: %q, %q\n%s", c.question, r.Verdict, r.Why, r.Mend, c.verdict, b.fill(c.why), c.mend, out)
			}
			for _, place := range []interface {
				Output(string, ...string) (string, error)
			}{b.Host, b.all["web"], b.all["db"]} {
				if left, err := place.Output("nft", "list", "tables"); err != nil || strings.Contains(left, "berth-trace") {
					t.Errorf("left behind: %v, %s", err, left)
				}
			}
		})
	}
}

// TestTraceWait follows packets that come from outside, and those of IPv6.
func TestTraceWait(t *testing.T) {
	t.Parallel()
	b := newTraced(t)
	stop := make(chan struct{})
	ended := make(chan struct{})
	defer func() { close(stop); <-ended }()
	go func() { // somebody who tries again and again
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = b.outside.Ask(sandbox.HostAddr4 + ":8080")
				_, _ = b.outside.Ask(sandbox.HostAddr4 + ":8081")
			}
		}
	}()
	if r, out := b.trace("--wait 30s {out} {host}:8080"); r.Verdict != "arrives" {
		t.Errorf("published: %s", out)
	}
	_, err := b.Output("sh", "-c", "nft add table inet guard; nft 'add chain inet guard f { type filter hook prerouting priority -200; }'; nft add rule inet guard f tcp dport 8080 drop")
	must(t, err)
	if r, out := b.trace("--wait 30s {out} {host}:8080"); r.Verdict != "lost" || !strings.Contains(r.Why, "table inet guard, chain f drops it: tcp dport 8080 drop") {
		t.Errorf("dropped: %s", out)
	}
	if r, out := b.trace("{out} {host}:8080"); r.Verdict != "unknown" {
		t.Errorf("nobody was waited for: %s", out)
	}
}

// TestTraceAsked are questions that cannot be asked.
func TestTraceAsked(t *testing.T) {
	t.Parallel()
	b := newTraced(t)
	for question, why := range map[string]string{
		"nobody db:80":                `from "nobody": no container of this host`,
		"web nobody:80":               `to "nobody": no container of this host`,
		"web db":                      `to "db": want CONTAINER:PORT`,
		"web db:0":                    `port "0": want 1 to 65535`,
		"web db:80/sctp":              `protocol "sctp": want tcp or udp`,
		"192.0.2.7 192.0.2.9:80":      "want a container or the host for one of them",
		"2001:db8::7 {host}:80":       "want addresses of one family",
		"web [2001:db8::2]:80 --wait": "wait",
	} {
		b.fails("trace "+b.fill(question), why)
	}
	_, err := b.Output("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", filepath.Join(b.bin, "berth"), "trace", "web", "db:80")
	if err == nil || !strings.Contains(err.Error(), "operation not permitted: want CAP_SYS_ADMIN") {
		t.Errorf("without the right to enter namespaces: %v", err)
	}
}

// TestTraceNames asks for the target as the source does.
func TestTraceNames(t *testing.T) {
	t.Parallel()
	b := &traced{bed: newBed(t)}
	n, err := b.Network(simon, b.bin)
	must(t, err)
	b.named(n, "amy")
	serve(t, b.named(n, "bob").Container, ":80")
	if r, out := b.trace("amy bob:80"); r.Verdict != "arrives" || !strings.Contains(out, "the name bob leads to 10.90.0.3") {
		t.Error(out)
	}
	_, err = b.Output("sh", "-c", "nft add table inet guard; nft 'add chain inet guard i { type filter hook input priority 10; }'; nft add rule inet guard i meta l4proto udp drop")
	must(t, err)
	if r, out := b.trace("amy bob:80"); r.Verdict != "lost" || !strings.Contains(r.Why, "its question for the name bob is not answered at 10.90.0.1") || r.Mend != "berth doctor" {
		t.Error(out)
	}
}
