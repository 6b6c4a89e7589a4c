package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// DialContext connects from the host.
func (h *Host) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = h.Do(func() error {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// DialContext is [Host.DialContext] of the calling process.
func (Here) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

// client speaks HTTP from the host, 2 s for each request at most.
func (h *Host) client() *http.Client {
	return &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DialContext: h.DialContext, MaxIdleConns: 4, IdleConnTimeout: time.Second}}
}

// Get asks a web server from the host; the body of any answer but 200 is an error.
func (h *Host) Get(url string) (string, error) { return get(h.client(), url) }

func get(c *http.Client, url string) (string, error) {
	resp, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("get %s: %s: %s", url, resp.Status, body)
	}
	return string(body), err
}

// call asks etcd through its JSON gateway (the same gRPC calls, no program to start for
// each) of the first member that answers.
func (e *Etcd) call(path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	var failures []error
	for _, m := range e.Members {
		resp, err := m.client.Post(m.url()+path, "application/json", bytes.NewReader(body))
		if err != nil {
			failures = append(failures, err)
			continue
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			return errors.Join(fmt.Errorf("etcd %s: %s: %s", path, resp.Status, answer), err)
		}
		return json.Unmarshal(answer, out)
	}
	return errors.Join(failures...)
}

// header is the head of every answer. Numbers of 64 bits come as strings, bytes
// in base64, which is what []byte is in JSON.
type header struct {
	Revision int64 `json:"revision,string"`
}

type pair struct {
	Key   []byte `json:"key"`
	Value []byte `json:"value,omitempty"`
	Lease int64  `json:"lease,string,omitempty"`
}

// span is the keys with a prefix; all for an empty one.
type span struct {
	Key []byte `json:"key"`
	End []byte `json:"range_end"`
}

func spanOf(prefix string) span {
	if prefix == "" {
		return span{[]byte{0}, []byte{0}}
	}
	end := []byte(prefix)
	end[len(end)-1]++
	return span{[]byte(prefix), end}
}

// Keys returns the keys with a prefix, and their values.
func (e *Etcd) Keys(prefix string) (map[string]string, error) {
	var out struct{ Kvs []pair }
	if err := e.call("/v3/kv/range", spanOf(prefix), &out); err != nil {
		return nil, err
	}
	keys := map[string]string{}
	for _, kv := range out.Kvs {
		keys[string(kv.Key)] = string(kv.Value)
	}
	return keys, nil
}

// putsAtOnce is fewer than etcd's limit of operations in a transaction, 128.
const putsAtOnce = 100

// Put writes keys, a hundred in a transaction.
func (e *Etcd) Put(keys map[string]string) error {
	type operation struct {
		Put pair `json:"request_put"`
	}
	var batch []operation
	send := func() error {
		defer func() { batch = nil }()
		return e.call("/v3/kv/txn", map[string]any{"success": batch}, &struct{}{})
	}
	for k, v := range keys {
		if batch = append(batch, operation{pair{Key: []byte(k), Value: []byte(v)}}); len(batch) == putsAtOnce {
			if err := send(); err != nil {
				return err
			}
		}
	}
	if len(batch) == 0 {
		return nil
	}
	return send()
}

// Delete deletes the keys with a prefix.
func (e *Etcd) Delete(prefix string) error {
	return e.call("/v3/kv/deleterange", spanOf(prefix), &struct{}{})
}

// Revision is the store's revision, which every write adds one to.
func (e *Etcd) Revision() (int64, error) {
	var out struct{ Header header }
	err := e.call("/v3/kv/range", map[string]any{"key": []byte{1}}, &out)
	return out.Header.Revision, err
}

// Compact forgets all revisions before the newest, so that a watch that starts from
// an older one is cancelled.
func (e *Etcd) Compact() error {
	revision, err := e.Revision()
	if err != nil {
		return err
	}
	return e.call("/v3/kv/compaction", map[string]any{"revision": fmt.Sprint(revision), "physical": true}, &struct{}{})
}

// RevokeLeases ends every lease, as if the store had lost all clients for their time
// to live. It returns how many there were.
func (e *Etcd) RevokeLeases() (int, error) {
	var out struct {
		Leases []struct {
			ID string `json:"ID"`
		}
	}
	if err := e.call("/v3/lease/leases", struct{}{}, &out); err != nil {
		return 0, err
	}
	for _, l := range out.Leases {
		if err := e.call("/v3/lease/revoke", map[string]string{"ID": l.ID}, &struct{}{}); err != nil {
			return 0, err
		}
	}
	return len(out.Leases), nil
}
