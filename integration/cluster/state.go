package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sort"
	"strings"

	"github.com/berth-cni/berth/integration/sandbox"
	"github.com/berth-cni/berth/pkg/overlay"
)

// Overlay is what the host's kernel has of a network, in the terms of [Wanted]: its
// VXLAN device, FDB, neighbours, routes, and who may send to it.
func (h *Host) Overlay(n overlay.Network) (sandbox.Snapshot, error) {
	s := sandbox.Snapshot{}
	err := h.Do(func() error {
		for _, look := range []struct {
			section string
			lines   func(overlay.Network) ([]string, error)
		}{{"route", routes}, {"link", link}, {"address", addresses}, {"fdb", fdb}, {"neighbour", neighbours}, {"sysctl", settings}, {"firewall", firewall}, {"peer", tunnelPeers}} {
			lines, err := look.lines(n)
			if err != nil {
				return fmt.Errorf("look at %s of %s: %w", look.section, n.Device(), err)
			}
			sort.Strings(lines)
			s[look.section] = lines
		}
		return nil
	})
	return s, err
}

// list runs a program that writes JSON, and decodes it. There is nothing when what is
// asked for is not there.
func list(out any, name string, args ...string) error {
	data, err := exec.Command(name, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		said := string(exit.Stderr)
		if strings.Contains(said, "Cannot find device") || strings.Contains(said, "does not exist") || strings.Contains(said, "No such file or directory") {
			return nil
		}
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, said)
	}
	if err != nil || len(data) == 0 {
		return err
	}
	return json.Unmarshal(data, out)
}

func link(n overlay.Network) (lines []string, err error) {
	var links []struct {
		Address string
		MTU     int
		Flags   []string
		Mode    string `json:"inet6_addr_gen_mode"`
		Info    struct {
			Data struct {
				ID            int
				Local, Local6 string
				Port          int
				Learning      bool
			} `json:"info_data"`
		} `json:"linkinfo"`
	}
	err = list(&links, "ip", "-j", "-d", "link", "show", "dev", n.Device())
	for _, l := range links {
		if n.Encrypted {
			lines = append(lines, fmt.Sprintf("mtu %d up %v mode %s", l.MTU, slices.Contains(l.Flags, "UP"), l.Mode))
			continue
		}
		d := l.Info.Data
		lines = append(lines, fmt.Sprintf("%s vni %d local %s port %d learning %v mtu %d up %v mode %s",
			l.Address, d.ID, d.Local+d.Local6, d.Port, d.Learning, l.MTU, slices.Contains(l.Flags, "UP"), l.Mode))
	}
	return lines, err
}

func addresses(n overlay.Network) (lines []string, err error) {
	var links []struct {
		Addresses []struct {
			Local  string
			Prefix int `json:"prefixlen"`
		} `json:"addr_info"`
	}
	err = list(&links, "ip", "-j", "addr", "show", "dev", n.Device())
	for _, l := range links {
		for _, a := range l.Addresses {
			lines = append(lines, fmt.Sprintf("%s/%d", a.Local, a.Prefix))
		}
	}
	return lines, err
}

func fdb(n overlay.Network) (lines []string, err error) {
	var entries []struct{ MAC, Dst, State string }
	err = list(&entries, "bridge", "-j", "fdb", "show", "dev", n.Device())
	for _, e := range entries {
		lines = append(lines, fmt.Sprintf("%s dst %s %s", e.MAC, e.Dst, e.State))
	}
	return lines, err
}

func neighbours(n overlay.Network) (lines []string, err error) {
	var entries []struct {
		Dst, LLAddr string
		State       []string
	}
	err = list(&entries, "ip", "-j", "neigh", "show", "dev", n.Device())
	for _, e := range entries {
		lines = append(lines, strings.ToLower(fmt.Sprintf("%s %s %s", e.Dst, e.LLAddr, strings.Join(e.State, " "))))
	}
	return lines, err
}

