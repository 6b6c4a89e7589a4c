package agent

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestAsk(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(Status{Node: "host-a"})
	})}
	go server.Serve(l)
	s, err := Ask(t.Context(), l.Addr().String())
	if err != nil || s.Node != "host-a" {
		t.Errorf("%+v, %v", s, err)
	}
	server.Close()
	if _, err := Ask(t.Context(), l.Addr().String()); err == nil {
		t.Error("an agent that has ended answers")
	}
	l, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	other := &http.Server{Handler: http.NotFoundHandler()}
	go other.Serve(l)
	defer other.Close()
	if _, err := Ask(t.Context(), l.Addr().String()); err == nil || !strings.Contains(err.Error(), "is it another program?") {
		t.Error(err)
	}
}

func TestReachable(t *testing.T) {
	for listen, want := range map[string]string{"127.0.0.1:9477": "127.0.0.1:9477", "0.0.0.0:1": "127.0.0.1:1", "[::]:1": "[::1]:1", "192.0.2.1:1": "192.0.2.1:1"} {
		if got := reachable(listen); got != want {
			t.Errorf("%s: %s, want %s", listen, got, want)
		}
	}
}
