package main

import (
	"path"
	"slices"
)

// part is what a kernel can run of packages.
type part struct {
	pkg       string // a pattern of path.Match
	run, skip string // as go test takes them
	why       string // the rest is not run; without run and skip that is all
}

const noNFTables = "the kernel has no nftables of the families inet and ip"

// withoutNFTables is for a kernel whose firewall is iptables-legacy.
var withoutNFTables = []part{
	{pkg: "pkg/firewall", run: "^Test(SCTP|Traffic|LoopbackProtected|StalePort)$/^iptables", why: noNFTables},
	{pkg: "pkg/internal/netlink", skip: "^TestTransaction$", why: noNFTables},
	{pkg: "pkg/internal/xtables", skip: "^TestMentions$", why: noNFTables},
	{pkg: "pkg/names/server", skip: "^TestPort53$", why: noNFTables},
	{pkg: "plugins/bridge", skip: "^(TestFaultLeavesNothing|TestReload|TestNextAddRestores)$", why: noNFTables},
	{pkg: "plugins/vxlan-overlay", skip: "^TestFaultLeavesNothing$", why: noNFTables},
	{pkg: "pkg/firewall/ruleset", why: noNFTables},
	{pkg: "pkg/doctor", why: noNFTables},
	{pkg: "pkg/host", why: noNFTables},
	{pkg: "pkg/rebuild", why: noNFTables},
	{pkg: "pkg/overlay/*", why: noNFTables + ", which the overlay needs"},
	{pkg: "cmd/berth", why: noNFTables},
}

// choice are the tests that the kernel can run. The report says which others there are.
// Who asks for tests by name gets them all the same.
func (k kernel) choice(all []test, r *report) (tests []test) {
	for _, t := range all {
		i := slices.IndexFunc(k.parts, func(p part) bool {
			match, _ := path.Match(p.pkg, t.Name)
			return match
		})
		if i < 0 || t.Run != "" {
			tests = append(tests, t)
			continue
		}
		p := k.parts[i]
		left := result{pkg: t.Name, test: p.skip, action: "skip", text: p.why}
		if p.run != "" {
			left.test = "all but " + p.run
		}
		r.results = append(r.results, left)
		if t.Run, t.Skip = p.run, p.skip; t.Run+t.Skip != "" {
			tests = append(tests, t)
		}
	}
	return tests
}
