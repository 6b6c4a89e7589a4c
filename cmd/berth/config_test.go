package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// read has a file read for the agent, after the command line's flags.
func read(t *testing.T, file string, args ...string) (*settings, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &settings{}
	c := &cobra.Command{}
	s.agentFlags(c.Flags())
	s.configFlag(c.Flags())
	if err := c.ParseFlags(append(args, "--config", path)); err != nil {
		t.Fatal(err)
	}
	err := s.load(c)
	if err != nil {
		t.Log(err)
	}
	return s, err
}

func TestConfig(t *testing.T) {
	s, err := read(t, `
# a comment
store: etcd
etcd-endpoints:
  - https://10.0.0.1:2379
  - https://10.0.0.2:2379
node-name: host-a
resync: 2s
no-probe: true
listen: 127.0.0.1:9999
log-level: debug
`, "--node-name", "host-z", "--log-level=warn")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(s.endpoints, " ") != "https://10.0.0.1:2379 https://10.0.0.2:2379" || s.resync != 2*time.Second || !s.noProbe || s.listen != "127.0.0.1:9999" {
		t.Errorf("%+v", s)
	}
	if s.node != "host-z" || s.logLevel != "warn" {
		t.Errorf("flags do not win: %q, %q", s.node, s.logLevel)
	}
}

func TestConfigErrors(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"unknown", "store: etcd\nnodename: a\n", "agent.yaml:2: nodename: no such key: want one of address-pools, api-server, bin-dir, bridge-netfilter, conf-dir, data-dir,"},
		{"close", "etcd_endpoints: x\n", "agent.yaml:1: etcd_endpoints: no such key: etcd-endpoints?"},
		{"config", "config: x\n", "agent.yaml:1: config: no such key"},
		{"value", "\n\nresync: soon\n", "agent.yaml:3: resync: soon: want a duration of 100ms or more"},
		{"word", "store: consul\n", "agent.yaml:1: store: consul: want etcd, static"},
		{"bool", "no-probe: maybe\n", "agent.yaml:1: no-probe: maybe: want true or false"},
		{"twice", "store: etcd\nstore: static\n", "store"},
		{"none", "node-name:\n", "agent.yaml:1: node-name: has no value"},
		{"map", "node-name: {a: b}\n", "agent.yaml:1: node-name: want a text"},
		{"not a map", "- a\n- b\n", "agent.yaml:1: want 'key: value' lines"},
		{"not yaml", "a: [\n", "agent.yaml: yaml: line"},
		{"together", "listen: 10.0.0.1:9477\n", "agent.yaml:1: listen: 10.0.0.1:9477: want an address of loopback, or --listen-anywhere"},
		{"static", "store: static\n", "--peers-file: \"\": want a file"},
		{"password", "etcd-user: a\netcd-password-file: /nowhere\n", "agent.yaml:2: etcd-password-file: /nowhere: open /nowhere"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := read(t, c.file); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// Everything that is wrong is said at once.
func TestConfigAllErrors(t *testing.T) {
	_, err := read(t, "store: consul\nx: 1\nresync: 0\nno-probe: 7\n")
	if err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("want 4 errors: %v", err)
	}
}

func TestConfigEmpty(t *testing.T) {
	for _, file := range []string{"", "# nothing\n", "---\n", "null\n"} {
		if _, err := read(t, file); err != nil {
			t.Errorf("%q: %v", file, err)
		}
	}
}

func TestConfigPasswordFile(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := read(t, "etcd-user: me\netcd-password-file: "+secret+"\n")
	if err != nil || s.password != "s3cret" {
		t.Errorf("%q, %v", s.password, err)
	}
}

// A command that does not have all flags reads the agent's file, and refuses what
// is wrong in the rest of it, too.
func TestConfigOfOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.yaml")
	for file, want := range map[string]string{"resync: 9s\netcd-prefix: /here/\n": "", "resync: 9\n": "want a duration"} {
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		s := &settings{}
		c := &cobra.Command{}
		s.storeFlags(c.Flags())
		s.configFlag(c.Flags())
		if err := c.ParseFlags([]string{"--config", path}); err != nil {
			t.Fatal(err)
		}
		err := s.load(c)
		if want == "" && (err != nil || s.prefix != "/here/") || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, prefix %s", file, err, s.prefix)
		}
	}
}

func FuzzConfig(f *testing.F) {
	for _, seed := range []string{"store: etcd\n", "etcd-endpoints: [a, b]\n", "a: &x [*x]\n", "? {a: b}\n: c\n", "resync: !!float 5\n", "<<: {a: b}\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		s := &settings{}
		c := &cobra.Command{}
		s.agentFlags(c.Flags())
		_ = s.apply("agent.yaml", data, c.Flags())
	})
}
