package firewall

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall/allow"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// questions is the chain of what containers ask on port 53.
const questions = "questions"

// questionChain has what is asked of a network's gateway answered by the agent. Every other
// address of the host, and a port 53 that a container publishes, is asked by who means it.
func questionChain() nftnl.Chain {
	c := nftnl.Chain{Name: questions, Jumps: 2, Rules: [][]expr.Any{
		rule(in(lan, iif), is4(), notIn(own4, saddr4, iif), verdict(expr.VerdictReturn)), // iifname @lan ip saddr . iifname != @own4 return
		rule(in(lan, iif), is6(), notIn(own6, saddr6, iif), verdict(expr.VerdictReturn)),
	}}
	for _, proto := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		for _, asked := range [][]expr.Any{rule(is4(), in(gateways4, daddr4, iif)), rule(is6(), in(gateways6, daddr6, iif))} {
			asked = append(transport(proto), asked...)
			c.Rules = append(c.Rules,
				rule(asked, lookup(namesPorts, true, l4proto), redirectBy()), // meta l4proto udp ip daddr . iifname @gateways4 redirect to :meta l4proto map @names_ports
				rule(asked, redirect(allow.NamesPort)))                       // meta l4proto udp ip daddr . iifname @gateways4 redirect to :10053
		}
	}
	return c
}

// gatewayElements are the addresses that the container asks for names. They are the
// container's own where its interface is.
func (r *Rules) gatewayElements(a *attach.Attachment) (all []nftnl.Element) {
	if !r.Names {
		return nil
	}
	comment := ""
	if r.alone() {
		comment = a.Hash()
	}
	for _, addr := range a.Addresses {
		set := gateways4
		switch {
		case !addr.Gateway.IsValid():
			continue
		case addr.Gateway.Is6():
			set = gateways6
		}
		all = append(all, nftnl.Element{Set: set, Key: nftnl.Join(addr.Gateway.AsSlice(), nftnl.Name(r.Bridge)), Comment: comment})
	}
	return all
}

// alone tells whether no other container is reached through the interface.
func (r *Rules) alone() bool { return r.Own || r.Group != 0 }

// gatewaysOn are those of all networks that a bridge is of.
func (s *socket) gatewaysOn(bridge string) (all []nftnl.Element, err error) {
	for set, bytes := range map[string]int{gateways4: 4, gateways6: 16} {
		there, err := s.List(set)
		if err != nil && !nftnl.Absent(err) {
			return nil, fmt.Errorf("list %s: %w", set, err)
		}
		for _, e := range there {
			if string(e.Key[bytes:]) == string(nftnl.Name(bridge)) {
				all = append(all, nftnl.Element{Set: set, Key: e.Key})
			}
		}
	}
	return all, nil
}

// portFile has the port that questions for names are redirected to, where that is not
// [allow.NamesPort]: what the firewall is made anew from, as the records are.
func portFile() string { return filepath.Join(attach.New("", nil).Dir(), "names.port") }

// answerPort is where questions for names are to be redirected to.
func answerPort() uint16 {
	text, err := os.ReadFile(portFile())
	if err != nil {
		return allow.NamesPort
	}
	port, err := strconv.ParseUint(string(text), 10, 16)
	if err != nil || port == 0 {
		return allow.NamesPort
	}
	return uint16(port)
}

// MoveNames has what containers ask for names redirected to another port than
// [allow.NamesPort], or to that one again, by both backends. Where that is so it costs
// little: no program is run.
func MoveNames(port uint16) error {
	old := answerPort()
	if port != old {
		if err := writePort(port); err != nil {
			return fmt.Errorf("remember the port: %w", err)
		}
	}
	err := moveElements(port)
	if port != old {
		for _, v6 := range []bool{false, true} {
			err = errors.Join(err, moveTexts(v6, old, port))
		}
	}
	return err
}

func writePort(port uint16) error {
	if port == allow.NamesPort {
		err := os.Remove(portFile())
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return err
	}
	next := portFile() + ".next" // an ADD reads the one or the other
	if err := os.WriteFile(next, []byte(strconv.Itoa(int(port))), 0o600); err != nil {
		return err
	}
	return os.Rename(next, portFile())
}

// portElements are the map's for a port; none for the usual one.
func portElements(port uint16) (all []nftnl.Element) {
	if port == allow.NamesPort {
		return nil
	}
	return elementsFor(port)
}

func elementsFor(port uint16) (all []nftnl.Element) {
	for _, proto := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		all = append(all, nftnl.Element{Set: namesPorts, Key: []byte{proto}, Value: nftnl.Port(port), Lasting: true})
	}
	return all
}

// moveElements has nftables redirect to another port, in one transaction: at no time is there
// an answer from who has the usual one.
func moveElements(port uint16) error {
	s, err := dial()
	if err != nil {
		return err
	}
	if wanted := portElements(port); len(wanted) > 0 {
		if err = s.Write(wanted); nftnl.Absent(err) {
			return nil // what makes the table makes them, too
		}
		return err
	}
	return s.Remove(elementsFor(port))
}

// moveTexts does so in iptables' chain, if there is one.
func moveTexts(v6 bool, old, port uint16) error {
	t, err := open(v6)
	if errors.Is(err, exec.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if there, err := t.ChainExists("nat", chainAnswer); err != nil || !there {
		return err
	}
	if err := moveAnswers(t, old, port); err != nil {
		return errors.Join(err, writePort(old)) // so that the next call tries again
	}
	return nil
}
