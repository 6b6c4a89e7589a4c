package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/conflist"
)

// checkGatewayModes tells of networks that a version of this program made which knew no
// gateway modes. Other authors' mean what they say.
func checkGatewayModes(f *facts) ([]Problem, error) {
	var found []Problem
	for _, file := range f.Networks.Files {
		conf := &file.Plugins[0].Conf
		if file.Mark == nil || file.Driver() != conflist.Bridge || conf.Internal || !conf.IsGateway && !conf.IsDefaultGateway {
			continue
		}
		var keys []string
		for _, family := range []struct {
			v6, has bool
			key     string
		}{{false, conf.GatewayModeIPv4 != "", "gatewayModeIPv4"}, {true, conf.GatewayModeIPv6 != "", "gatewayModeIPv6"}} {
			there := slices.ContainsFunc(conf.Subnets(), func(r conflist.Range) bool { return r.Subnet.Addr().Is6() == family.v6 })
			if there && !family.has {
				keys = append(keys, fmt.Sprintf("%q: \"nat\"", family.key))
			}
		}
		if len(keys) > 0 {
			found = append(found, problem(fmt.Sprintf("network %s: an earlier version made it, without gateway modes", file.Name),
				"a neighbour of this host that routes to its containers reaches every port of theirs, published or not",
				fmt.Sprintf("write %s into its plugin in %s, then attach a container; \"nat-unprotected\" leaves it as it is", strings.Join(keys, ", "), file.Path), about{network: file.Name}))
		}
	}
	return found, nil
}
