package page

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// ask asks the server, under a name and with headers ("Key: value").
func (s *scene) ask(method, path, host string, headers ...string) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequest(method, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Host = host
	for _, h := range headers {
		key, value, _ := strings.Cut(h, ": ")
		r.Header.Set(key, value)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer, string(body)
}

// A page of somebody else gets nothing, whatever it calls this server.
func TestGuard(t *testing.T) {
	s := newScene(t, house(1))
	for _, c := range []struct {
		method, path, host string
		headers            string
		want               int
	}{
		{"GET", "/", "127.0.0.1:1234", "", 200},
		{"HEAD", "/", "127.0.0.1", "", 200},
		{"GET", "/tree", "localhost:9000", "", 200},
		{"GET", "/tree", "LocalHost", "", 200},
		{"GET", "/tree", "[::1]:9000", "", 200},
		{"GET", "/tree", "[::1]", "", 200},
		{"GET", "/tree", "192.0.2.7:80", "", 200}, // by --serve-anywhere
		{"GET", "/", "evil.example", "", 421},
		{"GET", "/events", "evil.example:9000", "", 421},
		{"GET", "/tree", "localhost.evil.example", "", 421},
		{"GET", "/tree", "127.0.0.1.evil.example", "", 421},
		{"GET", "/tree", "", "", 200}, // the client puts the address there
		{"GET", "/tree", "127.0.0.1:9000", "Origin: http://127.0.0.1:9000", 200},
		{"GET", "/tree", "127.0.0.1:9000", "Origin: http://127.0.0.1:9001", 403},
		{"GET", "/events", "127.0.0.1:9000", "Origin: https://evil.example", 403},
		{"GET", "/events", "127.0.0.1:9000", "Origin: null", 403},
		{"GET", "/events", "127.0.0.1:9000", "Sec-Fetch-Site: cross-site", 403},
		{"GET", "/tree", "127.0.0.1:9000", "Sec-Fetch-Site: same-site", 403},
		{"GET", "/tree", "127.0.0.1:9000", "Sec-Fetch-Site: same-origin", 200},
		{"GET", "/tree", "127.0.0.1:9000", "Sec-Fetch-Site: none", 200},
		{"GET", "/", "127.0.0.1:9000", "Sec-Fetch-Site: cross-site", 200}, // a link
		{"POST", "/", "127.0.0.1:9000", "", 405},
		{"DELETE", "/events", "127.0.0.1:9000", "", 405},
		{"GET", "/../etc/passwd", "127.0.0.1:9000", "", 404},
		{"GET", "/page.html", "127.0.0.1:9000", "", 404},
		{"GET", "/events?" + strings.Repeat("open=a&open=b&", 200), "127.0.0.1:9000", "", 400},
	} {
		var headers []string
		if c.headers != "" {
			headers = append(headers, c.headers)
		}
		answer, body := s.ask(c.method, c.path, c.host, headers...)
		if answer.StatusCode != c.want {
			t.Errorf("%s %.40s of %q, %s: %s %q, want %d", c.method, c.path, c.host, c.headers, answer.Status, body, c.want)
		}
		if !strings.Contains(answer.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: no policy", c.path)
		}
	}
}

// The policy lets the page's own script and style pass, and no other: they are in one element
// each, and nothing in the page is a handler or a style beside them.
func TestPolicy(t *testing.T) {
	s := newScene(t, house(1))
	answer, body := s.ask("GET", "/", "localhost")
	policy := answer.Header.Get("Content-Security-Policy")
	for _, tag := range []string{"script", "style"} {
		if n := strings.Count(body, "<"+tag); n != 1 {
			t.Fatalf("%d elements %s", n, tag)
		}
		_, rest, _ := strings.Cut(body, "<"+tag+">")
		inside, _, _ := strings.Cut(rest, "</"+tag+">")
		sum := sha256.Sum256([]byte(inside))
		if want := tag + "-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(policy, want) {
			t.Errorf("no %s in %s", want, policy)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
		t.Error(policy)
	}
	for _, bad := range []string{" style=", " onclick=", " onload=", "https://", "src=", "@import", "innerHTML", "eval("} {
		if strings.Contains(body, bad) {
			t.Errorf("%s in the page", bad)
		}
	}
	if !strings.Contains(body, ".wire0 {") || bytes.Contains(source, []byte(".wire0 {")) {
		t.Error("the page has not the style of pictures, or has one of its own for them")
	}
}

// So many pages can be open, and no more; one that is closed makes room.
func TestMaxStreams(t *testing.T) {
	s := newScene(t, house(1))
	var first *page
	for range maxStreams {
		p := s.open("")
		if first == nil {
			first = p
		}
	}
	if answer, body := s.ask("GET", "/events", "localhost"); answer.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "16 pages") {
		t.Errorf("%s %s", answer.Status, body)
	}
	first.cancel()
	for end := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		r, err := http.NewRequest("GET", s.url+"/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			return
		}
		if time.Now().After(end) {
			t.Fatal("no room after a page was closed")
		}
	}
}

// Who begins a request and does not end it is let go of.
func TestSlowRequest(t *testing.T) {
	s := newScene(t, house(1), func(v *view) { v.timeout = 100 * time.Millisecond })
	for _, begun := range []string{"", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, begun); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(limit))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q: is waited for", begun)
		}
		conn.Close()
	}
}

// Who does not read is let go of, and costs the others nothing.
func TestSlowReader(t *testing.T) {
	s := newScene(t, house(400), func(v *view) { v.timeout = 2 * time.Second })
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /events?open=network:blue HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	await := func(streams int) bool {
		t.Helper()
		for end := time.Now().Add(limit); len(s.view.streams) != streams; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				return false
			}
		}
		return true
	}
	if !await(1) {
		t.Fatal("no stream")
	}
	p := s.open("")
	var pic picture
	for i := 0; len(s.view.streams) > 1; i++ { // until nothing fits in between any more
		s.becomes(func() { s.host = house(401 + i%2) })
		p.next("picture", &pic, func() bool { return pic.Networks[0].Containers == 401+i%2 })
	}
	p.cancel()
	if !await(0) {
		t.Error("the other one is there still")
	}
}
