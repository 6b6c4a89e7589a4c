package page

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/doctor"
	"github.com/berth-cni/berth/pkg/graph"
	"github.com/berth-cni/berth/pkg/nstest"
)

// limit is how long a test waits for what has to come.
const limit = 30 * time.Second

// scene is a server of a host that a test makes up.
type scene struct {
	t     *testing.T
	url   string
	view  *view
	looks atomic.Int32
	stop  context.CancelFunc
	ended chan error

	mu     sync.Mutex
	host   *graph.Graph
	err    error
	report *doctor.Report
}

// house is a host with a network of so many containers.
func house(containers int) *graph.Graph {
	g := &graph.Graph{Nodes: []graph.Node{{ID: graph.HostID, Kind: graph.Host, Title: "house"},
		{ID: "uplink:lo", Kind: graph.Uplink, Title: "lo"}, {ID: graph.NetworkID("blue"), Kind: graph.Network, Title: "blue"}}}
	for i := range containers {
		id := graph.ContainerID(fmt.Sprint("c", i))
		g.Nodes = append(g.Nodes, graph.Node{ID: id, Kind: graph.Container, Title: fmt.Sprint("web-", i)})
		g.Edges = append(g.Edges, graph.Edge{From: graph.NetworkID("blue"), To: id, Way: graph.Veth, Interface: "eth0", Label: fmt.Sprint("near", i)})
	}
	return g
}

func newScene(t *testing.T, host *graph.Graph, settings ...func(*view)) *scene {
	t.Helper()
	s := &scene{t: t, host: host, report: &doctor.Report{}, ended: make(chan error, 1)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + l.Addr().String()
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	s.view = newView(ctx, Config{Look: s.look, Diagnose: s.diagnose, Records: filepath.Join(t.TempDir(), "records"), Most: 3,
		Warn: func(err error) { t.Log(err) }})
	for _, set := range settings {
		set(s.view)
	}
	go func() { s.ended <- s.view.serve(l) }()
	t.Cleanup(s.end)
	return s
}

// end ends the server, and looks how it ended.
func (s *scene) end() {
	s.t.Helper()
	s.stop()
	select {
	case err := <-s.ended:
		if err != nil {
			s.t.Errorf("ended: %v", err)
		}
		s.ended <- nil
	case <-time.After(limit):
		s.t.Fatal("does not end")
	}
}

func (s *scene) look(context.Context) (*graph.Graph, error) {
	s.looks.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.host, s.err
}

func (s *scene) diagnose(context.Context) *doctor.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.report
}

// becomes changes the host, and has the kernel tell of something.
func (s *scene) becomes(change func()) {
	s.t.Helper()
	s.mu.Lock()
	change()
	s.mu.Unlock()
	for _, do := range []string{"add", "del"} {
		if err := nstest.Run("ip", "link", do, "stir0", "type", "bridge"); err != nil {
			s.t.Fatal(err)
		}
	}
}

// page is one that is open.
type page struct {
	t      *testing.T
	cancel context.CancelFunc
	lines  *bufio.Reader
}

func (s *scene) open(query string) *page {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/events"+query, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != "text/event-stream" {
		s.t.Fatalf("%s, %v", answer.Status, answer.Header)
	}
	s.t.Cleanup(func() { cancel(); answer.Body.Close() })
	return &page{s.t, cancel, bufio.NewReader(answer.Body)}
}

// next waits for an event of a kind that is as it should be.
func (p *page) next(kind string, into any, good func() bool) {
	p.t.Helper()
	for last := ""; ; {
		line, err := p.lines.ReadString('\n')
		if err != nil {
			p.t.Fatalf("no %s: %v; the last one was %s", kind, err, last)
		}
		if strings.TrimSpace(line) != "event: "+kind {
			continue
		}
		data, err := p.lines.ReadString('\n')
		last = strings.TrimPrefix(data, "data: ")
		if err != nil || json.Unmarshal([]byte(last), into) != nil {
			p.t.Fatalf("%v: %q", err, data)
		}
		if good() {
			return
		}
	}
}

