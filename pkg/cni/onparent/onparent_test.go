package onparent

import (
	"strings"
	"testing"
)

func TestSubinterfaceName(t *testing.T) {
	for name, want := range map[string]string{"eth0.10": "eth0 10", "br.x.4094": "br.x 4094", "eth0": "", "eth0.0": "",
		"eth0.4095": "", "eth0.": "", ".7": "", "eth0.07": "", "eth0.+7": ""} {
		got := ""
		if s := subinterface(name); s != nil {
			got = strings.Replace(s.Name(), s.Parent+".", s.Parent+" ", 1)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
