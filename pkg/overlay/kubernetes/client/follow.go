package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Selection is which objects of a resource are meant; empty: all.
type Selection struct {
	Labels string // "berth.dev/network=blue"
	Fields string // "metadata.name=host1"
}

func (s Selection) query() url.Values {
	q := url.Values{}
	if s.Labels != "" {
		q.Set("labelSelector", s.Labels)
	}
	if s.Fields != "" {
		q.Set("fieldSelector", s.Fields)
	}
	return q
}

// page is how many objects the server gives in one answer that it reads from its etcd.
const page = 500

// List calls fn with each object, as the server has them now, and returns the resource
// version of that.
func (c *Client) List(ctx context.Context, r Resource, s Selection, fn func(json.RawMessage) error) (version string, err error) {
	q := s.query()
	q.Set("limit", strconv.Itoa(page))
	for {
		next, at, err := c.page(ctx, r.Path()+"?"+q.Encode(), "", fn)
		if err != nil {
			return "", fmt.Errorf("list %s: %w", r.Plural, err)
		}
		if next == "" {
			return at, nil
		}
		q.Set("continue", next)
	}
}

// errStale: the server's cache is behind what has been told.
var errStale = errors.New("the API server's cache is behind")

// listCached is [Client.List] from the server's cache, which may be some moments behind, but
// not behind a version. An etcd that is asked by thousands of clients at once, after the API
// server was started anew, would do that server's work 20 times.
func (c *Client) listCached(ctx context.Context, r Resource, s Selection, least string, fn func(json.RawMessage) error) (version string, err error) {
	q := s.query()
	q.Set("resourceVersion", "0")
	_, at, err := c.page(ctx, r.Path()+"?"+q.Encode(), least, fn)
	if errors.Is(err, errStale) {
		return c.List(ctx, r, s, fn)
	}
	if err != nil {
		return "", fmt.Errorf("list %s: %w", r.Plural, err)
	}
	return at, nil
}

// page reads one answer, an object after the other. It is [errStale] before the first one
// when the answer is older than a version.
func (c *Client) page(ctx context.Context, path, least string, fn func(json.RawMessage) error) (next, version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 6*c.timeout) // there may be many
	defer cancel()
	body, err := c.ask(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return "", "", err
	}
	defer body.Close()
	var meta struct {
		Version  string `json:"resourceVersion"`
		Continue string `json:"continue"`
	}
	list := json.NewDecoder(body)
	word := func() string {
		t, _ := list.Token()
		text, _ := t.(string)
		return text
	}
	if t, err := list.Token(); err != nil || t != json.Delim('{') {
		return "", "", c.sentence(errors.Join(err, errors.New("the answer is no list")))
	}
	for list.More() {
		switch word() {
		case "metadata":
			err = list.Decode(&meta)
			if err == nil && Later(least, meta.Version) {
				return "", "", errStale
			}
		case "items":
			err = each(list, fn)
		default:
			err = list.Decode(new(json.RawMessage))
		}
		if err != nil {
			return "", "", c.sentence(err)
		}
	}
	if _, err := list.Token(); err != nil {
		return "", "", c.sentence(err)
	}
	return meta.Continue, meta.Version, nil
}

// each calls fn with each object of a list in JSON, or null.
func each(list *json.Decoder, fn func(json.RawMessage) error) error {
	if t, err := list.Token(); err != nil || t == nil {
		return err
	}
	for list.More() {
		var item json.RawMessage
		if err := list.Decode(&item); err != nil {
			return err
		}
		if err := fn(item); err != nil {
			return err
		}
	}
	_, err := list.Token()
	return err
}

// Kinds of events.
const (
	Added    = "ADDED"
	Modified = "MODIFIED"
	Deleted  = "DELETED"
)

// Handler is told of the objects of a resource. An error of it ends the Follow, and is
// returned.
type Handler struct {
	// Least is a version that the first objects are not to be older than; empty: any.
	Least string
	// Item is an object that there is, at first.
	Item func(json.RawMessage) error
	// Synced says that those were all, as of a resource version.
	Synced func(version string) error
	// Started says that the watch stands, with nothing missed.
	Started func() error
	// Event is a change, of a kind of [Added], [Modified] and [Deleted]; also of an object
	// that was told at first, before all of those are told.
	Event func(kind string, object json.RawMessage) error
	// Bookmark says that everything up to a resource version has been told.
	Bookmark func(version string) error
}

// ErrEnded: the server has ended a watch in good order, as it does every some minutes.
var ErrEnded = errors.New("the server has ended the watch")

// Watches are ended by the server after this, and up to twice the time, so that those of
// many clients are not renewed at the same moment, and move to a server that came up.
const watchTime = 5 * time.Minute

