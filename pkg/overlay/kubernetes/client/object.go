package client

import (
	"net/url"
	"strings"
	"time"
)

// Resource is a kind of objects in the API. Of core's the group is empty; of those that are
// the cluster's own the namespace is.
type Resource struct{ Group, Version, Namespace, Plural string }

// Resources of Kubernetes' own.
var (
	Nodes       = Resource{Version: "v1", Plural: "nodes"}
	Namespaces  = Resource{Version: "v1", Plural: "namespaces"}
	Definitions = Resource{Group: "apiextensions.k8s.io", Version: "v1", Plural: "customresourcedefinitions"}
	Leases      = Resource{Group: "coordination.k8s.io", Version: "v1", Plural: "leases"}
	ConfigMaps  = Resource{Version: "v1", Plural: "configmaps"}
	Events      = Resource{Group: "events.k8s.io", Version: "v1", Plural: "events"}
)

// In is the resource in a namespace.
func (r Resource) In(namespace string) Resource {
	r.Namespace = namespace
	return r
}

// APIVersion is "berth.dev/v1", as objects say it.
func (r Resource) APIVersion() string {
	if r.Group == "" {
		return r.Version
	}
	return r.Group + "/" + r.Version
}

// Path is where the resource is, or an object of it, or a part of that: Path("host1",
// "status").
func (r Resource) Path(parts ...string) string {
	path := "/api/" + r.Version
	if r.Group != "" {
		path = "/apis/" + r.Group + "/" + r.Version
	}
	if r.Namespace != "" {
		path += "/namespaces/" + url.PathEscape(r.Namespace)
	}
	path += "/" + r.Plural
	for _, p := range parts {
		path += "/" + url.PathEscape(p)
	}
	return path
}

// Meta is what every object has, as far as it is looked at. A struct for Replace has to have
// all that it is not to take away.
type Meta struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace,omitempty"`
	UID         string            `json:"uid,omitempty"`
	Version     string            `json:"resourceVersion,omitempty"`
	Created     *time.Time        `json:"creationTimestamp,omitempty"`
	Deleted     *time.Time        `json:"deletionTimestamp,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Owners      []Owner           `json:"ownerReferences,omitempty"`
	Finalizers  []string          `json:"finalizers,omitempty"`
	// Managed is who has written which fields, which is half of a small object. What is
	// written with [Unmanaged] says it no more, nor after later writes, but for those of
	// `kubectl apply --server-side`.
	Managed []struct{} `json:"managedFields,omitempty"`
}

// Unmanaged takes away what an object says of who has written its fields (the API server
// takes one empty entry for that).
var Unmanaged = []struct{}{{}}

// Owner is who an object goes with.
type Owner struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	UID        string `json:"uid"`
}

// Object is an object of any kind.
type Object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   Meta   `json:"metadata"`
}

// Status is how the server says no, also within a watch.
type Status struct {
	Kind    string `json:"kind"`
	Code    int    `json:"code"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Details struct {
		Retry int `json:"retryAfterSeconds"`
	} `json:"details"`
}

// Later tells whether a resource version is a later one than another. Those of the API
// server are numbers, the revisions of its etcd, for all resources (comparable by what it
// promises from 1.35 on).
func Later(a, b string) bool {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return len(a) > len(b)
	}
	return a > b
}
