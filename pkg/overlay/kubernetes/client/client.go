// Package client speaks to Kubernetes' API: requests for single objects, lists, and
// watches, of any resource, in JSON.
//
//	c, err := client.Open(client.Options{})
//	var node client.Object // or a struct of one's own that has what is looked at
//	err = c.Get(ctx, client.Nodes.Path("host1"), &node)
//	err = c.Patch(ctx, client.Nodes.Path("host1", "status"), client.StrategicMerge, map[string]any{...}, nil)
//	if client.IsNotFound(err) { ... }
//
// How to come to the server and who one is there (kubeconfig, service account, client
// certificates, programs that give tokens) is for client-go, whose rest.Config makes the
// HTTP client. Its typed clients, informers and generic objects are not linked: what Berth
// reads are few small structs, of which an agent holds one of many thousand.
package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// Options say where the API server is, and who comes. None has to be given.
type Options struct {
	// Kubeconfig is a file of kubectl's kind. Empty: in a pod its service account, else the
	// files that KUBECONFIG names, else ~/.kube/config.
	Kubeconfig string
	// Server, "https://192.0.2.1:6443", is spoken to in place of the one that the
	// configuration names. A pod needs it where nobody serves the Service "kubernetes" yet.
	Server string
	// UserAgent is what the server's logs say; empty: "berth".
	UserAgent string
	// Timeout bounds a request, but not a watch: 10 s.
	Timeout time.Duration
}

// Client may be used by several goroutines at a time.
type Client struct {
	http      *http.Client
	base      *url.URL
	timeout   time.Duration
	agent     string
	namespace string
	inPod     bool
	skew      atomic.Int64 // of the server's clock against ours, ns
	listsOnly atomic.Bool  // the server does not give the first objects by a watch
}

// Server is the URL that is spoken to.
func (c *Client) Server() string { return c.base.String() }

// Namespace is that of the pod's service account, or of the kubeconfig's context; empty
// where neither says one.
func (c *Client) Namespace() string { return c.namespace }

// InPod tells whether the client comes as a pod's service account.
func (c *Client) InPod() bool { return c.inPod }

// Now is the time by the server's clock, as far as its answers have told: to within 2 s.
// What several hosts compare is to be of one clock.
func (c *Client) Now() time.Time { return time.Now().Add(time.Duration(c.skew.Load())) }

// tell takes the server's time from an answer. The header has whole seconds; what two
// clocks that are kept by NTP differ by is not told from those.
func (c *Client) tell(h http.Header, asked time.Time) {
	at, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return
	}
	now := time.Now()
	skew := at.Add(time.Second / 2).Sub(asked.Add(now.Sub(asked) / 2))
	if skew.Abs() < 2*time.Second+now.Sub(asked)/2 {
		skew = 0
	}
	c.skew.Store(int64(skew))
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Get reads an object, or whatever is at the path.
func (c *Client) Get(ctx context.Context, path string, into any) error {
	return c.call(ctx, http.MethodGet, path, "", nil, into)
}

// Create makes an object in a resource's path. into, if not nil, is what the server made
// of it. The error is one of [IsExists] when there is one of the name.
func (c *Client) Create(ctx context.Context, path string, object, into any) error {
	return c.call(ctx, http.MethodPost, path, "application/json", object, into)
}

// Replace writes an object in place of the one that has its metadata.resourceVersion. The
// error is one of [IsConflict] when it has been written meanwhile.
func (c *Client) Replace(ctx context.Context, path string, object, into any) error {
	return c.call(ctx, http.MethodPut, path, "application/json", object, into)
}

// Kinds of patches.
const (
	Merge          = "application/merge-patch+json"           // RFC 7386
	JSONPatch      = "application/json-patch+json"            // RFC 6902
	StrategicMerge = "application/strategic-merge-patch+json" // not of custom resources
)

// Patch changes a part of an object.
func (c *Client) Patch(ctx context.Context, path, kind string, patch, into any) error {
	return c.call(ctx, http.MethodPatch, path, kind, patch, into)
}

// Delete removes an object: the one with the UID and the resource version, where those are
// not empty. The error is one of [IsConflict] when it is another one.
func (c *Client) Delete(ctx context.Context, path, uid, version string) error {
	type conditions struct {
		UID     string `json:"uid,omitempty"`
		Version string `json:"resourceVersion,omitempty"`
	}
	o := struct {
		APIVersion    string      `json:"apiVersion"`
		Kind          string      `json:"kind"`
		Preconditions *conditions `json:"preconditions,omitempty"`
	}{APIVersion: "v1", Kind: "DeleteOptions"}
	if uid != "" || version != "" {
		o.Preconditions = &conditions{uid, version}
	}
	return c.call(ctx, http.MethodDelete, path, "application/json", o, nil)
}

// maxAnswer bounds what is read of one object: etcd takes 1.5 MB.
const maxAnswer = 8 << 20 // bytes

