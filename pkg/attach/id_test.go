package attach

import (
	"strings"
	"testing"
)

func TestShortID(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	for container, want := range map[string][2]string{
		id:                    {id, id[:12]},
		"default-" + id:       {id, id[:12]},
		"k8s.io-" + id:        {id, id[:12]},
		"-" + id:              {id, id[:12]},
		"default" + id:        {"default" + id, "default01234"},
		"default-" + id[:32]:  {"default-" + id[:32], "default-0123"},
		"x-" + id[:63] + "g":  {"x-" + id[:63] + "g", "x-0123456789"},
		"cnitool-77383ca0a07": {"cnitool-77383ca0a07", "cnitool-7738"},
		"web":                 {"web", "web"},
		"":                    {"", ""},
	} {
		if got := [2]string{RuntimeID(container), ShortID(container)}; got != want {
			t.Errorf("%s: %q, want %q", container, got, want)
		}
		for _, start := range []string{container, want[0], want[1]} {
			if !IDStarts(container, start) || IDStarts(container, "."+start) {
				t.Errorf("%s: does it start with %q?", container, start)
			}
		}
	}
}
