package kubernetes

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// client knows the authority, and connects from the API server's host.
func (s *APIServer) client() (*http.Client, error) {
	pem, err := os.ReadFile(s.CA)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DialContext: s.host.DialContext, TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}, nil
}

// Call sends a request as "admin", with a body as JSON where there is one, and returns the
// answer. One that is no success is a [*StatusError].
func (s *APIServer) Call(method, path string, body any) ([]byte, error) {
	return s.CallAs(s.Token, method, path, body)
}

// CallAs is [APIServer.Call] with another token.
func (s *APIServer) CallAs(token, method, path string, body any) ([]byte, error) {
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	kind := "application/json"
	if method == http.MethodPatch {
		kind = "application/merge-patch+json"
	}
	return s.send(token, method, path, kind, data)
}

// Apply is a server-side apply of an object in YAML at its path, as
// "/apis/apps/v1/namespaces/x/daemonsets/y".
func (s *APIServer) Apply(path, yaml string) error {
	_, err := s.send(s.Token, http.MethodPatch, path+"?fieldManager=test&force=true", "application/apply-patch+yaml", []byte(yaml))
	return err
}

func (s *APIServer) send(token, method, path, kind string, body []byte) ([]byte, error) {
	req, err := http.NewRequest(method, s.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", kind)
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = &StatusError{method, path, resp.StatusCode, strings.TrimSpace(string(answer))}
	}
	return answer, err
}

// StatusError is an answer that is no success.
type StatusError struct {
	Method, Path string
	Code         int // of HTTP
	Body         string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s %s: %d: %s", e.Method, e.Path, e.Code, e.Body)
}

// Requests is how many of each kind of an agent's the API server has answered since it
// started, by verb and resource: of our own group, leases, and Nodes, names and definitions.
// A watch counts when it ends, too.
func (s *APIServer) Requests() (map[string]int, error) {
	text, err := s.Call(http.MethodGet, "/metrics", nil)
	if err != nil {
		return nil, err
	}
	all := map[string]int{}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "apiserver_request_total{") {
			continue
		}
		labels, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		label := func(name string) string {
			_, rest, _ := strings.Cut(labels, name+`="`)
			value, _, _ := strings.Cut(rest, `"`)
			return value
		}
		switch resource := label("resource"); {
		case label("group") == Group, resource == "leases", resource == "nodes", resource == "configmaps", resource == "customresourcedefinitions":
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return nil, fmt.Errorf("metrics of the API server: %q: %w", line, err)
			}
			all[label("verb")+" "+resource+" "+label("code")] += int(n)
		}
	}
	return all, nil
}

// AccountToken is a token of a service account, which it makes where there is none; bound
// to a pod where one is named, and so to the pod's node.
func (s *APIServer) AccountToken(namespace, name, pod string) (string, error) {
	accounts := "/api/v1/namespaces/" + namespace + "/serviceaccounts"
	object := map[string]any{"metadata": map[string]string{"name": name}}
	if _, err := s.Call(http.MethodPost, accounts, object); err != nil && !IsConflict(err) {
		return "", err
	}
	spec := map[string]any{}
	if pod != "" {
		spec["boundObjectRef"] = map[string]string{"kind": "Pod", "apiVersion": "v1", "name": pod}
	}
	answer, err := s.Call(http.MethodPost, accounts+"/"+name+"/token", map[string]any{"spec": spec})
	if err != nil {
		return "", err
	}
	var t struct{ Status struct{ Token string } }
	err = json.Unmarshal(answer, &t)
	return t.Status.Token, err
}

// IsConflict says whether an error is the API server's 409: there is one of the name, or
// somebody else has changed it.
func IsConflict(err error) bool {
	e, ok := err.(*StatusError)
	return ok && e.Code == http.StatusConflict
}

// Kubeconfig writes a kubeconfig with a token, and returns its path, which lasts until
// [APIServer.Close].
func (s *APIServer) Kubeconfig(name, token string) (string, error) {
	path := s.file(name + ".kubeconfig")
	return path, os.WriteFile(path, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- {name: c, cluster: {server: %q, certificate-authority: %q}}
users:
- {name: u, user: {token: %q}}
contexts:
- {name: x, context: {cluster: c, user: u}}
current-context: x
`, s.URL, s.CA, token), 0o600)
}