// What changes is sent: the picture, what the doctor finds in it, and why nothing is seen.
func TestStream(t *testing.T) {
	s := newScene(t, house(2))
	s.report = &doctor.Report{Checks: []doctor.Finding{{Check: "all is well", OK: true}, {Check: "blue works", Problems: []doctor.Problem{
		{What: "network blue: <b>is no good</b>", Why: "why", Mend: "mend", Networks: []string{"blue"}, Containers: []string{"c1", "none"}}, {What: "it is no host"}}},
		{Check: "the store", Error: "away"}}}
	p := s.open("")
	var pic picture
	p.next("picture", &pic, func() bool { return strings.Contains(pic.SVG, "web-1") })
	if pic.Host != "house" || len(pic.Networks) != 1 || pic.Networks[0] != (network{ID: "network:blue", Title: "blue", Containers: 2}) {
		t.Errorf("%+v", pic)
	}
	p.next("picture", &pic, func() bool {
		return strings.Contains(pic.SVG, "! &lt;b&gt;is no good") && strings.Contains(pic.SVG, "! it is no host")
	})
	if n := strings.Count(pic.SVG, "is no good"); n != 2 || !pic.Networks[0].Bad {
		t.Errorf("is said %d times: %+v", n, pic)
	}
	var found []finding
	p.next("findings", &found, func() bool { return true })
	if len(found) != 3 || fmt.Sprint(found[0].At) != "[network:blue container:c1]" || fmt.Sprint(found[1].At) != "[host]" || found[2].Error != "away" {
		t.Errorf("%+v", found)
	}
	s.becomes(func() { s.host = house(3) })
	p.next("picture", &pic, func() bool { return strings.Contains(pic.SVG, "web-2") })
	var why string
	s.becomes(func() { s.err = errors.New("cannot see") })
	p.next("trouble", &why, func() bool { return why == "cannot see" })
	s.becomes(func() { s.err = nil })
	p.next("trouble", &why, func() bool { return why == "" })
}

// A page chooses which networks it wants whole.
func TestOpen(t *testing.T) {
	s := newScene(t, house(5))
	for query, want := range map[string]string{"": "and 2 more", "?open=network:blue": "show only 3", "?open=network:none": "and 2 more"} {
		var pic picture
		s.open(query).next("picture", &pic, func() bool { return true })
		if !strings.Contains(pic.SVG, want) || strings.Contains(pic.SVG, "web-4") != strings.HasPrefix(want, "show") {
			t.Errorf("%q: no %q in %s", query, want, pic.SVG)
		}
	}
}

// Rates are those of the other end of the pair, and their network's; what has ended is null.
func TestRates(t *testing.T) {
	for _, cmd := range []string{"link add near0 type veth peer name near1", "link set near0 up", "link set near1 up",
		"address add 10.9.0.1/24 dev near1", "neighbour add 10.9.0.2 lladdr 02:00:00:00:00:02 dev near1"} {
		if err := nstest.Run("ip", strings.Fields(cmd)...); err != nil {
			t.Fatal(err)
		}
	}
	defer func() { _ = nstest.Run("ip", "link", "del", "near0") }()
	s := newScene(t, house(2))
	p := s.open("")
	stop := make(chan struct{})
	var sending sync.WaitGroup
	sending.Go(func() { // from near1, which so is near0's container
		conn, err := net.Dial("udp", "10.9.0.2:9")
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				_, _ = conn.Write(make([]byte, 1000))
			}
		}
	})
	some := map[string]*[3]string{}
	p.next("rates", &some, func() bool {
		r, net := some["near0"], some["network:blue"]
		return r != nil && net != nil && strings.HasPrefix(r[0], "↓0 B/s ↑") && strings.Contains(r[0], " kB/s") && strings.HasSuffix(r[1], " packets/s") && strings.HasPrefix(net[0], "↓")
	})
	close(stop)
	sending.Wait()
	p.next("rates", &some, func() bool { r, there := some["near0"]; return there && r == nil })
}

// Nobody looks at the host while no page is open.
func TestIdle(t *testing.T) {
	s := newScene(t, house(1))
	if n := s.looks.Load(); n != 0 {
		t.Fatalf("looked %d times before a page was open", n)
	}
	p := s.open("")
	var pic picture
	p.next("picture", &pic, func() bool { return true })
	p.cancel()
	for end := time.Now().Add(limit); ; { // the server learns of it
		before := s.looks.Load()
		s.becomes(func() {})
		time.Sleep(300 * time.Millisecond)
		if s.looks.Load() == before {
			break
		}
		if time.Now().After(end) {
			t.Fatal("goes on to look")
		}
	}
	s.mu.Lock()
	s.host = house(2)
	s.mu.Unlock()
	s.open("").next("picture", &pic, func() bool { return true })
	if !strings.Contains(pic.SVG, "web-1") {
		t.Error("a page that comes later is shown what has been")
	}
}

// The picture in words has all containers.
func TestTree(t *testing.T) {
	s := newScene(t, house(5))
	var pic picture
	s.open("").next("picture", &pic, func() bool { return true })
	answer, err := http.Get(s.url + "/tree")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || !strings.Contains(string(text), "web-4") || answer.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("%v: %s", err, text)
	}
}
