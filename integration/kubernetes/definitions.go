package kubernetes

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-cni/berth/integration/cluster"
)

// Group is that of the product's custom resources.
const Group = "berth.dev"

// Define gives the API server the definitions of the product's custom resources, as
// deploy/chart has them, under a group: its own, or another one for each store of a test.
func (s *APIServer) Define(group string) error {
	dir, err := here()
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(dir, "../../deploy/chart/crds/*.yaml"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no definitions in deploy/chart/crds: %w", err)
	}
	const definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"
	var names []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(filepath.Base(file), ".yaml") + "." + group
		if err := s.Apply(definitions+name, strings.ReplaceAll(string(data), Group, group)); err != nil {
			return err
		}
		names = append(names, name)
	}
	for _, name := range names {
		err := cluster.Until(patience, func() error {
			answer, err := s.Call(http.MethodGet, definitions+name, nil)
			if err != nil {
				return err
			}
			var d struct {
				Status struct {
					Conditions []struct{ Type, Status, Message string }
				}
			}
			if err := json.Unmarshal(answer, &d); err != nil {
				return err
			}
			for _, c := range d.Status.Conditions {
				if c.Type == "NonStructuralSchema" {
					return fmt.Errorf("%s: %s", name, c.Message)
				}
				if c.Type == "Established" && c.Status == "True" {
					_, err := s.Call(http.MethodGet, "/apis/"+group+"/v1/"+strings.TrimSuffix(name, "."+group)+"?limit=1", nil)
					return err
				}
			}
			return fmt.Errorf("%s is not established", name)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
