package bridged

import (
	"reflect"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/firewall"
)

// conf is a mode's configuration with nothing of its own.
type conf struct {
	Conf
	policy Policy
	rules  *firewall.Rules
}

func (c *conf) Plan(r *cni.Request) ([]attach.Step, error) {
	c.Validate(r)
	c.ValidateModes(r, true)
	c.policy = Policy{Internal: c.Internal, Isolate: c.Isolate, NoICC: c.NoICC(), Modes: c.Modes()}
	var err error
	c.rules, err = c.Rules(r, "br0", c.policy)
	return []attach.Step{r.Addresses(r.IPAM), c.Ports(r, c.rules, r.IPAM, false), r.Names("br0", c.Internal, nil)}, err
}

// plan plans a configuration of a network n with addresses.
func plan(t *testing.T, more string) (*conf, []attach.Step, error) {
	t.Helper()
	c := &conf{}
	r, err := cni.NewRequest(&cni.CmdArgs{Args: "IgnoreUnknown=1;K8S_POD_NAME=web",
		StdinData: []byte(`{"name": "n", "ipam": {"subnet": "10.1.0.0/24"}` + more + `}`)}, c)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := r.Plan()
	return c, steps, err
}

// TestSettings: the firewall's rules, and the words that the host remembers of them.
func TestSettings(t *testing.T) {
	for more, want := range map[string]struct {
		words string
		rules firewall.Rules
	}{
		``:                                   {"", firewall.Rules{}},
		`, "ipMasq": true`:                   {"", firewall.Rules{Masquerade: true}},
		`, "ipMasq": true, "internal": true`: {"internal", firewall.Rules{Internal: true}},
		`, "ipMasq": false`:                  {"", firewall.Rules{NoMasquerade: true}},
		`, "gatewayModeIPv4": "nat"`:         {"ipv4=nat", firewall.Rules{Mode4: firewall.NAT}},
		`, "gatewayModeIPv4": "nat", "ipMasq": false`: {"ipv4=nat", firewall.Rules{Mode4: firewall.NAT, NoMasquerade: true}},
		`, "gatewayModeIPv4": "nat-unprotected", "gatewayModeIPv6": "nat-unprotected"`: {"nat-unprotected",
			firewall.Rules{Mode4: firewall.NATUnprotected, Mode6: firewall.NATUnprotected}},
		`, "gatewayModeIPv4": "nat", "gatewayModeIPv6": "routed"`: {"ipv4=nat ipv6=routed",
			firewall.Rules{Mode4: firewall.NAT, Mode6: firewall.Routed}},
		`, "gatewayModeIPv4": "nat", "internal": true`:      {"internal", firewall.Rules{Internal: true}},
		`, "gatewayModeIPv4": "isolated", "internal": true`: {"internal ipv4=isolated", firewall.Rules{Internal: true, Mode4: firewall.Isolated}},
		`, "icc": true, "isolate": true`:                    {"isolate", firewall.Rules{Isolate: true}},
		`, "icc": false`:                                    {"noicc", firewall.Rules{NoICC: true}},
		`, "names": true`:                                   {"names", firewall.Rules{Names: true}},
		// A container that links is let ask, and says nothing of the network.
		`, "args": {"cni": {"links": ["db"]}}`: {"", firewall.Rules{Names: true}},
		`, "internal": true, "isolate": true, "icc": false, "names": true`: {"internal isolate noicc names",
			firewall.Rules{Internal: true, Isolate: true, NoICC: true, Names: true}},
	} {
		c, _, err := plan(t, more)
		if err != nil {
			t.Errorf("%s: %v", more, err)
			continue
		}
		want.rules.Backend, want.rules.Bridge = c.rules.Backend, "br0"
		if got := strings.Join(c.Settings(c.policy), " "); got != want.words || !reflect.DeepEqual(*c.rules, want.rules) {
			t.Errorf("%s: %q, %+v; want %q, %+v", more, got, *c.rules, want.words, want.rules)
		}
	}
}

func TestValidate(t *testing.T) {
	if _, _, err := plan(t, `, "hairpinMode": true, "promiscMode": true`); err == nil || !strings.Contains(err.Error(), "hairpinMode: true: cannot be together with promiscMode") {
		t.Errorf("%v", err)
	}
}

// TestPorts: an internal network publishes none.
func TestPorts(t *testing.T) {
	const port = `, "runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 80}]}`
	for more, want := range map[string]int{port: 2, port + `, "internal": true`: 1} {
		if _, steps, err := plan(t, more); err != nil || len(steps) != want {
			t.Errorf("%s: %d steps, %v", more, len(steps), err)
		}
	}
}
