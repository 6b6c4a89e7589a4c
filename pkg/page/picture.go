package page

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/berth-cni/berth/pkg/graph"
)

// drawn is a picture that is drawn when somebody wants it, once for each choice of open
// networks.
type drawn struct {
	graph *graph.Graph
	most  int

	mu sync.Mutex
	by map[string]string
}

// maxDrawn choices of open networks are remembered.
const maxDrawn = maxStreams

// picture is what a page is told of a picture.
type picture struct {
	SVG      string    `json:"svg"`
	Host     string    `json:"host"`
	Networks []network `json:"networks"`
}

type network struct {
	ID         string `json:"id"`
	Title      string `json:"title"`
	Containers int    `json:"containers"`
	Bad        bool   `json:"bad"` // something is wrong with it, or with one of its containers
}

// event is the picture with these networks open.
func (d *drawn) event(open []string) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := fmt.Sprintf("%q", open)
	if text, ok := d.by[key]; ok {
		return text, nil
	}
	var svg bytes.Buffer
	if err := d.graph.Fold(d.most, open...).Live(&svg); err != nil {
		return "", err
	}
	p := picture{SVG: svg.String(), Networks: []network{}}
	bad, at := map[string]bool{}, map[string]int{}
	for _, n := range d.graph.Nodes {
		bad[n.ID] = len(n.Bad) > 0
		switch n.Kind {
		case graph.Host:
			p.Host = n.Title
		case graph.Network:
			at[n.ID] = len(p.Networks)
			p.Networks = append(p.Networks, network{ID: n.ID, Title: n.Title, Bad: bad[n.ID]})
		}
	}
	for _, e := range d.graph.Edges {
		if i, ok := at[e.From]; ok && e.Way != graph.Port {
			p.Networks[i].Containers++
			p.Networks[i].Bad = p.Networks[i].Bad || bad[e.To] || len(e.Bad) > 0
		}
	}
	text, err := encode(p)
	if d.by == nil || len(d.by) >= maxDrawn {
		d.by = map[string]string{}
	}
	d.by[key] = text
	return text, err
}

// encode is JSON in one line.
func encode(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // it is no HTML
	err := e.Encode(v)
	return b.String(), err
}
