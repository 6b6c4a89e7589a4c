package cni

import (
	"slices"
	"strings"
)

// knownArgs are the keys of CNI_ARGS that the plugins read or keep for people.
var knownArgs = []string{"IP", "MAC", "CONTAINER", "IgnoreUnknown", "K8S_POD_NAMESPACE", "K8S_POD_NAME",
	"K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID", "NERDCTL_CNI_DHCP_HOSTNAME", ArgConnected, ArgGatewayPriority}

// ArgConnected is the key of CNI_ARGS by which 'berth network connect' says that no
// runtime knows of the attachment ([attach.Attachment.Connected]). The container keeps
// the default routes that it has, and gets none, unless the value is [ConnectedRoute].
const (
	ArgConnected   = "BERTH_CONNECTED"
	Connected      = "1"
	ConnectedRoute = "route"
)

// ArgGatewayPriority is the key of CNI_ARGS by which 'berth network connect' says which of the
// container's networks has its way out ([link.Gateway.Priority]).
const ArgGatewayPriority = "BERTH_GW_PRIORITY"

// parseArgs reads CNI_ARGS: "K=V;K=V". A key that is not known is an error unless
// IgnoreUnknown is set, as CONVENTIONS.md has it.
func parseArgs(s string) (map[string]string, error) {
	args := map[string]string{}
	for _, pair := range strings.Split(s, ";") {
		if pair == "" {
			continue
		}
		k, v, ok := strings.Cut(pair, "=")
		if !ok || k == "" {
			return nil, badEnvironment("CNI_ARGS: %q: want KEY=VALUE, separated by semicolons", pair)
		}
		args[k] = v
	}
	switch strings.ToLower(args["IgnoreUnknown"]) {
	case "1", "true":
		return args, nil
	case "", "0", "false":
	default:
		return nil, badEnvironment("CNI_ARGS: IgnoreUnknown=%q: want 1, true, 0 or false", args["IgnoreUnknown"])
	}
	for k := range args {
		if !slices.Contains(knownArgs, k) {
			return nil, badEnvironment("CNI_ARGS: %q is not known (known: %s); IgnoreUnknown=1 lets it pass",
				k, strings.Join(knownArgs, ", "))
		}
	}
	return args, nil
}
