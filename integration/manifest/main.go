// Manifest writes deploy/berth.yaml and deploy/reset.yaml: the chart deploy/chart, rendered by
// Helm's own engine with the chart's own values, for who installs by kubectl apply. It is a
// module of its own, since the engine brings a client of Kubernetes' API.
//
//	go run . ../../deploy
package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
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
		fmt.Fprintln(os.Stderr, "usage: manifest DEPLOY")
		os.Exit(2)
	}
	for _, m := range manifests {
		text, err := m.render(filepath.Join(os.Args[1], "chart"))
		if err == nil {
			err = os.WriteFile(filepath.Join(os.Args[1], m.name), text, 0o644)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "manifest: %s: %v\n", m.name, err)
			os.Exit(1)
		}
	}
}

// manifest is a file that is made of the chart.
type manifest struct {
	name   string
	head   string
	values map[string]any
	only   string // a template; empty: all
}

var manifests = []manifest{
	{"berth.yaml", `# Berth on Kubernetes: kubectl apply -f berth.yaml. See docs/kubernetes.md.
#
`, map[string]any{"createNamespace": true}, ""},
	{"reset.yaml", `# Takes Berth off a node, after its DaemonSet has been deleted:
#   sed s/NODE/the-name/ reset.yaml | kubectl apply -f -
# See docs/kubernetes.md.
#
`, map[string]any{"reset": map[string]any{"nodes": []any{"NODE"}}}, "templates/reset.yaml"},
}

func (m manifest) render(chart string) ([]byte, error) {
	text, err := render(chart, m.values, m.only)
	head := m.head + "# This is deploy/chart with its own values: change that, then 'make manifest'.\n"
	return append([]byte(head), text...), err
}

// render is the chart with some values, its definitions of resources first, in the order in
// which the API server can take them; or one template of it.
func render(chart string, values map[string]any, only string) ([]byte, error) {
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
		if only != "" && !strings.HasSuffix(path, "/"+only) {
			continue
		}
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
