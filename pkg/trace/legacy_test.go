package trace

import (
	"errors"
	"testing"

	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/nstest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func TestParseXtRule(t *testing.T) {
	for line, want := range map[string]xtRule{
		"TRACE: filter:FORWARD:rule:2 ":    {"filter", "FORWARD", 2, false},
		"TRACE: mangle:ours:policy:1 ":     {"mangle", "ours", 1, true},
		"TRACE: filter:FORWARD:return:12 ": {"filter", "FORWARD", 12, false},
	} {
		if got, ok := parseXtRule(line); !ok || got != want {
			t.Errorf("%q: %v, %v; want %v", line, got, ok, want)
		}
	}
	for _, line := range []string{"", "TRACE: ", "TRACE: filter:FORWARD:rule:x ", "dropped: filter:FORWARD:rule:1", "TRACE: filter:FORWARD:1 "} {
		if got, ok := parseXtRule(line); ok {
			t.Errorf("%q is taken for %v", line, got)
		}
	}
}

// TestLogRules: the logger of a family is ours as long as it is asked for, and where another
// program has NFLOG's group, nothing is changed.
func TestLogRules(t *testing.T) {
	nstest.Host(t)
	logger := func() string {
		value, err := proc.Read(proc.Net("netfilter", "nf_log", "2"))
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	before := logger()
	if before == "" {
		t.Skip("the kernel has no loggers of packets (NF_LOG_SYSLOG, NETFILTER_NETLINK_LOG)")
	}
	x, err := logRules(nil, unix.NFPROTO_IPV4)
	if err != nil {
		t.Fatal(err)
	}
	if got := logger(); got != logOfThisTrace {
		t.Errorf("the logger is %s, want %s", got, logOfThisTrace)
	}
	x.close()
	if got := logger(); got != before {
		t.Errorf("the logger is %s, and was %s", got, before)
	}
	other, err := logRules(nil, unix.NFPROTO_IPV6)
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	if _, err := logRules(nil, unix.NFPROTO_IPV4); !errors.Is(err, unix.EPERM) {
		t.Errorf("beside another program: %v, want EPERM", err)
	}
	if got := logger(); got != before {
		t.Errorf("the logger is %s, and was %s", got, before)
	}
}
