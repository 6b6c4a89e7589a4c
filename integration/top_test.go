package integration

import (
	"encoding/json"
	"testing"
	"time"
)

// TestTop asks what containers carry, while one of them sends.
func TestTop(t *testing.T) {
	t.Parallel()
	b := newTraced(t)
	var v struct {
		Networks, Containers []struct {
			Name, Network                string
			ReceivedPackets, SentPackets float64
			ReceivedBytes, SentBytes     float64
			Connections                  int
		}
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = b.all["web"].Ask("192.0.2.2:80")
				time.Sleep(2 * time.Millisecond)
			}
		}
	}()
	defer func() { close(stop); <-ended }()
	must(t, json.Unmarshal([]byte(b.does("top --interval 1s --format json")), &v))
	if len(v.Networks) != 2 || len(v.Containers) != 3 || v.Networks[0].Network != "blue" || v.Networks[1].Network != "red" {
		t.Fatalf("%+v", v)
	}
	web, blue := v.Containers[0], v.Networks[0]
	if web.Name != "web" || web.ReceivedPackets == 0 || web.SentPackets == 0 || web.SentBytes < 40*web.SentPackets || web.Connections == 0 {
		t.Errorf("web: %+v", web)
	}
	if blue.SentPackets < web.SentPackets || blue.Connections < web.Connections {
		t.Errorf("blue: %+v, web on it: %+v", blue, web)
	}
	for _, c := range v.Containers[1:] {
		if c.SentPackets > web.SentPackets/2 {
			t.Errorf("%s sends: %+v", c.Name, c)
		}
	}
	t.Log("\n" + b.does("top --interval 500ms"))
}
