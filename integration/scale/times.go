package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// times are samples of one duration.
type times []time.Duration

func (t *times) add(d time.Duration) { *t = append(*t, d) }

// quantile is the smallest sample that so great a part of them does not exceed.
func (t times) quantile(q float64) time.Duration {
	if len(t) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(t))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// String is the median, the 99th percentile and the longest, in ms.
func (t times) String() string {
	if len(t) == 0 {
		return "-"
	}
	return fmt.Sprintf("%s / %s / %s", ms(t.quantile(0.5)), ms(t.quantile(0.99)), ms(t.quantile(1)))
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond)) }
