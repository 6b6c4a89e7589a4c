package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The page is served until the program is told to end.
func TestGraphServe(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	out, in := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, &program{out: in, err: io.Discard, now: time.Now}, "graph", "--serve", "127.0.0.1:0", "--state-dir", t.TempDir(), "--data-dir", t.TempDir())
	}()
	line := make([]byte, 100)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	url := strings.TrimSpace(string(line[:n]))
	answer, err := http.Get(url)
	if err != nil || answer.StatusCode != http.StatusOK || !strings.HasPrefix(url, "http://127.0.0.1:") || strings.HasSuffix(url, ":0/") {
		t.Fatalf("%q: %v, %v", url, answer, err)
	}
	answer.Body.Close()
	stop()
	if got := <-code; got != exitDone {
		t.Errorf("exit code %d", got)
	}
}

func TestGraphServeRefused(t *testing.T) {
	for _, c := range []struct{ flags, want string }{
		{"--serve 192.0.2.1:8080", "--serve: 192.0.2.1:8080: want an address of loopback, or --serve-anywhere"},
		{"--serve 0.0.0.0:8080", "want an address of loopback"},
		{"--serve [::]:8080", "want an address of loopback"},
		{"--serve 127.0.0.1", "want an IP address and a port"},
		{"--serve localhost:8080", "want an IP address and a port"},
		{"--serve 127.0.0.1:0 --ascii", "--serve with --ascii: want one of the two"},
		{"--serve 127.0.0.1:0 --svg x.svg", "--serve with --svg: want one of the two"},
		{"--serve 127.0.0.1:0 --format json", "--serve with --format: want one of the two"},
		{"--serve-anywhere", "--serve-anywhere without --serve"},
	} {
		if code, _, errs := berth(t, nil, append([]string{"graph"}, strings.Fields(c.flags)...)...); code != exitUsage || !strings.Contains(errs, c.want) {
			t.Errorf("%s: %d, %s", c.flags, code, errs)
		}
	}
}

func TestOnce(t *testing.T) {
	var said []string
	warn := once(func(err error) { said = append(said, err.Error()) })
	for _, text := range []string{"a", "b", "a", "a", "b"} {
		warn(errors.New(text))
	}
	if fmt.Sprint(said) != "[a b]" {
		t.Error(said)
	}
}
