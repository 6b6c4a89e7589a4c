package reference

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/internal/xtables"
	"github.com/berth-cni/berth/pkg/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// made is what the reference writes for a container, as its sources have it: in nftables
// (for nft -f), and in iptables.
const made = `table inet cni_plugins_masquerade {
	chain masq_checks {
		ip saddr 10.88.0.2 ip daddr != 10.88.0.0/16 masquerade comment "0123456789abcdef-0123456789abcdef, net: demo, if: eth0, id: c1"
		ip saddr 10.88.0.3 ip daddr != 10.88.0.0/16 masquerade comment "0123456789abcdef-fedcba9876543210, net: demo, if: eth0, id: c2"
	}
}
table ip cni_hostport {
	chain hostports {
		tcp dport 8080 dnat to 10.88.0.2:80 comment "c1"
	}
	chain masquerading {
		ip saddr 10.88.0.2 ip daddr 10.88.0.2 masquerade comment "c1"
	}
}
`

func textsOf(id, ip string) [][]string {
	chain, ports := "CNI-"+id+"00112233445566778899", "CNI-DN-"+id+"00112233445566778"
	name := `name: "demo" id: "` + id + `"`
	return [][]string{
		{"-N", chain}, {"-A", chain, "-d", "10.88.0.0/16", "-m", "comment", "--comment", name, "-j", "ACCEPT"},
		{"-A", "POSTROUTING", "-s", ip, "-m", "comment", "--comment", name, "-j", chain},
		{"-N", ports}, {"-A", ports, "-p", "tcp", "--dport", "8080", "-j", "DNAT", "--to-destination", ip + ":80"},
		{"-A", "CNI-HOSTPORT-DNAT", "-p", "tcp", "-m", "comment", "--comment", "dnat " + name, "-m", "multiport", "--dports", "8080", "-j", ports},
	}
}

func host(t *testing.T) {
	t.Helper()
	nstest.Host(t)
	file := filepath.Join(t.TempDir(), "made")
	if err := os.WriteFile(file, []byte(made), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := nstest.Run("nft", "-f", file); err != nil {
		t.Fatal(err)
	}
	for _, legacy := range []bool{false, true} {
		program, err := (xtables.Form{Legacy: legacy}).Program()
		if err != nil {
			t.Fatal(err)
		}
		for _, args := range slices.Concat([][]string{{"-N", "CNI-HOSTPORT-DNAT"}, {"-A", "PREROUTING", "-j", "CNI-HOSTPORT-DNAT"}}, textsOf("c1", "10.88.0.2"), textsOf("c2", "10.88.0.3")) {
			if err := nstest.Run(program, append([]string{"-w", "-t", "nat"}, args...)...); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestList(t *testing.T) {
	host(t)
	all, err := List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range all {
		got = append(got, l.Network+"/"+l.Container+"/"+l.IfName+": "+strings.Join(l.Where, ", "))
	}
	want := []string{
		"/c1/: nftables ip cni_hostport hostports, nftables ip cni_hostport masquerading",
		"demo/c1/: iptables nat CNI-DN-c100112233445566778, iptables nat CNI-c100112233445566778899, iptables-legacy nat CNI-DN-c100112233445566778, iptables-legacy nat CNI-c100112233445566778899",
		"demo/c1/eth0: nftables inet cni_plugins_masquerade masq_checks",
		"demo/c2/: iptables nat CNI-DN-c200112233445566778, iptables nat CNI-c200112233445566778899, iptables-legacy nat CNI-DN-c200112233445566778, iptables-legacy nat CNI-c200112233445566778899",
		"demo/c2/eth0: nftables inet cni_plugins_masquerade masq_checks",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func saved(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, command := range []string{"nft list ruleset", "iptables-save", "iptables-legacy-save"} {
		args := strings.Fields(command)
		out, err := nstest.Output(args[0], args[1:]...)
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(out)
	}
	return all.String()
}

func TestForget(t *testing.T) {
	host(t)
	if err := Forget(t.Context(), Owner{"other", "c2", "eth0"}, true); err != nil { // of another network
		t.Fatal(err)
	}
	before := saved(t)
	if err := Forget(t.Context(), Owner{"other", "c1", "net1"}, false); err != nil {
		t.Fatal(err)
	}
	if after := saved(t); after != before {
		t.Errorf("Forget of one of several networks removed rules that may be of another:\n%s\nbefore:\n%s", after, before)
	}
	if err := Forget(t.Context(), Owner{"demo", "c1", "eth0"}, true); err != nil {
		t.Fatal(err)
	}
	left := saved(t)
	for _, gone := range []string{"c1", "cni_hostport", "10.88.0.2"} {
		if strings.Contains(left, gone) {
			t.Errorf("%s is left:\n%s", gone, left)
		}
	}
	for _, stays := range []string{"net: demo, if: eth0, id: c2", "CNI-c200112233445566778899", "CNI-DN-c2"} {
		if !strings.Contains(left, stays) {
			t.Errorf("%s is gone:\n%s", stays, left)
		}
	}
	for _, l := range must(List(t.Context())) {
		if err := l.Remove(); err != nil {
			t.Fatal(err)
		}
	}
	if err := Forget(t.Context(), Owner{"demo", "c1", "eth0"}, true); err != nil {
		t.Errorf("with nothing there: %v", err)
	}
	if left := saved(t); strings.Contains(left, "10.88.") || strings.Contains(left, "cni_plugins") {
		t.Errorf("left of all:\n%s", left)
	}
}

func must(all []*Left, err error) []*Left {
	if err != nil {
		panic(err)
	}
	return all
}

func TestOwners(t *testing.T) {
	for comment, want := range map[string]Owner{
		`name: "demo" id: "c1"`:                            {Network: "demo", Container: "c1"},
		`dnat name: "a \"b" id: "c\\2"`:                    {Network: `a "b`, Container: `c\2`},
		`cali: name`:                                       {},
		`name: demo`:                                       {},
		`name: "demo" id: ""`:                              {},
		`x, net: demo, if: eth0, id: 0123456789`:           {},
		`00-11, net: a, if: net1, id: 0123456789abcdef012`: {},
	} {
		if got, ok := textOwner(comment); ok != (want != Owner{}) || ok && got != want {
			t.Errorf("%s: %+v, %v", comment, got, ok)
		}
	}
	if o, ok := masqOwner("00-11, net: a, if: net1, id: 0123"); !ok || o != (Owner{"a", "0123", "net1"}) {
		t.Errorf("%+v, %v", o, ok)
	}
	if got := splitRule(`-A X -m comment --comment "a \"b\" c\\d" -j "" Y`); !slices.Equal(got, []string{"-A", "X", "-m", "comment", "--comment", `a "b" c\d`, "-j", "", "Y"}) {
		t.Errorf("%q", got)
	}
}

// TestNothing is most hosts, those without nftables in the kernel among them.
func TestNothing(t *testing.T) {
	nstest.Host(t)
	if err := Forget(t.Context(), Owner{Network: "demo", Container: "c1", IfName: "eth0"}, true); err != nil {
		t.Error(err)
	}
	if all, err := List(t.Context()); len(all) > 0 || err != nil {
		t.Errorf("%d, %v", len(all), err)
	}
}
