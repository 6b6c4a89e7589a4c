package watch

import (
	"testing"

	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"golang.org/x/sys/unix"
)

// No answer, however broken, is more than one that is not understood.
func FuzzAnswers(f *testing.F) {
	f.Add(nftnl.Request(nftnl.DelTable, 0, unix.NFPROTO_INET).Text(unix.NFTA_TABLE_NAME, firewall.TableName).Append(nil, 1, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		damage(netlink.Messages(data))
	})
}
