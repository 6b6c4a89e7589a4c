package nodes

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/berth-cni/berth/integration/sandbox"
)

// BerthNamespace is where the agents are.
const BerthNamespace = "berth-system"

// BerthImage is the archive that `make image` makes, and BerthManifest what it is deployed
// by.
func BerthImage() (string, error) {
	bin, err := sandbox.Binaries()
	if err != nil {
		return "", err
	}
	path := filepath.Join(bin, "berth-image.tar")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w: `make image` makes it", err)
	}
	return path, nil
}

// BerthManifest is deploy/berth.yaml with the cluster's two families for its one, with pods
// attached by a mode, bridge or routed, and with more flags of the network. The bridges'
// frames pass the packet filter as [Options] has it: the agents leave that alone.
func BerthManifest(mode string, flags ...string) (string, error) {
	bin, err := sandbox.Binaries()
	if err != nil {
		return "", err
	}
	data, err := os.ReadFile(filepath.Join(bin, "..", "deploy", "berth.yaml"))
	if err != nil {
		return "", err
	}
	text := string(data)
	const subnet = "- --subnet="
	own := subnet + Pods4 + "\n"
	i := strings.Index(text, own)
	if i < 0 {
		return "", fmt.Errorf("deploy/berth.yaml has no %q", own)
	}
	indent := text[strings.LastIndexByte(text[:i], '\n')+1 : i]
	more := indent + subnet + Pods6 + "\n"
	for _, f := range flags {
		more += indent + "- " + f + "\n"
	}
	text = strings.Replace(text, own, own+more, 1)
	key := regexp.MustCompile(`(?m)^( +mode: )(bridge|routed)$`)
	if len(key.FindAllString(text, -1)) != 1 {
		return "", fmt.Errorf("deploy/berth.yaml has not one line %s", key)
	}
	const changed = "berth.dev/config: " // the annotation by which another configuration has agents start anew
	if strings.Count(text, changed) != 1 {
		return "", fmt.Errorf("deploy/berth.yaml has not one line %s", changed)
	}
	return strings.Replace(key.ReplaceAllString(text, "${1}"+mode), changed, changed+mode+"-", 1), nil
}

// Berth deploys Berth by a manifest, and waits until the nodes are ready.
func (c *Cluster) Berth(manifest string) error {
	if err := c.Apply("berth.yaml", manifest); err != nil {
		return err
	}
	if _, err := c.Kubectl("--namespace", BerthNamespace, "rollout", "status", "daemonset/berth", "--timeout=120s"); err != nil {
		return fmt.Errorf("%w\n%s", err, c.Trouble())
	}
	return c.Ready()
}

// Trouble is what there is to know of Berth's pods that do not run.
func (c *Cluster) Trouble() string {
	var text strings.Builder
	for _, args := range [][]string{
		{"get", "pods", "--all-namespaces", "--output=wide"},
		{"get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"},
		{"logs", "--namespace", BerthNamespace, "--selector=app.kubernetes.io/name=berth", "--tail=20", "--prefix"},
	} {
		out, err := c.Kubectl(args...)
		fmt.Fprintf(&text, "kubectl %s: %v\n%s\n", strings.Join(args, " "), err, out)
	}
	return text.String()
}
