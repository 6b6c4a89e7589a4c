package sandbox

import (
	"strings"
	"testing"
)

const referenceList = `{
  "cniVersion": "1.1.0", "name": "ref", "plugins": [
  {"type": "bridge", "bridge": "ref0", "isGateway": true, "ipMasq": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}},
  {"type": "firewall"}]}`

// TestReferenceChain attaches and detaches two containers with the reference
// plugins: the outside reaches one, and the inspector sees what came and that it
// went.
func TestReferenceChain(t *testing.T) {
	ref, err := References()
	must(t, err)
	h, err := New()
	must(t, err)
	defer h.Close()
	outside, err := h.Outside()
	must(t, err)
	n, err := h.Network(referenceList, ref)
	must(t, err)

	first, err := h.Container("first")
	must(t, err)
	port := Cap("portMappings", []map[string]any{{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}})
	_, err = n.Add(first, port)
	must(t, err)
	must(t, n.Del(first, port))
	before, err := h.Snapshot(first.Netns)
	must(t, err)

	_, err = n.Add(first, port)
	must(t, err)
	stop, err := first.Serve(":80")
	must(t, err)
	defer stop()
	answer, err := outside.Ask(HostAddr4 + ":8080")
	must(t, err)
	if answer != "first "+OutsideAddr4 {
		t.Errorf("the outside was answered %q", answer)
	}
	during, err := h.Snapshot(first.Netns)
	must(t, err)
	diff := strings.Join(before.Diff(during), "\n")
	for _, want := range []string{"+ link:", "+ nft:", "10.1.0.", "+ file:", "+ inside"} {
		if !strings.Contains(diff, want) {
			t.Errorf("no %q in the difference:\n%s", want, diff)
		}
	}
	must(t, n.Check(first, port))
	must(t, n.Del(first, port))
	_, err = h.Output("conntrack", "-F")
	must(t, err)
	after, err := h.Snapshot(first.Netns)
	must(t, err)
	if diff := before.Diff(after); diff != nil {
		t.Errorf("left behind:\n%s", strings.Join(diff, "\n"))
	}
	must(t, first.Remove())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
