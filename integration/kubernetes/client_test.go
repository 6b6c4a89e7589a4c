package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

func connect(t testing.TB, s *APIServer, name, token string) *client.Client {
	t.Helper()
	config, err := s.Kubeconfig(name, token)
	must(t, err)
	c, err := client.Open(client.Options{Kubeconfig: config})
	must(t, err)
	t.Cleanup(c.Close)
	return c
}

type configMap struct {
	client.Object
	Data map[string]string `json:"data"`
}

// TestClient: what the API server says to each request, and to a program that follows.
func TestClient(t *testing.T) {
	s, err := StartAPIServer(cluster.Here{}, Options{Port: 6543, Users: []User{{Token: "guest-token", Name: "guest"}}})
	must(t, err)
	t.Cleanup(s.Close)
	c, ctx := connect(t, s, "admin", s.Token), t.Context()
	t.Run("requests", func(t *testing.T) { requests(t, c, connect(t, s, "guest", "guest-token")) })
	t.Run("follow", func(t *testing.T) { follow(t, c, s) })
	must(t, s.Define(Group))
	t.Run("definitions", func(t *testing.T) { definitions(t, s, c) })
	s.Kill()
	err = c.Get(ctx, "/readyz", nil)
	if err == nil || !strings.Contains(err.Error(), "cannot be reached") && !strings.Contains(err.Error(), "connection is lost") {
		t.Errorf("the server is away: %v", err)
	}
}

func requests(t *testing.T, c, guest *client.Client) {
	ctx, maps := t.Context(), client.ConfigMaps.In("default")
	m := configMap{client.Object{APIVersion: "v1", Kind: "ConfigMap", Metadata: client.Meta{Name: "a"}}, map[string]string{"k": "1"}}
	must(t, c.Create(ctx, maps.Path(), m, &m))
	if m.Metadata.UID == "" || m.Metadata.Version == "" || m.Metadata.Created == nil {
		t.Errorf("what the server made of it: %+v", m.Metadata)
	}
	if err := c.Create(ctx, maps.Path(), configMap{Object: client.Object{APIVersion: "v1", Kind: "ConfigMap", Metadata: client.Meta{Name: "a"}}}, nil); !client.IsExists(err) {
		t.Errorf("created twice: %v", err)
	}
	old := m
	m.Data = map[string]string{"k": "2"}
	must(t, c.Replace(ctx, maps.Path("a"), m, &m))
	if err := c.Replace(ctx, maps.Path("a"), old, nil); !client.IsConflict(err) {
		t.Errorf("replaced what has changed: %v", err)
	}
	m.Data = nil
	must(t, c.Patch(ctx, maps.Path("a"), client.Merge, map[string]any{"data": map[string]any{"k": nil, "l": "3"}}, &m))
	if fmt.Sprint(m.Data) != "map[l:3]" || !client.Later(m.Metadata.Version, old.Metadata.Version) {
		t.Errorf("after the patch: %v, version %s, was %s", m.Data, m.Metadata.Version, old.Metadata.Version)
	}
	if err := c.Delete(ctx, maps.Path("a"), "another", ""); !client.IsConflict(err) {
		t.Errorf("deleted another one: %v", err)
	}
	must(t, c.Delete(ctx, maps.Path("a"), m.Metadata.UID, ""))
	if err := c.Get(ctx, maps.Path("a"), &m); !client.IsNotFound(err) {
		t.Errorf("after its end: %v", err)
	}
	err := guest.Get(ctx, client.Nodes.Path(), nil)
	if !client.IsForbidden(err) || !strings.Contains(err.Error(), `cannot list resource "nodes"`) {
		t.Errorf("a guest: %v", err)
	}
	if err := c.Get(ctx, "/apis/none.example/v1/things", nil); !client.IsNotFound(err) || !strings.Contains(err.Error(), "no such resource") {
		t.Errorf("no such resource: %v", err)
	}
	if d := time.Since(c.Now()).Abs(); d > 5*time.Second {
		t.Errorf("the server's clock is %s off, on this machine", d)
	}
}

// follow has more objects than one page, by both ways, and what happens to them.
func follow(t *testing.T, c *client.Client, s *APIServer) {
	const many = 501
	maps := client.ConfigMaps.In("default")
	at := ""
	named := func(name string) configMap {
		return configMap{Object: client.Object{APIVersion: "v1", Kind: "ConfigMap", Metadata: client.Meta{Name: name, Labels: map[string]string{"of": "test"}}}}
	}
	for i := range many {
		must(t, c.Create(t.Context(), maps.Path(), named(fmt.Sprint("m", i)), nil))
	}
	end := errors.New("enough")
	for _, way := range []string{"watch", "list", "go on"} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		first, told := 0, ""
		h := client.Handler{
			Item:   func(json.RawMessage) error { first++; return nil },
			Synced: func(version string) error { at = version; return nil },
			Started: func() error {
				m := named("late")
				if err := c.Create(ctx, maps.Path(), m, nil); err != nil {
					return err
				}
				if err := c.Patch(ctx, maps.Path("late"), client.Merge, map[string]any{"data": map[string]string{"k": "v"}}, nil); err != nil {
					return err
				}
				return c.Delete(ctx, maps.Path("late"), "", "")
			},
			Event: func(kind string, o json.RawMessage) error {
				if told += kind + " "; kind == client.Deleted {
					return end
				}
				return nil
			},
			Bookmark: func(string) error { return nil },
		}
		from := ""
		if way == "go on" {
			from = at
		}
		if err := c.Follow(ctx, maps, client.Selection{Labels: "of=test"}, from, h); !errors.Is(err, end) {
			t.Errorf("%s: %v", way, err)
		}
		if want := "ADDED MODIFIED DELETED "; told != want && way != "go on" || way == "go on" && first != 0 || way != "go on" && first != many {
			t.Errorf("%s: %d objects at first, then %q; want %d, %q", way, first, told, many, want)
		}
		if way == "watch" {
			c = connect(t, s, "lists", s.Token)
			c.ListsOnly()
		}
	}
}
