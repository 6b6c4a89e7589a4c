package ruleset

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// Text is an nftables rule of the calling thread's network namespace as nft shows it, by its
// handle; empty where the program nft is not there, or the rule no more.
func Text(family, table, chain string, handle uint64) string {
	out, err := exec.Command("nft", "-a", "list", "chain", family, table, chain).Output()
	if err != nil {
		return ""
	}
	mark := fmt.Sprintf(" # handle %d", handle)
	for line := range strings.Lines(string(out)) {
		if text, ok := strings.CutSuffix(strings.TrimSpace(line), mark); ok {
			return text
		}
	}
	return ""
}

// LegacyText is a rule of iptables' form from before nftables, by its number in the chain;
// empty where the program is not there, or the rule no more.
func LegacyText(v6 bool, table, chain string, number int) string {
	program := "iptables-legacy"
	if v6 {
		program = "ip6tables-legacy"
	}
	out, err := exec.Command(program, "-w", "-t", table, "-S", chain, strconv.Itoa(number)).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
