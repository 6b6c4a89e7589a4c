package cni

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link"
)

// Loopback is the configuration of the plugin that containerd calls for every pod,
// beside that of the network and at the same time. It sets lo up, and passes on the
// result of the plugins before it. It keeps no record: DEL does nothing.
type Loopback struct{ Conf }

// Plan implements [Config].
func (*Loopback) Plan(*Request) (*Plan, error) { return &Plan{}, nil }

// loopback is ADD. The namespace may be the host's by now, when another plugin has
// put the container there; then nothing is set.
func (p *plugin) loopback(r *Request) error {
	if err := p.checkNetns(r); err != nil {
		return err
	}
	add := &addition{Request: r, a: &attach.Adding{Attachment: &attach.Attachment{Key: r.key(attach.Main), Netns: r.Netns}}}
	var err error
	if add.plan, err = r.Plan(); err != nil {
		return err
	}
	if add.prev, err = r.previous(); err != nil {
		return err
	}
	if err := (&link.Loopback{}).Add(p.ctx, add.a); err != nil {
		return err
	}
	if add.prev.result != nil {
		add.a.Interfaces, add.a.Addresses = nil, nil
	}
	return add.print(os.Stdout)
}

func (p *plugin) checkLoopback(r *Request) error {
	if err := p.checkNetns(r); err != nil {
		return err
	}
	if err := (&link.Loopback{}).Check(p.ctx, &attach.Attachment{Netns: r.Netns}); err != nil {
		return fmt.Errorf("%w: %w", errMissing, err)
	}
	return nil
}

// checkNetns is openNetns that takes the host's namespace, too, for a container
// that is on record there. While another process replaces the mount, on a kernel
// before 6.5, the path is an empty file for a moment.
func (p *plugin) checkNetns(r *Request) error {
	ns, refused := r.openNetns()
	for i := 0; errors.Is(refused, link.ErrNotNetns) && i < 20; i++ {
		time.Sleep(time.Millisecond)
		ns, refused = r.openNetns()
	}
	if refused == nil {
		return ns.Close()
	}
	ns, err := link.OpenNetns(r.Netns)
	if err != nil {
		return refused
	}
	defer ns.Close()
	own, err := ns.IsOwn()
	if err != nil || !own {
		return refused
	}
	cookie, err := ns.Cookie()
	if err != nil {
		return err
	}
	if known, err := p.onHost(r.ContainerID, cookie); err != nil || known {
		return err
	}
	return refused
}
