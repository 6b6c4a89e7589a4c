package main

import (
	"bufio"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/berth-cni/berth/integration/cluster"
)

// load is what etcd counts since its start (/metrics).
type load struct {
	requests map[string]float64 // messages of clients, by method
	sent     float64            // messages to clients
	cpu      float64            // seconds
	size     float64            // bytes of the database in use
}

func loadOf(e *cluster.Etcd) (load, error) {
	m := e.Members[0]
	l := load{requests: map[string]float64{}}
	text, err := m.Get(fmt.Sprintf("http://%s:2379/metrics", m.Addr4))
	if err != nil {
		return l, err
	}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		name, value, ok := cutLast(lines.Text())
		v, err := strconv.ParseFloat(value, 64)
		if !ok || err != nil {
			continue
		}
		switch metric, labels, _ := strings.Cut(name, "{"); metric {
		case "grpc_server_msg_received_total":
			if v > 0 {
				l.requests[label(labels, "grpc_method")] += v
			}
		case "grpc_server_msg_sent_total":
			l.sent += v
		case "process_cpu_seconds_total":
			l.cpu = v
		case "etcd_mvcc_db_total_size_in_use_in_bytes":
			l.size = v
		}
	}
	return l, nil
}

func cutLast(line string) (before, after string, ok bool) {
	i := strings.LastIndexByte(line, ' ')
	if i < 0 || strings.HasPrefix(line, "#") {
		return "", "", false
	}
	return line[:i], line[i+1:], true
}

func label(labels, name string) string {
	_, rest, _ := strings.Cut(labels, name+`="`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

// since is what was counted after an earlier time.
func (l load) since(before load) load {
	d := load{requests: map[string]float64{}, sent: l.sent - before.sent, cpu: l.cpu - before.cpu, size: l.size}
	for method, n := range l.requests {
		if n -= before.requests[method]; n > 0 {
			d.requests[method] = n
		}
	}
	return d
}

// each are the requests divided by a number, one method behind the other.
func (l load) each(by float64) string {
	var all []string
	for method, n := range l.requests {
		all = append(all, fmt.Sprintf("%s %.2f", method, n/by))
	}
	sort.Strings(all)
	return strings.Join(all, ", ")
}

func (l load) total() (n float64) {
	for _, v := range l.requests {
		n += v
	}
	return n
}

// beats are the keepalives of leases, which come whatever else happens.
func (l load) beats() float64 { return l.requests["LeaseKeepAlive"] }