// Follow tells of all objects, and from there on of changes, until something ends that:
// the error is never nil. With a version, of an earlier Follow, it goes on from there
// without the objects; an error of [IsGone] says that this cannot be done any more.
//
// The first objects come by the watch itself (KEP-3157) where the server does that, from
// its cache in constant memory; otherwise by a list from there.
func (c *Client) Follow(ctx context.Context, r Resource, s Selection, version string, h Handler) error {
	err := c.follow(ctx, r, s, version, h)
	if err != nil && ctx.Err() == nil && !errors.Is(err, ErrEnded) {
		return fmt.Errorf("watch %s: %w", r.Plural, err)
	}
	return err
}

func (c *Client) follow(ctx context.Context, r Resource, s Selection, version string, h Handler) error {
	if version != "" {
		return c.watch(ctx, r, s, version, h)
	}
	if !c.listsOnly.Load() {
		err := c.watch(ctx, r, s, "", h)
		// A server that does not know the way, has it switched off, or an etcd that is too
		// old for it (before 3.4.31 and 3.5.13), says no, in several ways.
		if !is(err, http.StatusUnprocessableEntity, "") && !is(err, http.StatusBadRequest, "") && !is(err, http.StatusInternalServerError, "") {
			return err
		}
		c.listsOnly.Store(true)
	}
	at, err := c.listCached(ctx, r, s, h.Least, h.Item)
	if err != nil {
		return err
	}
	if err := h.Synced(at); err != nil {
		return err
	}
	return c.watch(ctx, r, s, at, h)
}

// event is a line of a watch.
type event struct {
	Type   string          `json:"type"`
	Object json.RawMessage `json:"object"`
}

// initialEnd is the annotation of the bookmark behind the first objects.
const initialEnd = "k8s.io/initial-events-end"

func (c *Client) watch(ctx context.Context, r Resource, s Selection, version string, h Handler) error {
	q := s.query()
	q.Set("watch", "true")
	q.Set("allowWatchBookmarks", "true")
	q.Set("timeoutSeconds", strconv.Itoa(int((watchTime + rand.N(watchTime)).Seconds())))
	if version != "" {
		q.Set("resourceVersion", version)
	} else {
		q.Set("sendInitialEvents", "true")
		q.Set("resourceVersionMatch", "NotOlderThan")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The head of the answer comes at once, or there is nobody.
	var out atomic.Bool
	late := time.AfterFunc(c.timeout, func() { out.Store(true); cancel() })
	body, err := c.ask(ctx, http.MethodGet, r.Path()+"?"+q.Encode(), "", nil)
	if !late.Stop() && out.Load() {
		err = c.sentence(context.DeadlineExceeded)
	}
	if err != nil {
		return err
	}
	defer body.Close()
	w := &watch{h: h, initial: version == ""}
	if !w.initial {
		if err := h.Started(); err != nil {
			return err
		}
	}
	lines := json.NewDecoder(body)
	for {
		var e event
		if err := lines.Decode(&e); err != nil {
			if ctx.Err() == nil && errors.Is(err, io.EOF) {
				return ErrEnded
			}
			return c.sentence(err)
		}
		if err := w.take(e); err != nil {
			return err
		}
	}
}

type watch struct {
	h       Handler
	initial bool // the first objects are not all there yet
}

func (w *watch) take(e event) error {
	switch e.Type {
	case Added, Modified, Deleted:
		if w.initial && e.Type == Added {
			return w.h.Item(e.Object)
		}
		return w.h.Event(e.Type, e.Object)
	case "BOOKMARK":
		var o Object
		if err := json.Unmarshal(e.Object, &o); err != nil {
			return fmt.Errorf("decode a bookmark: %w", err)
		}
		if !w.initial {
			return w.h.Bookmark(o.Metadata.Version)
		}
		if o.Metadata.Annotations[initialEnd] != "true" {
			return nil
		}
		w.initial = false
		if err := w.h.Synced(o.Metadata.Version); err != nil {
			return err
		}
		return w.h.Started()
	case "ERROR":
		var s Status
		if err := json.Unmarshal(e.Object, &s); err != nil {
			return fmt.Errorf("decode an error: %w", err)
		}
		return &Error{Code: s.Code, Reason: s.Reason, Message: s.Message, Retry: time.Duration(s.Details.Retry) * time.Second, What: "watch"}
	}
	return fmt.Errorf("event %s: want ADDED, MODIFIED, DELETED, BOOKMARK or ERROR", strings.ToValidUTF8(e.Type, "?"))
}

// ListsOnly has [Client.Follow] take the first objects by lists, as from a server that does
// not give them by a watch.
func (c *Client) ListsOnly() { c.listsOnly.Store(true) }