// routes are those through the device, and those within the network's subnets that
// reject; the kernel's own are left out.
func routes(n overlay.Network) (lines []string, err error) {
	for _, family := range []string{"-4", "-6"} {
		var entries []struct {
			Type, Dst, Gateway, Dev, Protocol string
			Metric                            uint32
			Flags                             []string
			Metrics                           []struct{ MTU int }
		}
		if err := list(&entries, "ip", family, "-j", "route", "show", "table", "all"); err != nil {
			return nil, err
		}
		for _, e := range entries {
			switch {
			case e.Protocol == "kernel":
			case e.Dev == n.Device():
				line := e.Dst
				if e.Gateway != "" {
					line += " via " + e.Gateway
				}
				line = strings.Join(append(append([]string{line}, e.Flags...), "proto", e.Protocol), " ")
				for _, m := range e.Metrics {
					line += fmt.Sprintf(" mtu %d", m.MTU)
				}
				lines = append(lines, line)
			case e.Type != "" && within(e.Dst, n.Subnets):
				lines = append(lines, fmt.Sprintf("%s %s metric %d proto %s", e.Type, e.Dst, e.Metric, e.Protocol))
			}
		}
	}
	return lines, nil
}

func within(dst string, subnets []netip.Prefix) bool {
	p, err := netip.ParsePrefix(dst)
	if err != nil {
		a, err := netip.ParseAddr(dst)
		if err != nil {
			return false
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	return slices.ContainsFunc(subnets, p.Overlaps)
}

func settings(n overlay.Network) (lines []string, err error) {
	for _, path := range []string{"ipv4/conf/%s/rp_filter", "ipv6/conf/%s/accept_ra"} {
		v, err := os.ReadFile("/proc/sys/net/" + fmt.Sprintf(path, n.Device()))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		lines = append(lines, path[strings.LastIndexByte(path, '/')+1:]+" "+strings.TrimSpace(string(v)))
	}
	return lines, nil
}

// firewall is what the sets of Berth's table have of the network's UDP port and VNI.
func firewall(n overlay.Network) (lines []string, err error) {
	for _, set := range []string{"overlays", "vteps4", "vteps6", "inner44", "inner46", "inner64", "inner66"} {
		var out struct {
			Nftables []struct {
				Set struct {
					Elem []struct {
						Concat []json.RawMessage
						Elem   struct {
							Val struct{ Concat []json.RawMessage }
						} // of an element with a comment
					}
				}
			}
		}
		if err := list(&out, "nft", "-j", "list", "set", "inet", "berth", set); err != nil {
			return nil, err
		}
		for _, object := range out.Nftables {
			for _, e := range object.Set.Elem {
				line, ours := set, false
				for _, word := range slices.Concat(e.Concat, e.Elem.Val.Concat) {
					text := strings.Trim(string(word), `"`)
					if first, last, ok := blockOf(word); ok {
						text, ours = first.String()+"-"+last.String(), within(first.String(), n.Subnets)
					}
					line += " " + text
				}
				if ours || strings.HasSuffix(line, fmt.Sprintf(" %d %d", n.Port, VNIWord(n))) {
					lines = append(lines, line)
				}
			}
		}
	}
	return lines, nil
}

// blockOf is a range of addresses, which nft knows as numbers.
func blockOf(word json.RawMessage) (first, last netip.Addr, ok bool) {
	var r struct{ Range []json.RawMessage }
	if json.Unmarshal(word, &r) != nil || len(r.Range) != 2 {
		return first, last, false
	}
	address := func(word json.RawMessage) netip.Addr {
		n, _ := new(big.Int).SetString(strings.Trim(string(word), `"`), 0)
		if n == nil {
			return netip.Addr{}
		}
		size := 4
		if n.BitLen() > 32 {
			size = 16
		}
		a, _ := netip.AddrFromSlice(n.FillBytes(make([]byte, size)))
		return a
	}
	return address(r.Range[0]), address(r.Range[1]), true
}
