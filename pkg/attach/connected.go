package attach

import (
	"bytes"
	"context"
	"iter"
)

// A runtime deletes what it made, and does not know what a person attached beside it
// ([Attachment.Connected]), or took away before it was asked to ([Store.Disconnect]).
// So the store keeps a list of the attachments of each container that a person connected
// or disconnected, with who made them: a runtime's last DEL finds there what has to go with
// it. Of all other containers there is nothing, and one lookup says so.

// Who made an attachment.
var (
	byRuntime = []byte("runtime") // which will ask for a DEL, even where the record has gone
	byPerson  = []byte("person")
)

func manualKey(k Key) []byte { return append([]byte(k.Container+"\x00"), k.bytes()...) }

// manual are the listed attachments of a container, with whose they are.
func (t *Tx) manual(container string) iter.Seq2[Key, []byte] {
	return func(yield func(Key, []byte) bool) {
		prefix := []byte(container + "\x00")
		c := t.bucket(manualBucket).Cursor()
		for k, by := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, by = c.Next() {
			if !yield(parseKey(k[len(prefix):]), by) {
				return
			}
		}
	}
}

// noteManual lists an attachment whose record is about to be written, if its container
// is listed, or is from now on.
func (t *Tx) noteManual(a *Attachment) error {
	if !a.Connected && !t.listed(a.Container) {
		return nil
	}
	if err := t.list(a.Container); err != nil {
		return err
	}
	b := t.bucket(manualBucket)
	switch {
	case b.Get(manualKey(a.Key)) != nil: // a runtime will ask for its DEL, whoever made it anew
		return nil
	case a.Connected:
		return b.Put(manualKey(a.Key), byPerson)
	}
	return b.Put(manualKey(a.Key), byRuntime)
}

func (t *Tx) listed(container string) bool {
	for range t.manual(container) {
		return true
	}
	return false
}

// list lists what the container's runtime has made. It reads the keys of all records,
// when a person first connects or disconnects a container.
func (t *Tx) list(container string) error {
	if t.listed(container) {
		return nil
	}
	c := t.bucket(attachmentBucket).Cursor()
	for raw, _ := c.First(); raw != nil; raw, _ = c.Next() {
		if k := parseKey(raw); k.Container == container {
			if err := t.bucket(manualBucket).Put(manualKey(k), byRuntime); err != nil {
				return err
			}
		}
	}
	return nil
}

// goesWith returns what a person has connected the container of k to, if k is the last
// that its runtime made and is not deleting.
func (t *Tx) goesWith(k Key) []Key {
	if !bytes.Equal(t.bucket(manualBucket).Get(manualKey(k)), byRuntime) || t.others(k) {
		return nil
	}
	var with []Key
	for other, by := range t.manual(k.Container) {
		if bytes.Equal(by, byPerson) {
			with = append(with, other)
		}
	}
	return with
}

// others tells whether the container of k has something else that its runtime made and
// is not deleting.
func (t *Tx) others(k Key) bool {
	for other, by := range t.manual(k.Container) {
		if other != k && bytes.Equal(by, byRuntime) && !t.isDeleting(other.bytes()) {
			return true
		}
	}
	return false
}

// dropDisconnected drops the record of what a person disconnects. Whether the runtime will
// ask for its DEL stays.
func (t *Tx) dropDisconnected(a *Attachment) error {
	if err := t.list(a.Container); err != nil {
		return err
	}
	by := bytes.Clone(t.bucket(manualBucket).Get(manualKey(a.Key)))
	if err := t.drop(a); err != nil || !bytes.Equal(by, byRuntime) {
		return err
	}
	return t.bucket(manualBucket).Put(manualKey(a.Key), by)
}

func (t *Tx) forgetManual(k Key) error { return t.bucket(manualBucket).Delete(manualKey(k)) }

// find returns the record of an attachment, nil when there is none, and then whether a
// person has disconnected what a runtime made.
func (s *Store) find(ctx context.Context, k Key) (a *Attachment, disconnected bool, err error) {
	err = s.View(ctx, func(tx *Tx) error {
		data := tx.bucket(attachmentBucket).Get(k.bytes())
		var err error
		if data == nil {
			disconnected = tx.bucket(manualBucket).Get(manualKey(k)) != nil
			a, err = tx.findLost(k)
			return err
		}
		a, err = tx.read(k.bytes(), data)
		return err
	})
	return a, disconnected, err
}

// disconnected returns the keys of a network's attachments that a person has
// disconnected and no runtime has asked to delete.
func (s *Store) disconnected(ctx context.Context, network string) (all []*Attachment, err error) {
	err = s.View(ctx, func(tx *Tx) error {
		return tx.bucket(manualBucket).ForEach(func(row, _ []byte) error {
			_, raw, _ := bytes.Cut(row, []byte{0})
			if k := parseKey(raw); k.Network == network && !tx.has(k) {
				all = append(all, &Attachment{Key: k})
			}
			return nil
		})
	})
	return all, err
}

// inUse tells whether the container of k has something else that its runtime made.
func (s *Store) inUse(ctx context.Context, k Key) (found bool, err error) {
	err = s.View(ctx, func(tx *Tx) error {
		found = tx.others(k)
		return nil
	})
	return found, err
}
