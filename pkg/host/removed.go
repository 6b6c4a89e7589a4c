package host

import (
	"context"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
)

// configurations are the networks in ConfDir. One that cannot be read keeps no other back.
func (k *Keeper) configurations() ([]*conflist.File, error) {
	if k.ConfDir == "" {
		return nil, nil
	}
	return conflist.Dir(k.ConfDir).List()
}

// collectRemoved removes what is left of networks whose configuration somebody took away
// while this keeper ran (podman network rm, a file deleted by hand), once their last
// container has gone. One that it has never seen may be kept elsewhere, and stays.
func (k *Keeper) collectRemoved(ctx context.Context, files []*conflist.File) {
	now := map[string]bool{}
	for _, f := range files {
		now[f.Name] = true
	}
	for name := range k.configured {
		if !now[name] {
			k.removed = append(k.removed, name)
		}
	}
	k.configured = now
	k.removed = slices.DeleteFunc(k.removed, func(name string) bool {
		if now[name] { // it is back
			return true
		}
		if slices.ContainsFunc(k.all, func(a *attach.Attachment) bool { return a.Network == name }) {
			return false
		}
		err := Collect(ctx, k.Records, CollectOptions{Networks: []string{name}, Unused: true, ConfDir: k.ConfDir, Now: time.Now},
			func(e Event) { k.Log.Info(e.String()) })
		if err != nil {
			k.say("network "+name, err, "")
		}
		return err == nil
	})
}
