package connect

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/inspect"
	"github.com/berth-cni/berth/pkg/link/netns"
)

// container is one that a person named.
type container struct {
	id      string
	name    string // that its runtime gave it; empty: none
	netns   string // a path; empty: its namespace is gone
	cookie  uint64
	records []*attach.Attachment
}

// find finds a container by a word of a person: its ID, name, alias or the
// start of its ID, among the records; else a process in it, or the path of its
// namespace.
func find(records []*attach.Attachment, word string) (*container, error) {
	id, err := inspect.Find(records, word)
	if err != nil {
		return nil, err
	}
	if id != "" {
		return known(records, id), nil
	}
	path := word
	if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
		path = fmt.Sprintf("/proc/%d/ns/net", pid)
	} else if !filepath.IsAbs(word) {
		return nil, fmt.Errorf("there is no container %q on this host: 'berth ps' shows all that are on a network of Berth's; any other is named by a process of it, or the path of its namespace", word)
	}
	return byNamespace(records, path)
}

// known is the container of that ID.
func known(records []*attach.Attachment, id string) *container {
	c := &container{id: id}
	for _, a := range records {
		if a.Container != id {
			continue
		}
		c.records = append(c.records, a)
		c.name = cmp.Or(c.name, a.Args["K8S_POD_NAME"])
		if c.netns == "" && host.IsAlive(a) {
			c.netns, c.cookie = a.Netns, a.Cookie
		}
	}
	return c
}

// byNamespace is the container that a namespace is of; one without records has an ID
// that follows from the namespace.
func byNamespace(records []*attach.Attachment, path string) (*container, error) {
	ns, err := netns.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: there is no such namespace", path)
	}
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if own, err := ns.IsOwn(); err != nil || own {
		return nil, cmp.Or(err, errHostMode)
	}
	cookie, err := ns.Cookie()
	if err != nil {
		return nil, err
	}
	if cookie == 0 {
		return nil, fmt.Errorf("%s: this kernel has no names for namespaces (5.14 has): want a container's name or ID", path)
	}
	id := fmt.Sprintf("netns-%x", cookie)
	for _, a := range records {
		if a.Cookie == cookie && a.Plugin != conflist.Share {
			id = a.Container
			break
		}
	}
	c := known(records, id)
	c.netns, c.cookie = path, cookie
	return c, nil
}

// noWayOut tells that no network of the container gave it a default route. Of one
// without records that is not known.
func (c *container) noWayOut() bool {
	for _, a := range c.records {
		for _, r := range a.Routes {
			if r.Dst.Bits() == 0 {
				return false
			}
		}
	}
	return len(c.records) > 0
}
