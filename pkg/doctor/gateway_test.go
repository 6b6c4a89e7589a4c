package doctor

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/conflist"
)

// TestGatewayModes: what this program made before there were gateway modes is unprotected;
// what says a mode, whichever, or is another's, is as it is meant to be.
func TestGatewayModes(t *testing.T) {
	const mark = `{"created": "2026-03-01T12:00:00Z", "driver": "bridge"}`
	const both = `, "ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]]}`
	for _, test := range []struct{ mark, keys, want string }{
		{mark, `"isDefaultGateway": true, "ipMasq": true` + both, `write "gatewayModeIPv4": "nat", "gatewayModeIPv6": "nat" into its plugin in /n/web.conflist`},
		{mark, `"isDefaultGateway": true, "gatewayModeIPv6": "routed"` + both, `write "gatewayModeIPv4": "nat" into`},
		{mark, `"isDefaultGateway": true, "ipam": {"ranges": [[{"subnet": "fd00::/64"}]]}`, `write "gatewayModeIPv6": "nat" into`},
		{mark, `"isDefaultGateway": true, "gatewayModeIPv4": "nat-unprotected", "gatewayModeIPv6": "nat"` + both, ""},
		{mark, `"isGateway": true, "internal": true` + both, ""}, {mark, `"ipMasq": false` + both, ""},
		{"null", `"isDefaultGateway": true, "ipMasq": true` + both, ""},
	} {
		file := &conflist.File{Path: "/n/web.conflist", Name: "web", Plugins: make([]conflist.Plugin, 1)}
		if err := json.Unmarshal([]byte(test.mark), &file.Mark); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(`{"type": "bridge", `+test.keys+`}`), &file.Plugins[0].Conf); err != nil {
			t.Fatal(err)
		}
		found, err := checkGatewayModes(&facts{Networks: networkFacts{Files: []*conflist.File{file}}})
		if err != nil || len(found) > 1 || (len(found) == 1) != (test.want != "") || len(found) == 1 && !strings.Contains(found[0].Mend, test.want) {
			t.Errorf("%s: %+v, %v; want %q", test.keys, found, err, test.want)
		}
	}
}
