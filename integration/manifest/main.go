// Manifest prints deploy/berth.yaml: the chart deploy/chart, rendered by Helm's own engine
// with the chart's own values, for who installs by kubectl apply. It is a module of its own,
// since the engine brings a client of Kubernetes' API.
//
//	go run . ../../deploy/chart >../../deploy/berth.yaml
package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: manifest CHART")
		os.Exit(2)
	}
	text, err := render(os.Args[1], map[string]any{"createNamespace": true})
	if err != nil {
		fmt.Fprintln(os.Stderr, "manifest:", err)
		os.Exit(1)
	}
	os.Stdout.Write(text)
}

const head = `# Berth on Kubernetes: kubectl apply -f berth.yaml. See docs/kubernetes.md.
#
# This is deploy/chart with its own values: change that, then 'make manifest'.
`

// render is the chart with some values, its definitions of resources first, in the order in
// which the API server can take them.
func render(chart string, values map[string]any) ([]byte, error) {
	c, err := loader.Load(chart)
	if err != nil {
		return nil, err
	}
	all, err := util.ToRenderValues(c, values, common.ReleaseOptions{Name: "berth", Namespace: "berth-system", Revision: 1, IsInstall: true}, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Engine{Strict: true}.Render(c, all)
	if err != nil {
		return nil, err
	}
	var docs []document
	for _, crd := range c.CRDObjects() {
		files[crd.Filename] = string(crd.File.Data)
	}
	for path, text := range files {
		found, err := split(path, text)
		if err != nil {
			return nil, err
		}
		docs = append(docs, found...)
	}
	slices.SortFunc(docs, func(a, b document) int {
		return cmp.Or(cmp.Compare(a.order(), b.order()), cmp.Compare(a.path, b.path), cmp.Compare(a.place, b.place))
	})
	var out bytes.Buffer
	out.WriteString(head)
	for _, d := range docs {
		fmt.Fprintf(&out, "---\n%s\n", d.text)
	}
	return out.Bytes(), nil
}

// document is an object of a file.
type document struct {
	path  string
	place int // in the file
	text  string
	kind  string
	name  string
}

func split(path, text string) (all []document, err error) {
	if !strings.HasSuffix(path, ".yaml") {
		return nil, nil
	}
	for i, part := range strings.Split("\n"+text, "\n---") {
		part = strings.TrimSpace(part)
		var object struct {
			Kind     string
			Metadata struct{ Name string }
		}
		if err := yaml.Unmarshal([]byte(part), &object); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if object.Kind != "" {
			all = append(all, document{path, i, part, object.Kind, object.Metadata.Name})
		}
	}
	return all, nil
}

// order is the place of a kind: what others need comes first, what runs comes last.
func (d document) order() int {
	first := []string{"Namespace", "CustomResourceDefinition", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding",
		"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "ConfigMap", "DaemonSet", "Job"}
	if i := slices.Index(first, d.kind); i >= 0 {
		return i
	}
	return len(first)
}
