package names

import (
	"encoding/json"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
)

func TestOwn(t *testing.T) {
	for _, c := range []struct {
		args map[string]string
		cni  string
		want string
	}{
		{nil, ``, ""},
		{map[string]string{"K8S_POD_NAME": "Web"}, `{"hostname": "front"}`, "web"},
		{map[string]string{"K8S_POD_NAME": "not a name"}, `{"labels": [{"key": "berth.name", "value": "db"}]}`, "db"},
		{nil, `{"hostname": "front", "aliases": ["shared"]}`, "front"},
		{nil, `{"hostname": "0123456789ab"}`, ""}, // which follows from the ID
		{map[string]string{"NERDCTL_CNI_DHCP_HOSTNAME": "box"}, ``, "box"},
		{nil, `{"aliases": ["shared"], "labels": [{"key": "berth.alias", "value": "too"}, {"key": "berth.hostname", "value": "host1"}]}`, "host1"},
		{nil, `{"aliases": ["shared"]}`, ""}, // others may have it, too
		{nil, `{"hostname": 5}`, ""},
		{nil, `{"hostname": "01"}`, "01"}, // which the ID begins with by chance
	} {
		if got := Own(Source{Network: "net", Container: id, Args: c.args, CNI: json.RawMessage(c.cni)}); got != c.want {
			t.Errorf("%v %s: %q, want %q", c.args, c.cni, got, c.want)
		}
	}
	of := Source{Network: "net", Container: "default-" + id, Args: map[string]string{"NERDCTL_CNI_DHCP_HOSTNAME": attach.ShortID(id)}}
	if got := Own(of); got != "" {
		t.Errorf("nerdctl's hostname of a container without a name: %q", got)
	}
}
