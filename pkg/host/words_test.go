package host

import (
	"slices"
	"testing"
)

func TestNatural(t *testing.T) {
	want := []string{"", "10", "a", "web", "web-1", "web-01", "web-2", "web-2a", "web-10", "web-10-2", "web-10-11", "web-x", "web2", "webx"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, Natural)
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for _, a := range want {
		for _, b := range want {
			if Natural(a, b) != -Natural(b, a) || (Natural(a, b) == 0) != (a == b) {
				t.Errorf("%q and %q: %d, the other way %d", a, b, Natural(a, b), Natural(b, a))
			}
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[float64]string{0: "0 B", 999.4: "999 B", 999.96: "1.0 kB", 1234: "1.2 kB", 56.78e6: "56.8 MB", 1.25e12: "1250.0 GB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%v: %q, want %q", n, got, want)
		}
	}
}
