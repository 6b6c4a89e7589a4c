package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/berth-cni/berth/integration/screen"
)

// blocked is the UDP port that something on the way drops.
const blocked = "8472"

// diagnosis is how long the doctor may take to know: a probe of a new peer begins
// within a second, and gives up after 3.5 s.
const diagnosis = 12 * time.Second

// showDoctor: step 7.
func (l *lab) showDoctor() error {
	l.Quote(screen.Pad("oslo", 8) + " $ berth doctor")
	out, _, err := l.doctor(func(_ string, err error) bool { return err == nil })
	l.output(out)
	l.holds(err, "nothing is wrong on oslo: exit code 0")
	l.Space()

	if err := l.DropUDP(8472); err != nil {
		return err
	}
	l.Heading("Now the underlay drops UDP port " + blocked + ", on which there is a second network.")
	if _, err := l.berth(l.oslo, "network create --driver vxlan-overlay --subnet 10.43.0.0/16 --udp-port "+blocked+" green"); err != nil {
		return err
	}
	l.Quote(screen.Pad("oslo", 8) + " $ berth doctor")
	out, took, err := l.doctor(func(out string, _ error) bool {
		return strings.Contains(out, "kiel (for") && strings.Contains(out, "riga (for")
	})
	bad := notOK(out)
	l.findings(bad)
	l.Claim(err != nil && strings.Contains(bad, "network green") && strings.Contains(bad, "no answer") && strings.Contains(bad, "UDP port "+blocked) &&
		!strings.Contains(bad, "network "+network), "after %s it names the network, the hosts and the port: exit code 1", ms(took))
	l.holds(l.web.asks(l.db), "blue, on a port of its own, goes on")
	l.Space()

	if err := l.Clear(); err != nil {
		return err
	}
	l.Heading("The port is let through again.")
	_, took, err = l.doctor(func(_ string, err error) bool { return err == nil })
	l.holds(err, "after %s nothing is wrong any more: exit code 0", ms(took))
	_, err = l.quietly(l.oslo, "network rm --force green")
	return err
}

// doctor asks oslo's doctor until enough says so of its answer and exit code, and returns
// the last of both.
func (l *lab) doctor(enough func(out string, err error) bool) (out string, took time.Duration, err error) {
	for start := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		out, err = l.quietly(l.oslo, "doctor")
		if took = time.Since(start); enough(out, err) || took > diagnosis {
			if err != nil {
				err = fmt.Errorf("berth doctor: %s", notOK(out))
			}
			return out, took, err
		}
	}
}

// findings shows them with what, why and mend each in a column of their own.
func (l *lab) findings(text string) {
	for line := range strings.Lines(text) {
		label, rest, found := strings.Cut(line, ": ")
		if !found || !strings.HasPrefix(label, "    ") {
			l.output(line)
			continue
		}
		const column = 14
		text := screen.Wrap(strings.TrimSpace(rest), screen.Width-4-column)
		l.Quote(screen.Pad(label+":", column) + strings.Join(text, "\n"+strings.Repeat(" ", column)))
	}
}

// notOK drops what is fine.
func notOK(out string) string {
	var kept []string
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "ok ") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}
