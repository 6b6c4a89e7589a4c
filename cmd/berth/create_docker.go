package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/pflag"
)

// dockerFlags are what 'docker network create' has besides: words that ask for what there is
// anyway, or for what there is not.
type dockerFlags struct {
	attachable, ipv4 bool
	scope            string
}

func (d *dockerFlags) flags(f *pflag.FlagSet) {
	ipamDriver, anything := "", false
	d.ipv4 = true
	addFlag(f, onOff(&d.ipv4), "ipv4", "an IPv4 subnet, if none is given; --ipv4=false: none")
	addFlag(f, onOff(&d.attachable), "attachable", "changes nothing: containers can be connected to every network")
	addFlag(f, text(&d.scope, "local|global", "", nil), "scope", "local, or of one that spans hosts global; it follows from the driver")
	addFlag(f, text(&ipamDriver, "name", "default", func(s string) error {
		if s != "default" {
			return errors.New("want default, which is Berth's own; another plugin's ipam section can be written in a conflist of your own")
		}
		return nil
	}), "ipam-driver", "default, the one that there is")
	for _, no := range []struct{ name, why string }{
		{"ipam-opt", "addresses have no options but --subnet, --ip-range, --gateway and --aux-address"},
		{"config-from", "is of Swarm: make the network on each host, with the same flags"},
	} {
		addFlag(f, refusing(no.why), no.name, "refused: "+no.why)
		f.Lookup(no.name).Hidden = true
	}
	for _, no := range []struct{ name, why string }{
		{"ingress", "is of Swarm: a published port is one of the host that its container is on"},
		{"config-only", "is of Swarm: make the network on each host, with the same flags"},
	} {
		addFlag(f, without(&anything, no.why), no.name, "refused: "+no.why)
		f.Lookup(no.name).Hidden = true
	}
}

// refusing is a flag that is refused with a reason, whatever its value.
func refusing(why string) pflag.Value {
	return &value{kind: "text", get: func() string { return "" }, set: func(string) error { return errors.New(why) }}
}

// without is a switch that can be off only.
func without(to *bool, why string) pflag.Value {
	v := onOff(to).(*value)
	set := v.set
	v.set = func(s string) error {
		if err := set(s); err != nil || !*to {
			return err
		}
		return errors.New(why)
	}
	return v
}

// check is what of them does not go with the driver, and what IPv4 asks of the subnets.
func (d *dockerFlags) check(w *createFlags, f *pflag.FlagSet) error {
	var errs []error
	spans := w.driver == driverOverlay
	if want := map[bool][]string{true: {"", "global", "swarm"}, false: {"", "local"}}[spans]; !slices.Contains(want, d.scope) {
		errs = append(errs, fmt.Errorf("--scope: %s: a %s network is %s", d.scope, w.driver, want[1]))
	}
	switch {
	case !f.Changed("ipv4"):
	case spans && !d.ipv4 && len(w.spec.Subnets) == 0:
		errs = append(errs, errors.New("--ipv4=false: want --subnet of IPv6"))
	case !spans:
		w.spec.IPv4 = &d.ipv4
	}
	return errors.Join(errs...)
}
