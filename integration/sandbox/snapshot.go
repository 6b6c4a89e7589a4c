package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// Snapshot is what is on a host, by section; each section is a sorted list of
// lines. It leaves out what changes by itself: counters, handles, dates, indexes.
//
// Some things stay by design when a network's first container has gone: the
// bridge, the table. Take the reference snapshot after that.
type Snapshot map[string][]string

// Quick are the sections that take little time to look at, and show what an
// attachment leaves first.
var Quick = []string{"link", "nft", "state", "file"}

// Snapshot looks at the host. With namespaces given by path, at their interfaces,
// too.
func (h *Host) Snapshot(netns ...string) (Snapshot, error) {
	s, err := h.Look()
	for _, path := range netns {
		c := &Container{Netns: path, host: h}
		err2 := c.Do(func() (err error) {
			s["inside "+path], err = program("ip", "-o", "addr", "show")()
			return err
		})
		if err == nil {
			err = err2
		}
	}
	return s, err
}

// Look is [Host.Snapshot] of some sections of the host; of all when none is named.
func (h *Host) Look(only ...string) (Snapshot, error) {
	s := Snapshot{}
	err := h.Do(func() error {
		for _, look := range []struct {
			section string
			lines   func() ([]string, error)
		}{
			{"link", program("ip", "-o", "-d", "link", "show")}, {"address", program("ip", "-o", "addr", "show")},
			{"route", program("ip", "-4", "route", "show", "table", "all")},
			{"route6", program("ip", "-6", "route", "show", "table", "all")},
			{"rule", program("ip", "rule")}, {"tc", program("tc", "qdisc")},
			{"bridge vlan", program("bridge", "vlan")}, {"sysctl", sysctls},
			{"nft", nftables}, {"iptables", iptables("iptables-legacy-save")},
			{"ip6tables", iptables("ip6tables-legacy-save")},
			{"conntrack", conntrack},
			{"state", stateKeys}, {"file", files}, {"mount", mounts}, {"process", h.processes},
		} {
			if len(only) > 0 && !slices.Contains(only, look.section) {
				continue
			}
			lines, err := look.lines()
			if err != nil {
				return fmt.Errorf("look at %s: %w", look.section, err)
			}
			sort.Strings(lines)
			s[look.section] = lines
		}
		return nil
	})
	return s, err
}

// Diff lists what is in one snapshot only, one line each: "+ section: line" for
// what is only in after, "- section: line" for what is only in s.
func (s Snapshot) Diff(after Snapshot) []string {
	var out []string
	for _, section := range sections(s, after) {
		gone, come := onlyIn(s[section], after[section])
		for _, l := range gone {
			out = append(out, "- "+section+": "+l)
		}
		for _, l := range come {
			out = append(out, "+ "+section+": "+l)
		}
	}
	return out
}

// Without returns the snapshot without some sections.
func (s Snapshot) Without(names ...string) Snapshot {
	out := Snapshot{}
	for section, lines := range s {
		if !slices.Contains(names, section) {
			out[section] = lines
		}
	}
	return out
}

func sections(a, b Snapshot) []string {
	var all []string
	for _, s := range []Snapshot{a, b} {
		for section := range s {
			all = append(all, section)
		}
	}
	sort.Strings(all)
	return slices.Compact(all)
}

// onlyIn compares as multisets.
func onlyIn(a, b []string) (gone, come []string) {
	count := map[string]int{}
	for _, l := range a {
		count[l]++
	}
	for _, l := range b {
		if count[l] > 0 {
			count[l]--
		} else {
			come = append(come, l)
		}
	}
	for _, l := range a {
		if count[l] > 0 {
			count[l]--
			gone = append(gone, l)
		}
	}
	return gone, come
}

