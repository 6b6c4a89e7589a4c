package kubernetes

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"text/template"

	"go.yaml.in/yaml/v3"
)

// Permit gives the API server what the chart has of that name for the agents' rights
// ("rbac", "admission"), in a namespace that is there.
func (s *APIServer) Permit(namespace string, names ...string) error {
	dir, err := here()
	if err != nil {
		return err
	}
	for _, name := range names {
		t, err := template.ParseFiles(filepath.Join(dir, "../../deploy/chart/templates", name+".yaml"))
		if err != nil {
			return err
		}
		var text bytes.Buffer
		if err := t.Execute(&text, map[string]any{"Release": map[string]any{"Namespace": namespace}}); err != nil {
			return err
		}
		for _, doc := range strings.Split(text.String(), "\n---\n") {
			path, err := pathOf(doc)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if err := s.Apply(path, doc); err != nil {
				return err
			}
		}
	}
	return nil
}

// pathOf is where an object in YAML belongs. The plural is the kind's with an s, or ies.
func pathOf(doc string) (string, error) {
	var o struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   struct{ Name, Namespace string }
	}
	if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
		return "", err
	}
	path := "/apis/" + o.APIVersion
	if !strings.Contains(o.APIVersion, "/") {
		path = "/api/" + o.APIVersion
	}
	if o.Metadata.Namespace != "" {
		path += "/namespaces/" + o.Metadata.Namespace
	}
	plural := strings.ToLower(o.Kind) + "s"
	if stem, ok := strings.CutSuffix(plural, "ys"); ok {
		plural = stem + "ies"
	}
	return path + "/" + plural + "/" + o.Metadata.Name, nil
}
