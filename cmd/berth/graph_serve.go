package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"

	"github.com/berth-cni/berth/pkg/doctor"
	"github.com/berth-cni/berth/pkg/graph"
	"github.com/berth-cni/berth/pkg/page"
)

// checkServe refuses what --serve cannot go with.
func (o *graphOptions) checkServe(given func(flag string) bool) error {
	if o.serve == "" {
		if o.anywhere {
			return errors.New("--serve-anywhere without --serve: want both, or neither")
		}
		return nil
	}
	for _, flag := range []string{"format", "svg", "ascii"} {
		if given(flag) {
			return fmt.Errorf("--serve with --%s: want one of the two", flag)
		}
	}
	if !o.anywhere && !loopback(o.serve) {
		return fmt.Errorf("--serve: %s: want an address of loopback, or --serve-anywhere", o.serve)
	}
	return nil
}

// serveGraph serves the picture as a page until it is interrupted.
func (p *program) serveGraph(ctx context.Context, o *graphOptions, diagnosis doctor.Config) error {
	l, err := net.Listen("tcp", o.serve)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.out, "http://%s/\n", l.Addr())
	warn := once(p.warn)
	return page.Serve(ctx, l, page.Config{
		Look: func(ctx context.Context) (*graph.Graph, error) {
			c := p.graphConfig()
			c.Warn = warn
			in, err := graph.Look(ctx, c)
			if err != nil {
				return nil, err
			}
			return graph.Build(*in), nil
		},
		Diagnose: func(ctx context.Context) *doctor.Report { return doctor.Diagnose(ctx, diagnosis, false) },
		Records:  filepath.Join(p.hostStore().Dir(), "berth.db"),
		Most:     o.most,
		Warn:     warn,
	})
}

// once passes on what is new: the host is looked at again and again.
func once(warn func(error)) func(error) {
	var mu sync.Mutex
	said := map[string]bool{}
	return func(err error) {
		mu.Lock()
		defer mu.Unlock()
		const most = 1000 // texts that are remembered
		if text := err.Error(); !said[text] && len(said) < most {
			said[text] = true
			warn(err)
		}
	}
}
