package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"

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
	return page.Serve(ctx, l, page.Config{
		Look: func(ctx context.Context) (*graph.Graph, error) {
			in, err := graph.Look(ctx, p.graphConfig())
			if err != nil {
				return nil, err
			}
			return graph.Build(*in), nil
		},
		Diagnose: func(ctx context.Context) *doctor.Report { return doctor.Diagnose(ctx, diagnosis, false) },
		Records:  filepath.Join(p.hostStore().Dir(), "berth.db"),
		Most:     o.most,
		Warn:     p.warn,
	})
}