// unstable are the parts of `ip -d link` and of address and route lists that
// change by themselves.
var unstable = []*regexp.Regexp{
	regexp.MustCompile(`^\d+: `), regexp.MustCompile(`@if\d+`), regexp.MustCompile(`link-netnsid \d+`),
	regexp.MustCompile(`\b(hello|tcn|topology_change|gc)_timer +[\d.]+`),
	regexp.MustCompile(`(bridge|designated)_(id|root) \S+`), regexp.MustCompile(`(designated|root)_(port|cost|bridge|root) \S+`),
	regexp.MustCompile(`fdb_n_learned \d+`), regexp.MustCompile(`port_(id|no) \S+`),
	regexp.MustCompile(`hold_timer +[\d.]+|message_age_timer +[\d.]+|forward_delay_timer +[\d.]+`),
	regexp.MustCompile(`valid_lft \S+|preferred_lft \S+`), regexp.MustCompile(`\\`),
	regexp.MustCompile(`\b(expires|id=)\S*`),
	regexp.MustCompile(` numtxqueues .*`),
	// A bridge has a carrier while it has a port.
	regexp.MustCompile(`\b(linkdown|tentative|NO-CARRIER,)`), regexp.MustCompile(`,LOWER_UP\b`), regexp.MustCompile(`\bstate (UP|DOWN|UNKNOWN)\b`),
}

// linkLocal are the IPv6 addresses and routes that the kernel gives to every link, a
// second or two late.
var linkLocal = regexp.MustCompile(`\bfe80::|\bff00::/8`)

// program looks through the output of a program; a line for each of its lines.
func program(name string, args ...string) func() ([]string, error) {
	return func() ([]string, error) {
		out, err := output(name, args...)
		if err != nil {
			return nil, err
		}
		var lines []string
		for line := range strings.Lines(out) {
			for _, re := range unstable {
				line = re.ReplaceAllString(line, "")
			}
			if line = strings.Join(strings.Fields(line), " "); line != "" && !linkLocal.MatchString(line) {
				lines = append(lines, line)
			}
		}
		return lines, nil
	}
}

var sysctlNames = []string{
	"net/ipv4/ip_forward", "net/ipv4/conf/*/forwarding", "net/ipv4/conf/*/route_localnet",
	"net/ipv4/conf/*/rp_filter", "net/ipv4/conf/*/arp_notify", "net/ipv4/conf/*/proxy_arp",
	"net/ipv6/conf/*/forwarding", "net/ipv6/conf/*/accept_ra", "net/ipv6/conf/*/accept_dad",
	"net/ipv6/conf/*/disable_ipv6", "net/ipv6/conf/*/addr_gen_mode", "net/bridge/*",
}

func sysctls() ([]string, error) {
	var lines []string
	for _, name := range sysctlNames {
		paths, err := filepath.Glob("/proc/sys/" + name)
		if err != nil {
			return nil, err
		}
		for _, p := range paths {
			v, err := os.ReadFile(p)
			if err != nil {
				continue // the interface has just gone
			}
			lines = append(lines, strings.TrimPrefix(p, "/proc/sys/")+" = "+strings.TrimSpace(string(v)))
		}
	}
	return lines, nil
}

func files() ([]string, error) {
	var lines []string
	for _, dir := range []string{"/run", "/var/lib/cni"} {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				lines = append(lines, path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return lines, nil
}

func mounts() ([]string, error) {
	data, err := os.ReadFile("/proc/thread-self/mounts")
	var lines []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 2 {
			lines = append(lines, f[2]+" "+f[1])
		}
	}
	return lines, err
}

// processes lists the programs in the host's mount namespace.
func (h *Host) processes() ([]string, error) {
	var own unix.Stat_t
	if err := unix.Fstat(int(h.mnt.Fd()), &own); err != nil {
		return nil, err
	}
	paths, err := filepath.Glob("/proc/[0-9]*/ns/mnt")
	var lines []string
	for _, p := range paths {
		var st unix.Stat_t
		if unix.Stat(p, &st) != nil || st.Ino != own.Ino {
			continue // ended meanwhile, or somebody else's
		}
		cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(p)), "cmdline"))
		lines = append(lines, strings.TrimSpace(strings.ReplaceAll(string(cmdline), "\x00", " ")))
	}
	return lines, err
}
