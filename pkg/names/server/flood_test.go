package server

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/miekg/dns"
)

// childEnv has the test binary be a client, and end: "flood ADDRESS", "ask ADDRESS".
// In a process of its own it measures the server, and not itself.
const (
	childEnv     = "BERTH_NAMES_TEST_CHILD"
	floodQueries = 50_000
	askTime      = time.Second
)

func child(what, server string) error {
	conn, err := net.Dial("udp", server)
	if err != nil {
		return err
	}
	defer conn.Close()
	if what == "ask" {
		return keepAsking(conn)
	}
	return flood(conn)
}

// flood asks for as many names of the outside, as fast as it can.
func flood(conn net.Conn) error {
	for i := range floodQueries {
		raw, err := question(fmt.Sprintf("n%d.test", i), dns.TypeA).Pack()
		if err == nil {
			_, err = conn.Write(raw)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// keepAsking asks for a container's name for some time, a thousand times a second, and
// prints how long the answers took.
func keepAsking(conn net.Conn) error {
	var took []time.Duration
	for end := time.Now().Add(askTime); time.Now().Before(end); time.Sleep(time.Millisecond) {
		began := time.Now()
		r, err := exchange(conn, question("me", dns.TypeA))
		if err == nil && text(r) != "NOERROR 10.6.0.2" {
			err = errors.New(text(r))
		}
		if err != nil {
			return err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	n := len(took)
	_, err := fmt.Println(n, took[n/2], took[n*95/100], took[n*99/100], took[n-1])
	return err
}

// client runs a child in the container.
func (b box) client(what, server string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	return nstest.Output("env", childEnv+"="+what+" "+server, "ip", "netns", "exec", filepath.Base(b.path), self)
}

// TestFlood: whatever the upstream does with 50,000 queries, containers' names are
// answered, in a millisecond or less where the machine is free. The test is one of three
// busy processes on a machine that may have others, so it asks for less: half of the
// answers within 100 ms, where one that waited for the forwarder would take seconds.
func TestFlood(t *testing.T) {
	const most = 100 * time.Millisecond
	for _, how := range []manner{dead, slow, lying} {
		t.Run(string(how), func(t *testing.T) {
			a := newAsking(t, newResolver(t, how))
			asker := container(t, a.br, "10.6.0.3/24")
			put(t, a.Server, entry("net", "asker", "eth0", a.br, "asker", "10.6.0.3/24"))
			a.ask(t, "10.6.0.1", "me", dns.TypeA) // each other's MACs: a lost ARP request is repeated after a second
			asker.ask(t, "10.6.0.1", "me", dns.TypeA)
			done := make(chan error, 1)
			go func() {
				_, err := a.client("flood", gateway("10.6.0.1"))
				done <- err
			}()
			out, err := asker.client("ask", gateway("10.6.0.1"))
			if err := errors.Join(err, <-done); err != nil {
				t.Fatal(err)
			}
			var n int
			var words [4]string
			if _, err := fmt.Sscan(out, &n, &words[0], &words[1], &words[2], &words[3]); err != nil {
				t.Fatalf("%q: %v", out, err)
			}
			t.Logf("%d names were answered, in %s (median), %s (95 of 100), %s (99), %s (the last)", n, words[0], words[1], words[2], words[3])
			if late, err := time.ParseDuration(words[0]); err != nil || late > most {
				t.Errorf("more than half took longer than %s", most)
			}
		})
	}
}
