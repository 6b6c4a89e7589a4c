package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/berth-cni/berth/integration/screen"
)

// showStore: step 6.
func (l *lab) showStore() error {
	f, err := l.web.flow(l.db)
	if err != nil {
		return err
	}
	defer f.Stop()
	l.Quote(screen.Pad("etcd0", 8) + " $ systemctl stop etcd")
	l.store.Stop()
	_, err = until(settleTime, func() error { return l.everywhere("berth_store_up", 0) })
	l.holds(err, "the agents of all three hosts notice, and go on")
	l.Space()
	if l.late, err = l.showAdd(2, "late"); err != nil {
		return err
	}
	l.holds(errors.Join(l.web.asks(l.late), l.late.asks(l.db)), "late reaches, and is reached from, containers of the other hosts")
	err = l.late.net.Check(l.late.Container)
	l.holds(err, "CHECK of late finds all it looks for")
	start := time.Now()
	err = l.late.net.Del(l.late.Container)
	l.holds(err, "DEL of late  %s", l.Paint(screen.Dim, fmt.Sprintf("%.1f ms", time.Since(start).Seconds()*1000)))
	time.Sleep(pause)
	l.Space()
	l.Quote(screen.Pad("etcd0", 8) + " $ systemctl start etcd")
	if err := l.store.Start(); err != nil {
		return err
	}
	l.pids = append(l.pids, l.store.Members[0].Pid)
	took, err := until(settleTime, func() error {
		return errors.Join(l.everywhere("berth_store_up", 1), l.everywhere("berth_store_registered", 1))
	})
	l.holds(err, "all three are registered again %s after etcd is back", ms(took))
	nodes, err := l.nodes()
	l.Claim(err == nil && nodes["oslo"].Alive && nodes["kiel"].Alive && nodes["riga"].Alive, "the store says that oslo, kiel and riga are alive")
	l.undisturbed("web → db ", f)
	return nil
}

// everywhere returns nil when a metric of every agent has that value.
func (l *lab) everywhere(metric string, want float64) error {
	for _, h := range l.hosts() {
		samples, err := l.agents[h].Metrics()
		if err != nil {
			return err
		}
		if got, ok := samples[metric]; !ok || got != want {
			return fmt.Errorf("%s: %s is %v", h.Name, metric, got)
		}
	}
	return nil
}
