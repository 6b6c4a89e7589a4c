// Counter is the textbook's second container: a page that counts its visits in a redis
// that it finds by name.
//
//	counter LISTEN REDIS
package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: counter LISTEN REDIS")
		os.Exit(2)
	}
	http.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		hits, err := increase(os.Args[2])
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprintf(w, "I have been seen %s times.\n", hits)
	})
	fmt.Fprintln(os.Stderr, http.ListenAndServe(os.Args[1], nil))
	os.Exit(1)
}

// increase adds one to a key and returns what it is then, in redis's inline protocol.
func increase(address string) (string, error) {
	conn, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprint(conn, "INCR hits\r\n"); err != nil {
		return "", err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "", err
	}
	hits, ok := strings.CutPrefix(strings.TrimSpace(answer), ":")
	if !ok {
		return "", fmt.Errorf("redis answers %q", answer)
	}
	return hits, nil
}
