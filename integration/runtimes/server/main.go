// Command server is what the tests' containers run, and what asks them. It is
// static, and alone in its image.
//
//	server pause                 waits for a signal
//	server serve NAME PORT       answers every TCP connection and UDP datagram with
//	                             "NAME ADDRESS", the address being the asker's
//	server ask tcp|udp ADDRESS [FROM]  prints such an answer, which it asks for from an
//	                             address of its own; exit 1 after two seconds
package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "pause":
		return wait()
	case len(args) == 3 && args[0] == "serve":
		return serve(args[1], ":"+args[2])
	case (len(args) == 3 || len(args) == 4) && args[0] == "ask":
		answer, err := ask(args[1], args[2], append(args[3:], "")[0])
		fmt.Println(answer)
		return err
	}
	return fmt.Errorf("%q: want pause, serve NAME PORT or ask NETWORK ADDRESS [FROM]", args)
}

// wait waits for the signal by which runtimes end a container. The first process of
// a PID namespace gets no signal that it does not ask for.
func wait() error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
	return nil
}

func serve(name, address string) error {
	stream, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	datagrams, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := stream.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(conn, "%s %s", name, ip(conn.RemoteAddr()))
			conn.Close()
		}
	}()
	go func() {
		buf := make([]byte, 64)
		for {
			_, peer, err := datagrams.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = datagrams.WriteTo(fmt.Appendf(nil, "%s %s", name, ip(peer)), peer)
		}
	}()
	return wait()
}

// ip is the address without its port, as people write it.
func ip(a net.Addr) netip.Addr {
	return netip.MustParseAddrPort(a.String()).Addr().Unmap().WithZone("")
}

const patience = 2 * time.Second

func ask(network, address, from string) (string, error) {
	deadline := time.Now().Add(patience)
	d := net.Dialer{Deadline: deadline}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
		if network == "udp" {
			d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(from)}
		}
	}
	conn, err := d.Dial(network, address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	buf := make([]byte, 256)
	for {
		if network == "udp" {
			if _, err := conn.Write([]byte("who")); err != nil {
				return "", err
			}
		}
		// A datagram may get lost; a connection is asked once.
		turn := deadline
		if network == "udp" {
			turn = time.Now().Add(patience / 5)
		}
		if err := conn.SetReadDeadline(turn); err != nil {
			return "", err
		}
		n, err := conn.Read(buf)
		if err == nil || time.Now().After(deadline) || network == "tcp" {
			return string(buf[:n]), err
		}
		if e, ok := err.(net.Error); !ok || !e.Timeout() {
			return "", err
		}
	}
}
