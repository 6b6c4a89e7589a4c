package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/durations"
	"github.com/prometheus/client_golang/prometheus"
)

// hostMetrics are samples of what containers of this host were given, by whichever process
// gave it.
type hostMetrics struct {
	records *attach.Store

	mu          sync.Mutex
	stamp       string            // of the records, when they were read
	attachments map[[2]string]int // by network and plugin
}

var (
	attachmentsDesc = prometheus.NewDesc("berth_attachments", "Containers' attachments to a network.", []string{"network", "plugin"}, nil)
	durationDesc    = prometheus.NewDesc("berth_plugin_duration_seconds", "How long a plugin took for a verb that succeeded.", []string{"verb"}, nil)
	phaseDesc       = prometheus.NewDesc("berth_plugin_phase_duration_seconds", "How long a phase took of a verb that succeeded.", []string{"verb", "phase"}, nil)
	errorsDesc      = prometheus.NewDesc("berth_plugin_errors_total", "Errors of plugins, by CNI's code (999: of no code).", []string{"verb", "code"}, nil)
)

// Describe implements [prometheus.Collector].
func (*hostMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{attachmentsDesc, durationDesc, phaseDesc, errorsDesc} {
		out <- d
	}
}

// Collect implements [prometheus.Collector].
func (m *hostMetrics) Collect(out chan<- prometheus.Metric) {
	for k, n := range m.count() {
		out <- prometheus.MustNewConstMetric(attachmentsDesc, prometheus.GaugeValue, float64(n), k[0], k[1])
	}
	table, err := durations.Open(m.records.Dir())
	if err != nil {
		return // nobody has attached anything, or there is no memory to share
	}
	defer table.Close()
	for _, h := range table.All() {
		switch verb, phase, code := durations.Parse(h.Name); {
		case code != "":
			count, _ := cumulative(h)
			out <- prometheus.MustNewConstMetric(errorsDesc, prometheus.CounterValue, float64(count), verb, code)
		case phase != "":
			out <- histogram(phaseDesc, h, verb, phase)
		default:
			out <- histogram(durationDesc, h, verb)
		}
	}
}

func histogram(d *prometheus.Desc, h durations.Histogram, labels ...string) prometheus.Metric {
	count, buckets := cumulative(h)
	return prometheus.MustNewConstHistogram(d, count, h.Sum.Seconds(), buckets, labels...)
}

// cumulative is how Prometheus has buckets: each with those below it, by its bound in
// seconds.
func cumulative(h durations.Histogram) (count uint64, buckets map[float64]uint64) {
	buckets = map[float64]uint64{}
	for i, n := range h.Count {
		count += n
		if i < durations.Buckets-1 {
			buckets[durations.Bound(i).Seconds()] = count
		}
	}
	return count, buckets
}

// count counts the records, those that can be read, when somebody has written some since.
func (m *hostMetrics) count() map[[2]string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	stamp := m.records.Stamp()
	if stamp == m.stamp {
		return m.attachments
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	all, err := m.records.List(ctx, "")
	if err != nil && !errors.Is(err, attach.ErrUnreadable) {
		return m.attachments
	}
	m.stamp, m.attachments = stamp, map[[2]string]int{}
	for _, a := range all {
		if !a.Deleting && a.Role == attach.Main {
			m.attachments[[2]string{a.Network, a.Plugin}]++
		}
	}
	return m.attachments
}
