package cluster

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Path is a way between two places to an address of the second.
type Path struct {
	Name     string
	From, To Place
	Address  netip.Addr
}

// PathSpeed is what [Measure] found of a path.
type PathSpeed struct {
	Path
	Throughput Samples // bit/s, one TCP connection
	RoundTrip  Samples // seconds, 64 bytes of UDP
}

// Measure takes throughput and round-trip time of every path, so many rounds, runs
// of so long each, the paths in turn.
func Measure(paths []Path, rounds int, run time.Duration) ([]PathSpeed, error) {
	var throughput, roundTrip []func() (float64, error)
	for _, p := range paths {
		throughput = append(throughput, func() (float64, error) {
			return Throughput(p.From, p.To, p.Address, 1, run)
		})
		roundTrip = append(roundTrip, func() (float64, error) {
			d, err := RoundTrip(p.From, p.To, p.Address, run)
			return d.Seconds(), err
		})
	}
	rates, err := Interleave(rounds, throughput...)
	if err != nil {
		return nil, err
	}
	times, err := Interleave(rounds, roundTrip...)
	if err != nil {
		return nil, err
	}
	var all []PathSpeed
	for i, p := range paths {
		all = append(all, PathSpeed{p, rates[i], times[i]})
	}
	return all, nil
}

// Table is a line for each path, with the medians, and those of the ratios to the path of
// that name.
func Table(speeds []PathSpeed, base string) string {
	var b strings.Builder
	var of PathSpeed
	for _, s := range speeds {
		if s.Name == base {
			of = s
		}
	}
	for _, s := range speeds {
		fmt.Fprintf(&b, "%-24s %6.2f Gbit/s ±%2.0f %%  %6.1f µs ±%2.0f %%", s.Name,
			s.Throughput.Median()/1e9, s.Throughput.Spread()*100, s.RoundTrip.Median()*1e6, s.RoundTrip.Spread()*100)
		if len(of.Throughput) > 0 {
			fmt.Fprintf(&b, "   of %s: %.2f of the throughput, %.2f of the time", base, s.Throughput.Of(of.Throughput).Median(), s.RoundTrip.Of(of.RoundTrip).Median())
		}
		b.WriteString("\n")
	}
	return b.String()
}
