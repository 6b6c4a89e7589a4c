package ruleset

import (
	"fmt"
	"testing"

	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/nstest"
)

func sh(t *testing.T, command string) {
	t.Helper()
	if err := nstest.Run("sh", "-c", command); err != nil {
		t.Fatal(err)
	}
}

// TestAccepts makes a chain that drops, with one rule, and tells whether that lets in
// the interface br-web and port 10053.
func TestAccepts(t *testing.T) {
	for rule, want := range map[string]string{
		"":                                              "false false",
		"iifname br-web accept":                         "true false",
		"iifname br-web drop":                           "false false",
		"iifname br-web counter":                        "false false",
		"iifname br-other accept":                       "false false",
		"iifname br-w accept":                           "false false",
		"iifname \"br-*\" accept":                       "true false",
		"iif br-web accept":                             "true false",
		"iifname { br-web, other } accept":              "true false",
		"iifname { br-web, other } drop":                "false false",
		"iifname vmap { br-web : accept }":              "true false",
		"iifname vmap { br-web : drop }":                "false false",
		"udp dport 10053 accept":                        "false true",
		"udp dport 10053 drop":                          "false false",
		"udp dport { 53, 10053 } accept":                "false true",
		"udp dport 10000-10100 accept":                  "false true",
		"udp dport 10000-10052 accept":                  "false false",
		"udp dport >= 10053 accept":                     "false true",
		"udp dport < 1024 accept":                       "false false",
		"udp dport != 10053 accept":                     "false false",
		"iifname != br-web accept":                      "false false",
		"udp dport vmap { 10053 : accept }":             "false true",
		"iifname br-web udp dport 10053 accept":         "true true",
		"iifname . udp dport { br-web . 10053 } accept": "true true",
		"ip saddr 10.0.0.0/8 jump more":                 "false false",
	} {
		t.Run(rule, func(t *testing.T) {
			nstest.Host(t)
			sh(t, "ip link add br-web type bridge; nft add table inet wall; nft add chain inet wall gate '{ type filter hook input priority 0; policy drop; }'; nft add chain inet wall more")
			if rule != "" {
				sh(t, "nft add rule inet wall gate '"+rule+"'")
			}
			r, err := List(t.Context())
			if err != nil || len(r.Drops) != 1 || r.Drops[0].String() != "chain gate of table inet wall" || r.Drops[0].Hook != "input" {
				t.Fatalf("%+v, %v", r, err)
			}
			d := r.Drops[0]
			if got := fmt.Sprint(d.Accepts("br-web", 0), " ", d.Accepts("", 10053)); got != want {
				t.Errorf("%s, want %s", got, want)
			}
			if both := d.Accepts("br-web", 10053); both != (want != "false false") {
				t.Errorf("either: %v", both)
			}
		})
	}
}

// TestDrops tells which chains count.
func TestDrops(t *testing.T) {
	for commands, want := range map[string]string{
		"true": "[]",
		"nft add table ip a; nft add chain ip a b '{ type filter hook forward priority 0; policy accept; }'":       "[]",
		"nft add table ip a; nft add chain ip a b '{ type filter hook forward priority 0; policy drop; }'":         "[chain b of table ip a: forward true false]",
		"nft add table ip6 a; nft add chain ip6 a b '{ type filter hook input priority 0; policy drop; }'":         "[chain b of table ip6 a: input false true]",
		"nft add table ip a; nft add chain ip a b '{ type filter hook output priority 0; policy drop; }'":          "[]",
		"nft add table bridge a; nft add chain bridge a b '{ type filter hook forward priority 0; policy drop; }'": "[]",
		"iptables-nft -P FORWARD DROP":                    "[chain FORWARD of table ip filter: forward true false]",
		"ip6tables-nft -P INPUT DROP":                     "[chain INPUT of table ip6 filter: input false true]",
		"iptables-legacy -P FORWARD DROP":                 "[chain FORWARD of table ip filter: forward true false]",
		"iptables-nft -P FORWARD DROP; nft flush ruleset": "[]",
	} {
		t.Run(commands, func(t *testing.T) {
			nstest.Host(t)
			sh(t, commands)
			r, err := List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			all := []string{}
			for _, d := range r.Drops {
				all = append(all, fmt.Sprintf("%s: %s %v %v", d, d.Hook, d.V4(), d.V6()))
			}
			if fmt.Sprint(all) != want {
				t.Errorf("%v, want %s", all, want)
			}
		})
	}
}

// TestAcceptsIPTables reads what iptables-save writes, of both flavours.
func TestAcceptsIPTables(t *testing.T) {
	for _, program := range []string{"iptables-nft", "iptables-legacy"} {
		t.Run(program, func(t *testing.T) {
			nstest.Host(t)
			sh(t, program+" -P INPUT DROP; "+program+" -A INPUT -i br-web -j ACCEPT; "+program+" -A INPUT -i br-bad -j DROP; "+program+" -A INPUT -p udp --dport 10053 -j ACCEPT")
			r, err := List(t.Context())
			if err != nil || len(r.Drops) != 1 || !r.Drops[0].IsIPTables() || r.Drops[0].Program() != "iptables" {
				t.Fatalf("%+v, %v", r, err)
			}
			d := r.Drops[0]
			if !d.Accepts("br-web", 0) || d.Accepts("br-bad", 0) || !d.Accepts("", 10053) || d.Accepts("", 10054) {
				t.Errorf("%+v", d)
			}
		})
	}
}

// TestNothing is a namespace where nobody has used a firewall.
func TestNothing(t *testing.T) {
	nstest.Host(t)
	r, err := List(t.Context())
	if err != nil || len(r.Drops) != 0 || len(r.Marks) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if all, err := nftElements("00000000000"); err != nil || len(all) > 0 {
		t.Errorf("%v, %v", all, err)
	}
	sh(t, "nft add table inet "+firewall.TableName+"; nft add set inet "+firewall.TableName+" x '{ type inet_service; }'; nft add element inet "+firewall.TableName+" x '{ 80 comment \"abc\" }'")
	if all, err := nftElements("abc"); err != nil || fmt.Sprint(all) != "[{x 0x0050}]" {
		t.Errorf("a set of another version: %v, %v", all, err)
	}
}
