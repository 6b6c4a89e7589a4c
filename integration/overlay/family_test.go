package overlay

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
)

// only leaves a host the underlay's addresses of one family; of 0 both.
func only(t testing.TB, h *cluster.Host, family int) {
	t.Helper()
	addrs := []string{fmt.Sprintf("%s/24", h.Addr4), fmt.Sprintf("%s/64", h.Addr6)}
	for i, f := range []int{4, 6} {
		if family == 0 || family == f {
			must(t, h.Script("ip addr replace "+addrs[i]+" dev eth0 nodad"))
		} else {
			must(t, h.Script(fmt.Sprintf("ip -%d addr flush dev eth0 scope global", f)))
		}
	}
}

// launch starts agents that reach the store by both families, and does not wait.
func (b *bed) launch(hosts ...*cluster.Host) {
	b.t.Helper()
	for _, h := range hosts {
		a, err := h.LaunchAgent("--store", "etcd", "--etcd-endpoints", b.store.BothEndpoints())
		must(b.t, err)
		b.agents[h] = a
	}
}

// unready waits until an agent is not ready, for a reason that has these words.
func (b *bed) unready(h *cluster.Host, words string) {
	b.t.Helper()
	b.eventually(patience, func() error {
		if err := b.agents[h].Probe("readyz"); err == nil || !strings.Contains(err.Error(), words) {
			return fmt.Errorf("agent of %s: %v, want %q", h.Name, err, words)
		}
		return nil
	})
}

// use waits until the hosts have their VTEPs at these addresses.
func (b *bed) use(within time.Duration, family int, hosts ...*cluster.Host) {
	b.t.Helper()
	took := b.eventually(within, func() error {
		var errs []error
		for _, h := range hosts {
			want := h.Addr4
			if family == 6 {
				want = h.Addr6
			}
			out, err := h.Output("ip", "-d", "link", "show", "type", "vxlan")
			if err != nil || !strings.Contains(out, "local "+want.String()+" ") {
				errs = append(errs, fmt.Errorf("VTEP of %s is not at %s: %v: %s", h.Name, want, err, out))
			} else if err := b.agents[h].Probe("readyz"); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", h.Name, err))
			}
		}
		return errors.Join(errs...)
	})
	b.t.Logf("IPv%d on %d hosts after %v", family, len(hosts), took.Round(time.Millisecond))
}

// TestFamilyAtBoot has a host's router advertisements come before DHCP. It joins the
// others as soon as it has their family, and says meanwhile what it lacks.
func TestFamilyAtBoot(t *testing.T) {
	t.Parallel()
	b := newBed(t, 2, options{})
	one, two := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two")
	late, err := b.Host("late", 9)
	must(t, err)
	only(t, late, 6)
	tr := startTraffic(t, one, two)
	b.launch(late)
	b.unready(late, fmt.Sprintf("this host has only %s on eth0, the overlay's hosts use IPv4: a, b", late.Addr6))
	only(t, late, 0)
	b.use(patience, 4, late)
	b.settled()
	tr.whole("a host came with IPv6 first")
	b.reaches(one, two, b.container(late, "three"))
	// A host without an address of theirs says so for as long as it is so.
	lone, err := b.Host("lone", 10)
	must(t, err)
	only(t, lone, 6)
	b.launch(lone)
	tr = startTraffic(t, one, two)
	time.Sleep(12 * time.Second) // by now it has told the store of what it has
	b.unready(lone, "this host has only")
	b.use(patience, 4, b.Hosts[0], b.Hosts[1], late)
	tr.whole("a host of the other family came")
}

// TestFamilyFollowed takes IPv4 from hosts that use it, gives it back, and takes IPv6
// away. They agree after each step, and nobody moves who works.
func TestFamilyFollowed(t *testing.T) {
	t.Parallel()
	b := newBed(t, 3, options{})
	for _, a := range b.agents {
		must(t, a.Stop())
	}
	b.launch(b.Hosts...)
	b.use(patience, 4, b.Hosts...)
	one, two, three := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two"), b.container(b.Hosts[2], "three")
	b.reaches(one, two, three)
	each := func(family int) {
		for _, h := range b.Hosts {
			only(t, h, family)
		}
	}
	const within = 20 * time.Second // a host waits 10 s for what it had
	each(6)
	b.use(within, 6, b.Hosts...)
	b.underlay6 = true
	b.settled() // a host hears of the others' addresses after it has its own
	b.reaches(one, two, three)
	tr := startTraffic(t, one, two, three)
	each(0)
	time.Sleep(time.Second)
	b.use(patience, 6, b.Hosts...)
	tr.whole("IPv4 is back")
	b.reaches(one, two, three)
	only(t, b.Hosts[2], 4)
	b.unready(b.Hosts[2], fmt.Sprintf("this host has only %s on eth0, the overlay's hosts use IPv6: a, b", b.Hosts[2].Addr4))
	only(t, b.Hosts[1], 4) // a, which has both, goes with the others
	b.use(within, 4, b.Hosts...)
	b.underlay6 = false
	b.settled()
	b.reaches(one, two, three)
}
