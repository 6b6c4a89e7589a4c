package netns

import (
	"errors"
	"testing"

	"github.com/berth-cni/berth/pkg/nstest"
)

func TestOpenNetns(t *testing.T) {
	if _, err := Open("/etc/passwd"); !errors.Is(err, ErrNotNetns) {
		t.Errorf("a file: %v", err)
	}
	if _, err := Open("/run/netns/none"); err == nil {
		t.Error("a path that is not there opens")
	}
	nstest.Host(t)
	path := nstest.Namespace(t)
	ns, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if own, err := ns.IsOwn(); err != nil || own {
		t.Errorf("a container's namespace is the host's: %v, %v", own, err)
	}
	cookie, err := ns.Cookie()
	if err != nil || cookie == 0 {
		t.Errorf("cookie %d, %v", cookie, err)
	}
	self, err := Open(OwnPath)
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	if own, err := self.IsOwn(); err != nil || !own {
		t.Errorf("the thread's own namespace is not: %v, %v", own, err)
	}
	if other, err := self.Cookie(); err != nil || other == cookie {
		t.Errorf("two namespaces share cookie %d (%v)", cookie, err)
	}
}
