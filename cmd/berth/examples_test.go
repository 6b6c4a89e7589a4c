package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const examples = "../../conf-examples/agent/"

func sample(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(examples + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The example has every flag that belongs into a file, and says its default.
func TestExampleConfig(t *testing.T) {
	t.Setenv("BERTH_STATE_DIR", "")
	t.Setenv("BERTH_DATA_DIR", "")
	t.Setenv("CNI_PATH", "")
	t.Setenv("NETCONFPATH", "")
	file := sample(t, "agent.yaml")
	if _, err := read(t, file); err != nil {
		t.Error(err)
	}
	pairs := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^(#?)([a-z-]+):(.*)$`).FindAllStringSubmatch(file, -1) {
		pairs[m[2]] = m[1] + strings.TrimSpace(m[3])
	}
	flags := (&cobra.Command{}).Flags()
	(&settings{}).agentFlags(flags)
	(&settings{}).netFlags(flags)
	(&settings{}).poolFlag(flags)
	flags.VisitAll(func(f *pflag.Flag) {
		text, ok := pairs[f.Name]
		delete(pairs, f.Name)
		switch commented := strings.HasPrefix(text, "#"); {
		case f.Name == "etcd-password" || f.Name == "peers-file" || f.Name == "on-demand": // bad practice; the other store's; a plugin's business
		case !ok:
			t.Errorf("%s is missing", f.Name)
		case commented && f.DefValue != "" && text[1:] != f.DefValue:
			t.Errorf("%s: the default is %s, not %s", f.Name, f.DefValue, text[1:])
		case commented:
			if err := f.Value.Set(text[1:]); err != nil {
				t.Errorf("%s: %s: %v", f.Name, text, err)
			}
		}
	})
	if len(pairs) > 0 {
		t.Errorf("there are no such flags: %v", pairs)
	}
}

func TestExampleService(t *testing.T) {
	unit := map[string][]string{}
	section := ""
	for line := range strings.Lines(sample(t, "berth-agent.service")) {
		line = strings.TrimSpace(line)
		key, value, isPair := strings.Cut(line, "=")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "["):
			section = line
		case isPair:
			unit[section+key] = append(unit[section+key], value)
		default:
			t.Errorf("%q is no setting", line)
		}
	}
	for key, want := range map[string]string{"[Service]Type": "notify", "[Service]Restart": "always", "[Service]KillMode": "process",
		"[Service]RuntimeDirectory": "", "[Service]StateDirectory": "berth"} {
		if got := strings.Join(unit[key], " "); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	args := strings.Fields(strings.Join(unit["[Service]ExecStart"], " "))
	if len(args) < 2 || !strings.HasSuffix(args[0], "/berth") || args[1] != "agent" {
		t.Fatalf("ExecStart: %q", args)
	}
	flags := (&cobra.Command{}).Flags()
	(&settings{}).agentFlags(flags)
	if err := flags.Parse(args[2:]); err != nil {
		t.Error(err)
	}
}

func TestExamplePeers(t *testing.T) {
	s, err := openStore(&settings{store: storeStatic, peersFile: examples + "peers.yaml"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	state, err := s.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(state.Networks) != 2 || len(state.Nodes) != 2 || len(state.Bad) != 0 || len(state.Conflicts()) != 0 || len(state.BlocksOf("blue", "host-b")) != 2 {
		t.Errorf("%+v", state)
	}
}
