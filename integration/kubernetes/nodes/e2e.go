package nodes

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-cni/berth/integration/kubernetes"
)

// registries has Kubernetes' own tests find every image under [Repository].
const registries = `promoterE2eRegistry: REPOSITORY
buildImageRegistry: REPOSITORY
gcRegistry: REPOSITORY
gcEtcdRegistry: REPOSITORY
sigStorageRegistry: REPOSITORY
dockerLibraryRegistry: REPOSITORY
privateRegistry: REPOSITORY
cloudProviderGcpRegistry: REPOSITORY
invalidRegistry: localhost/none
`

// E2E runs those of Kubernetes' own networking tests whose names match focus and not skip
// (regular expressions), three at a time, which mostly wait, and returns the folder of its
// report, junit_01.xml, which lasts as long as the cluster. What it writes goes to log.
func (c *Cluster) E2E(focus, skip, log string) (report string, err error) {
	program, err := kubernetes.Program("e2e.test")
	if err != nil {
		return "", err
	}
	ginkgo, err := kubernetes.Program("ginkgo")
	if err != nil {
		return "", err
	}
	list := filepath.Join(c.dir, "registries.yaml")
	if err := os.WriteFile(list, []byte(strings.ReplaceAll(registries, "REPOSITORY", Repository)), 0o600); err != nil {
		return "", err
	}
	report = filepath.Join(c.dir, "e2e")
	if err := os.MkdirAll(report, 0o755); err != nil {
		return "", err
	}
	_, err = c.Nodes[0].Host.Output("sh", "-c", `exec "$@" >"$0" 2>&1`, log, "env", "KUBE_TEST_REPO_LIST="+list,
		ginkgo, "--procs=3", "--timeout=90m", "--no-color", "--focus="+focus, "--skip="+skip, program, "--",
		"--provider=skeleton", "--kubeconfig="+c.config, "--kubectl-path="+c.kubectl, "--report-dir="+report, "--disable-log-dump",
		fmt.Sprint("--num-nodes=", len(c.Nodes))) // only one of the three would count them
	if err != nil {
		text, _ := os.ReadFile(log)
		return report, fmt.Errorf("tests of Kubernetes: %s: the log is %s", lastLine(string(text)), log)
	}
	return report, nil
}

func lastLine(text string) string {
	var last string
	for line := range strings.Lines(text) {
		if strings.Contains(line, "Passed |") {
			last = strings.TrimSpace(line)
		}
	}
	return last
}
