package agent

import (
	"strings"

	"github.com/berth-cni/berth/pkg/overlay/probe"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics makes samples of the agent's status when somebody asks for them: at rest
// they cost nothing.
type metrics struct {
	agent   Statuser
	version string // of Berth
}

// metric is the name and the meaning of a metric, and its labels.
func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("berth_"+name, help, labels, nil)
}

// Describe implements [prometheus.Collector]: with nothing, since the counters' names
// are the agent's (an unchecked collector).
func (*metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	s := counted(m.agent)
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(metric("build_info", "Always 1; the label is the version.", "version"), 1, m.version)
	gauge(metric("ready", "Whether this host can use its networks."), bit(s.Ready))
	gauge(metric("underlay_mtu_bytes", "MTU of the device that VXLAN packets use.", "device"), float64(s.Underlay.MTU), s.Underlay.Device)
	gauge(metric("store_up", "Whether the store answers."), bit(!s.Store.Away))
	if s.Store.Away {
		gauge(metric("store_away_since_timestamp_seconds", "When the store went away."), float64(s.Store.Since.Unix()))
	}
	gauge(metric("store_registered", "Whether the store knows this host."), bit(s.Store.Registered))
	gauge(metric("store_nodes", "Nodes that the store knows."), float64(s.Store.Nodes))
	gauge(metric("store_broken", "Whether the store's history is not the one before, and it lacks what it had."), bit(s.Store.Broken != ""))
	gauge(metric("store_lost_networks", "Networks that the store does not have, though nobody has removed them."), float64(len(s.Store.LostNetworks)))
	gauge(metric("store_lost_nodes", "Other nodes that the store does not have, though nobody has removed them."), float64(len(s.Store.LostNodes)))
	gauge(metric("store_lost_blocks", "Blocks of other nodes that the store does not have, though nobody has removed them."), float64(s.Store.LostBlocks))
	gauge(metric("store_bad_keys", "Keys of the store that nobody can use."), float64(len(s.Bad)))
	for _, n := range s.Networks {
		collectNetwork(&n, gauge)
		for kind, count := range n.Repairs {
			out <- prometheus.MustNewConstMetric(metric("repairs_total", "What was put right since somebody else had changed it.", "network", "kind"),
				prometheus.CounterValue, float64(count), n.Name, kind)
		}
	}
	for reason, count := range s.Dropped {
		out <- prometheus.MustNewConstMetric(metric("dropped_packets_total", "Packets that nobody may send: forged ones.", "reason"),
			prometheus.CounterValue, float64(count), reason)
	}
	for name, count := range s.Counters {
		out <- prometheus.MustNewConstMetric(metric(counterName(name), "Counted by the agent since its start."),
			prometheus.CounterValue, float64(count))
	}
}

func collectNetwork(n *NetworkStatus, gauge func(d *prometheus.Desc, v float64, labels ...string)) {
	gauge(metric("network_healthy", "Whether the network has no problem.", "network"), bit(n.Problem == ""), n.Name)
	gauge(metric("network_mtu_bytes", "MTU of the network's VXLAN device.", "network"), float64(n.MTU), n.Name)
	gauge(metric("network_peers", "Other hosts with blocks of the network.", "network"), float64(n.Peers), n.Name)
	for _, b := range n.Blocks {
		gauge(metric("block_addresses", "Addresses of a block that containers can have.", "network", "block"), float64(b.Size), n.Name, b.Prefix.String())
		gauge(metric("block_free_addresses", "Addresses of a block that no container has.", "network", "block"), float64(b.Free), n.Name, b.Prefix.String())
	}
	gauge(metric("network_checksum_offload", "Whether checksums may be left to devices; 0: a probe found them broken on the way.", "network"), bit(!n.Checksum), n.Name)
	const help = "Peers that are alive, counted in each address family, by what the last probe of them found."
	verdicts := map[string]int{probe.OK.String(): n.Probes.OK}
	for _, state := range []probe.State{probe.NoAnswer, probe.SmallMTU, probe.BadChecksum, probe.Failed} {
		verdicts[state.String()] = 0
	}
	for _, f := range n.Probes.Failing {
		verdicts[f.State]++
	}
	for verdict, peers := range verdicts {
		gauge(metric("probe_peers", help, "network", "verdict"), float64(peers), n.Name, verdict)
	}
}

// counterName is the agent's word for a counter, as Prometheus spells it.
func counterName(word string) string {
	var b strings.Builder
	for i, r := range word {
		switch {
		case r >= 'A' && r <= 'Z':
			if i > 0 {
				b.WriteByte('_')
			}
			b.WriteRune(r + 'a' - 'A')
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		default:
			b.WriteByte('_')
		}
	}
	return strings.TrimSuffix(b.String(), "_total") + "_total"
}

func bit(on bool) float64 {
	if on {
		return 1
	}
	return 0
}
