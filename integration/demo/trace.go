package main

import (
	"path/filepath"
	"strings"

	"github.com/berth-cni/berth/integration/sandbox"
	"github.com/berth-cni/berth/integration/screen"
)

// guard is somebody else's firewall, which drops what containers send to the outside's web
// server.
var guard = []string{
	"add table inet guard",
	"add chain inet guard f { type filter hook forward priority 10; }",
	"add rule inet guard f ip daddr " + sandbox.OutsideAddr4 + " tcp dport 80 drop",
}

// showTrace: step 9.
func (l *lab) showTrace() error {
	for _, command := range guard {
		l.Quote("host     $ nft '" + command + "'")
		if _, err := l.host.output("nft", command); err != nil {
			return err
		}
	}
	l.Space()
	out, err := l.query.output("curl", "-q", "-sS", "--noproxy", "*", "--max-time", "0.5", url(sandbox.OutsideAddr4))
	shown := "timed out"
	if err == nil {
		shown = out
	}
	l.Command(err != nil, l.query.name, "curl "+url(sandbox.OutsideAddr4), shown, "no answer")
	l.Space()

	question := []string{"trace", l.query.ID, sandbox.OutsideAddr4 + ":80"}
	out, _ = l.host.output(filepath.Join(l.bin, "berth"), question...) // 1: it does not get through
	l.Quote("host     $ berth " + strings.Join(question, " "))
	for line := range strings.Lines(out) {
		for _, part := range screen.Wrap(strings.TrimSuffix(line, "\n"), screen.Width-4) {
			l.Heading(part)
		}
	}
	l.Claim(strings.Contains(out, " of table inet guard, chain f drops it: ip daddr "), "it names the rule, and whose it is")
	_, mend, _ := strings.Cut(screen.LastLine(out), ": nft ")
	l.Claim(strings.HasPrefix(mend, "delete rule inet guard f handle "), "it says what mends it")
	l.Space()
	out, err = l.host.output("nft", mend)
	l.Command(err == nil, l.host.name, "nft "+mend, screen.LastLine(out), "done")
	l.get(l.query.machine, url(sandbox.OutsideAddr4), l.outside.name, sandbox.HostAddr4)
	_, err = l.host.output("nft", "delete table inet guard")
	return err
}
