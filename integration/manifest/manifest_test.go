package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

const chart = "../../deploy/chart"

// TestManifest: the committed manifests are the chart's.
func TestManifest(t *testing.T) {
	for _, m := range manifests {
		want, err := m.render(chart)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile("../../deploy/" + m.name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("deploy/%s is not what 'make manifest' makes of deploy/chart", m.name)
		}
	}
}

// TestValues: what a person sets arrives, and no object is there twice.
func TestValues(t *testing.T) {
	text, err := render(chart, map[string]any{
		"apiServer": "https://192.0.2.1:6443", "image": map[string]any{"repository": "example.org/berth", "tag": "v9"},
		"agent": map[string]any{"underlay": "eth1", "log-format": "text"}, "network": map[string]any{"name": "green", "subnets": []any{"10.9.0.0/16", "fd00:9::/48"}},
		"cni": map[string]any{"binDir": "/var/lib/cni/bin"},
	}, "")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := split("all.yaml", string(text))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, d := range docs {
		if id := d.kind + " " + d.name; seen[id] {
			t.Errorf("%s is there twice", id)
		} else {
			seen[id] = true
		}
	}
	for _, part := range []string{
		"api-server: https://192.0.2.1:6443", "--api-server=https://192.0.2.1:6443", "image: example.org/berth:v9", "underlay: eth1", "log-format: text",
		"default-network: green", "--subnet=fd00:9::/48", "path: /var/lib/cni/bin",
	} {
		if !strings.Contains(string(text), part) {
			t.Errorf("there is no %q", part)
		}
	}
	if seen["Namespace berth-system"] || !seen["DaemonSet berth"] || !strings.Contains(string(text), "name: berth-network-") {
		t.Errorf("there are %v", seen)
	}
}

// TestNetworkPolicies: they are deployed for who asks for them and says which image.
func TestNetworkPolicies(t *testing.T) {
	for _, test := range []struct {
		values map[string]any
		there  bool
		err    string
	}{
		{map[string]any{}, false, ""},
		{map[string]any{"enabled": true}, false, "networkPolicies.image: want"},
		{map[string]any{"enabled": true, "image": "example.org/netpol:v1"}, true, ""},
	} {
		text, err := render(chart, map[string]any{"networkPolicies": test.values}, "")
		if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%v: error %v, want %q", test.values, err, test.err)
		}
		if there := strings.Contains(string(text), "image: example.org/netpol:v1"); there != test.there {
			t.Errorf("%v: there %t, want %t", test.values, there, test.there)
		}
	}
}
