// Package names gives containers their names: what a container is called
// ([FromArgs]), and the step that tells the host's agent ([Register]), which answers
// DNS for them (package server).
//
// # Where the agent listens
//
// On [Port] of the wildcard address, UDP and TCP, once for each bridge, by a socket
// that is bound to that bridge (SO_BINDTODEVICE). The firewall redirects to it what
// comes in by the bridge for port 53 of the network's gateway. So nothing takes
// port 53 of the host: a DNS server that listens there, on the wildcard address or
// on the bridge's own, goes on undisturbed; a port 53 that a container publishes is
// another container's business, since the redirection is of packets of this bridge
// only; and nothing is put into a container, whose own port 53 is its own. A
// resolv.conf names the gateway, an address like any other, which tells apart by
// bridge and source address who asks. A server inside each namespace, as Docker has
// it, would take a socket and a rule for each container, and go with a process that
// enters the namespace.
package names

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
)

// Port is where the agent listens on each bridge, UDP and TCP. Where somebody else has it,
// the agent takes another one, and has the redirection lead there.
const Port = 10053

// AnyInterface stands for the interface by which the queries of a container come in on a
// network without a bridge. One socket listens for all of these: the container is known by
// its address, to which the host routes the answer, whoever has asked.
const AnyInterface = "*"

// TTL is that of every answer about a container, in seconds.
const TTL = 5

// HostDomain is the domain that this host knows containers by, as NAME.NETWORK.berth.
const HostDomain = "berth"

// SocketName is the agent's socket in the state folder.
const SocketName = "agent.sock"

// What a name and a label of one may have in DNS, in bytes (RFC 1035, 2.3.4). On the wire
// a name has two more: the length of the first label and the root's.
const (
	maxName  = 253
	maxLabel = 63
)

// Entry is what the agent knows of one attachment.
type Entry struct {
	attach.Key
	// Bridge is the host's interface by which the container's queries come in; empty
	// for a container of another host.
	Bridge string `json:"bridge,omitempty"`
	// Names are in lower case, the container's own first, some with dots
	// (www.shop.example). Without one the container asks, and is not found.
	Names     []string     `json:"names,omitempty"`
	Addresses []netip.Addr `json:"addresses,omitempty"`
	// Subnets are the network's: addresses in them that nobody has are not looked up
	// elsewhere.
	Subnets []netip.Prefix `json:"subnets,omitempty"`
	// Gateways are the host's addresses on the network, which host.docker.internal and the
	// like stand for.
	Gateways []netip.Addr `json:"gateways,omitempty"`
	// Internal networks have nothing forwarded, unless they have Upstreams.
	Internal bool `json:"internal,omitempty"`
	// Links are names that this container alone sees, each with the container that it
	// stands for, by its name, ID or short ID.
	Links map[string]string `json:"links,omitempty"`
	// Upstreams are asked in place of the host's resolvers, on port 53.
	Upstreams []netip.Addr `json:"upstreams,omitempty"`
	// Foreign says that somebody else made the bridge: who asks by it from another address
	// than a container's may be of the host's LAN.
	Foreign bool `json:"foreign,omitempty"`
}

// Network is one of Berth's on this host, with or without a container here.
type Network struct {
	Name    string
	Named   bool           // its containers have names
	Subnets []netip.Prefix // of which the host has the gateway
}

// Valid tells what is wrong with a name of a container: it is a DNS name of labels
// (RFC 1123, 2.1) with dots between, in which an underscore is let pass, as people know it
// of Docker (my_app_1). Case does not matter.
func Valid(name string) error {
	switch {
	case name == "":
		return errors.New("want a name")
	case len(name) > maxName:
		return fmt.Errorf("want at most %d characters", maxName)
	}
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		if err := validLabel(label); err != nil {
			return err
		}
		last = label
	}
	if strings.EqualFold(last, "localhost") {
		return errors.New("every host has that name itself (RFC 6761)")
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return errors.New("want a name, not an address")
	}
	return nil
}

func validLabel(label string) error {
	switch {
	case label == "":
		return errors.New("want a label on each side of a dot")
	case len(label) > maxLabel:
		return fmt.Errorf("want at most %d characters in a label", maxLabel)
	case label[0] == '-' || label[len(label)-1] == '-':
		return errors.New("want no hyphen at the start or the end of a label")
	}
	for i := range len(label) {
		if c := label[i]; !letterOrDigit(c) && c != '-' && c != '_' {
			return errors.New("want a DNS name: labels of letters, digits, - and _, with dots between")
		}
	}
	return nil
}

// Domain is the domain that the names of a network are in, for a resolver's search
// list: the network's name in lower case. Empty when DNS cannot carry it (a..b).
//
// The domain hides the Internet's of the same name from the network's containers, as
// none of its names is asked for elsewhere: a network "dev" has no go.dev.
func Domain(network string) string {
	const most = maxName - maxLabel - 1 // with a container's name in front
	if len(network) > most {
		return ""
	}
	for label := range strings.SplitSeq(network, ".") {
		if validLabel(label) != nil || strings.EqualFold(label, "localhost") {
			return ""
		}
	}
	return strings.ToLower(network)
}

func letterOrDigit(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
