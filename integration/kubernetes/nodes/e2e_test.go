package nodes

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestConformance runs what Kubernetes asks of every cluster's network, with its own tests.
func TestConformance(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			c := newCluster(t, mode, Options{Proxy: "nftables", BridgeNetfilter: true})
			e2e(t, c, `\[sig-network\].*\[Conformance\]`, `\[Serial\]|\[Disruptive\]`, 40)
		})
	}
}

// modes are how pods can be attached.
var modes = []string{"bridge", "routed"}

// beyond are tests of what is no part of conformance, but of a network: client addresses,
// hairpin, ports of nodes and of pods on them, affinity, both families.
const beyond = `\[sig-network\] (Services should (preserve source pod IP|allow pods to hairpin|be able to update NodePorts|be able to create a functioning NodePort|` +
	`have session affinity|be able to switch session affinity|.*externalTrafficPolicy|.*internalTrafficPolicy|be rejected|be updated after|create endpoints|implement service.kubernetes.io)|` +
	`HostPort|Conntrack|Networking Granular|Networking should|.*IPv6DualStack|DNS|NoSNAT|CVE-2021-29923|Netpol API|ServiceCIDR)`

// elsewhere are what takes a cloud, the internet, another kind of cluster, or an hour.
const elsewhere = `\[Conformance\]|\[Serial\]|\[Disruptive\]|\[Slow\]|LoadBalancer|\[Feature:(NetworkPolicy|SCTP|Ingress|NEG|Networking-IPv4|Networking-IPv6|Networking-Performance|PerformanceDNS|SNAT|ClusterTrustBundle)|GCE|Internet|kube-proxy migration|KubeProxyDaemonSet`

// TestBeyondConformance runs Kubernetes' other tests of networks that can be run on two nodes.
func TestBeyondConformance(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			c := newCluster(t, mode, Options{Proxy: "nftables", BridgeNetfilter: true})
			e2e(t, c, beyond, elsewhere, 20)
		})
	}
}

// e2e fails the test for each of Kubernetes' that failed, and when fewer ran than there are.
func e2e(t *testing.T, c *Cluster, focus, skip string, want int) {
	t.Helper()
	log := filepath.Join(os.TempDir(), strings.ReplaceAll(t.Name(), "/", "-")+".log")
	report, err := c.E2E(focus, skip, log)
	if err != nil {
		t.Error(err)
	}
	data, err := os.ReadFile(filepath.Join(report, "junit_01.xml"))
	must(t, err)
	var suites struct {
		Suites []struct {
			Cases []struct {
				Name    string `xml:"name,attr"`
				Status  string `xml:"status,attr"`
				Time    string `xml:"time,attr"`
				Skipped *struct {
					Message string `xml:"message,attr"`
				} `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	must(t, xml.Unmarshal(data, &suites))
	ran := 0
	for _, s := range suites.Suites {
		for _, k := range s.Cases {
			switch {
			case !strings.HasPrefix(k.Name, "[It]"):
			case k.Status == "passed":
				ran++
				t.Logf("passed  %6s s  %s", k.Time, k.Name)
			case k.Status == "skipped" && (k.Skipped == nil || k.Skipped.Message == "skipped"):
			case k.Status == "skipped":
				t.Logf("skipped           %s: %s", k.Name, k.Skipped.Message)
			default:
				ran++
				t.Errorf("%-7s %6s s  %s", k.Status, k.Time, k.Name)
			}
		}
	}
	if ran < want {
		t.Errorf("%d of Kubernetes' tests ran, want %d", ran, want)
	}
}
