package firewall

import (
	"context"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
)

// TestRebuildRace has others come and go while everything is made anew.
func TestRebuildRace(t *testing.T) {
	for _, backend := range []string{NFTables, IPTables} {
		t.Run(backend, func(t *testing.T) {
			nstest.Host(t)
			r := &Rules{Backend: backend, Bridge: "br1", Masquerade: true}
			stays, gone, deleting, late := benchAttachment(1, r), benchAttachment(2, r), benchAttachment(3, r), benchAttachment(4, r)
			add := func(a *attach.Attachment) {
				t.Helper()
				if err := r.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
					t.Fatal(err)
				}
			}
			for _, a := range []*attach.Attachment{stays, gone, deleting} {
				add(a)
			}
			lists := 0
			err := Rebuild(t.Context(), func(context.Context) ([]*attach.Attachment, error) {
				switch lists++; lists {
				case 1: // which backends there are
				case 2:
					add(late) // goes with the table, or the chains, that are made anew
					if backend == IPTables {
						return []*attach.Attachment{stays, gone, deleting, late}, nil
					}
				default:
					deleting.Deleting = true
					return []*attach.Attachment{stays, deleting, late}, nil
				}
				return []*attach.Attachment{stays, gone, deleting}, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range []*attach.Attachment{stays, late} {
				if err := r.Check(t.Context(), a); err != nil {
					t.Error(err)
				}
			}
			if left := linesWith(t, gone.Hash(), deleting.Hash()); left != "" {
				t.Errorf("is back:\n%s", left)
			}
		})
	}
}

// TestRebuildStrangers: what has no record goes, also when there is none at all; what
// the agent has for tunnels stays.
func TestRebuildStrangers(t *testing.T) {
	nstest.Host(t)
	none := func(context.Context) ([]*attach.Attachment, error) { return nil, nil }
	if err := Rebuild(t.Context(), none); err != nil || tableThere() {
		t.Fatalf("%v, or a table nobody needs", err)
	}
	if err := SyncTunnels(t.Context(), NFTables, []Tunnel{tunnel(42, "192.0.2.1", "2001:db8::1")}, nil); err != nil {
		t.Fatal(err)
	}
	r := &Rules{Backend: NFTables, Bridge: "br1", Masquerade: true}
	stranger := benchAttachment(1, r)
	if err := r.Add(t.Context(), &attach.Adding{Attachment: stranger}); err != nil {
		t.Fatal(err)
	}
	if err := Rebuild(t.Context(), none); err != nil {
		t.Fatal(err)
	}
	if left := linesWith(t, stranger.Hash()); left != "" {
		t.Errorf("left:\n%s", left)
	}
	for set, peer := range map[string]string{vteps4: "192.0.2.1", vteps6: "2001:db8::1", overlays: "4789"} {
		if got := run(t, "nft list set inet berth "+set); !strings.Contains(got, peer) {
			t.Errorf("%s lost %s:\n%s", set, peer, got)
		}
	}
}
