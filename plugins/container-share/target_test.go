package main

import (
	"slices"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
)

func TestMatching(t *testing.T) {
	record := func(container, namespace, name string, role attach.Role) *attach.Attachment {
		return &attach.Attachment{Key: attach.Key{Container: container, IfName: "eth0", Role: role},
			Args: map[string]string{"K8S_POD_NAMESPACE": namespace, "K8S_POD_NAME": name}}
	}
	all := []*attach.Attachment{
		record("abc", "default", "web", attach.Main), record("abc", "default", "web", attach.Chained),
		record("abcd", "default", "db", attach.Main), record("abd", "other", "web", attach.Main),
		record("web", "", "", attach.IPAM), record("db", "", "abd", attach.Main),
	}
	for word, want := range map[string][]string{
		"abc":         {"abc"},                // an ID goes before those that it is the start of
		"ab":          {"abc", "abcd", "abd"}, // ambiguous
		"abcd":        {"abcd"},
		"web":         {"abc", "abd"}, // two pods of that name; the IPAM's record is no container
		"other/web":   {"abd"},
		"default/web": {"abc"},
		"db":          {"db"},  // an ID goes before a name
		"abd":         {"abd"}, // here, too
		"nobody":      nil,
		"/web":        nil,
	} {
		if got := matching(all, word); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", word, got, want)
		}
	}
}