func (c *Client) call(ctx context.Context, method, path, kind string, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	answer, err := c.ask(ctx, method, path, kind, body)
	if err != nil {
		return err
	}
	defer answer.Close()
	data, err := io.ReadAll(io.LimitReader(answer, maxAnswer))
	if err == nil && into != nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", strings.ToLower(method), path, c.sentence(err))
	}
	return nil
}

// ask makes a request and returns the body of the answer, which is to be closed. A refusal
// is an [*Error].
func (c *Client) ask(ctx context.Context, method, path, kind string, body any) (io.ReadCloser, error) {
	var data io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode for %s: %w", path, err)
		}
		data = bytes.NewReader(text)
	}
	where, err := c.base.Parse(strings.TrimSuffix(c.base.Path, "/") + path)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, where.String(), data)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.agent)
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	asked := time.Now()
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.sentence(err)
	}
	c.tell(resp.Header, asked)
	if resp.StatusCode/100 == 2 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	return nil, refusal(method, path, resp)
}

// sentence has an error of the connection say what it means to a person. It is still what
// it was to errors.Is.
func (c *Client) sentence(err error) error {
	var from *url.Error
	if errors.As(err, &from) {
		err = from.Err // without the whole URL
	}
	text := ""
	var op *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded), os.IsTimeout(err):
		text = "does not answer in time"
	case errors.As(err, &op) && op.Op == "dial":
		text = "cannot be reached: " + strings.Replace(op.Err.Error(), "connect: ", "", 1)
	case strings.Contains(err.Error(), "unknown authority"):
		text = err.Error() + ": its certificate is not signed by what the kubeconfig, or the service account, has"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		text = "the connection is lost"
	default:
		return fmt.Errorf("the API server at %s: %w", c.base.Host, err)
	}
	return &said{"the API server at " + c.base.Host + " " + text, err}
}

type said struct {
	text string
	err  error
}

func (e *said) Error() string { return e.text }
func (e *said) Unwrap() error { return e.err }

// Error is the server's no.
type Error struct {
	Code    int           // HTTP's status
	Reason  string        // "NotFound"
	Message string        // the server's
	Retry   time.Duration // when to ask again, if it says so
	What    string        // "get /api/v1/nodes/host1"
}

func (e *Error) Error() string {
	switch text := cmp.Or(e.Message, e.Reason, http.StatusText(e.Code)); e.Code {
	case http.StatusForbidden:
		return "the API server does not allow it: " + text
	case http.StatusUnauthorized:
		return "the API server does not know who asks (" + e.What + "): the token or the certificate has run out, or is another cluster's"
	case http.StatusNotFound:
		if e.noResource() {
			return e.What + ": the API server has no such resource: are the definitions installed?"
		}
		return text
	default:
		return text
	}
}

func (e *Error) noResource() bool {
	return e.Code == http.StatusNotFound && (e.Message == "404 page not found" || strings.Contains(e.Message, "could not find the requested resource"))
}

// refusal reads the server's no.
func refusal(method, path string, resp *http.Response) error {
	e := &Error{Code: resp.StatusCode, What: strings.ToLower(method) + " " + path}
	data, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var s Status
	if json.Unmarshal(data, &s) == nil && s.Kind == "Status" {
		e.Reason, e.Message = s.Reason, s.Message
		e.Retry = time.Duration(s.Details.Retry) * time.Second
	} else {
		e.Message = strings.TrimSpace(string(data[:min(len(data), 512)]))
	}
	if d, err := time.ParseDuration(resp.Header.Get("Retry-After") + "s"); err == nil {
		e.Retry = d
	}
	return e
}

func is(err error, code int, reason string) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code && (reason == "" || e.Reason == reason)
}

// IsNotFound tells whether there is no object of the name, or no such resource.
func IsNotFound(err error) bool { return is(err, http.StatusNotFound, "") }

// IsNoResource tells whether the server does not know the kind of objects at all.
func IsNoResource(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.noResource()
}

// IsExists tells whether there is an object of the name that was to be created.
func IsExists(err error) bool { return is(err, http.StatusConflict, "AlreadyExists") }

// IsConflict tells whether the object has been written, or replaced, since it was read.
func IsConflict(err error) bool { return is(err, http.StatusConflict, "Conflict") }

// IsForbidden tells whether who asks may not do it.
func IsForbidden(err error) bool { return is(err, http.StatusForbidden, "") }

// IsInvalid tells whether the server does not take what was to be written.
func IsInvalid(err error) bool { return is(err, http.StatusUnprocessableEntity, "") }

// IsGone tells whether the changes since a resource version cannot be had any more.
func IsGone(err error) bool { return is(err, http.StatusGone, "") }

// RetryAfter is when to ask again at the earliest, as the server says; 0 where it does not.
func RetryAfter(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return e.Retry
	}
	return 0
}
