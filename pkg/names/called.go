package names

import (
	"cmp"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
)

// Called is what people call the container of an attachment: its own name, else its
// short ID, as Docker has it.
func Called(a *attach.Attachment) string {
	short := attach.ShortID(a.Container)
	if all := Registered(a); len(all) > 0 && all[0] != strings.ToLower(short) {
		return all[0]
	}
	return cmp.Or(a.Args["K8S_POD_NAME"], short)
}

// Registered are the names that the attachment has on its network.
func Registered(a *attach.Attachment) []string {
	for _, s := range a.Steps {
		if r, ok := s.(*Register); ok {
			return r.Names
		}
	}
	return nil
}
