package attach

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

var (
	attachmentBucket = []byte("attachments") // key -> record
	leaseBucket      = []byte("leases")      // network 0 address -> key of the holder
	usedBucket       = []byte("used")        // network 0 block -> bitmap of the leased addresses in it
	cursorBucket     = []byte("cursors")     // network 0 pool -> last address leased from the pool
	portBucket       = []byte("ports")       // protocol port family address -> key of the holder
	networkBucket    = []byte("networks")    // name -> Network
	deletingBucket   = []byte("going")       // key of an attachment that is being deleted
	waitingBucket    = []byte("waiting")     // container 0 key, of attachments with ports that another of the container has
	manualBucket     = []byte("hands")       // container 0 key -> whose it is, of containers that a person connected or disconnected
	lostBucket       = []byte("lost")        // hash -> key of the record that stands for an attachment whose key is lost
	keptBucket       = []byte("kept")        // network 0 address -> range set, age and whose it was, of addresses that were given back
	keeperBucket     = []byte("keepers")     // network 0 whose it was -> address
	keptAgeBucket    = []byte("ages")        // network 0 range set age -> address; age 0: how many there are
	keptBlockBucket  = []byte("keptblocks")  // network 0 block -> bitmap of the kept addresses in it

	buckets = [][]byte{attachmentBucket, leaseBucket, usedBucket, cursorBucket, portBucket, networkBucket, deletingBucket, manualBucket, waitingBucket, lostBucket,
		keptBucket, keeperBucket, keptAgeBucket, keptBlockBucket}
)

// Tx is a transaction on the store. It is valid only inside the function that got it.
type Tx struct {
	tx     *bbolt.Tx
	decode Decoder
}

func (t *Tx) bucket(name []byte) *bbolt.Bucket { return t.tx.Bucket(name) }

func (t *Tx) has(k Key) bool { return t.bucket(attachmentBucket).Get(k.bytes()) != nil }

func (t *Tx) put(a *Attachment) error {
	data, err := json.Marshal(a.record())
	if err != nil {
		return fmt.Errorf("encode record of %s: %w", a.Key, err)
	}
	if err := errors.Join(t.noteManual(a), t.noteWaiting(a), t.noteLost(a.Key)); err != nil {
		return err
	}
	return t.bucket(attachmentBucket).Put(a.bytes(), data)
}

// read decodes a record.
func (t *Tx) read(k, data []byte) (*Attachment, error) {
	a, err := decodeAttachment(data, t.decode)
	if err == nil {
		a.Deleting = t.isDeleting(k)
	}
	return a, err
}

func (t *Tx) isDeleting(k []byte) bool {
	key, _ := t.bucket(deletingBucket).Cursor().Seek(k) // Get cannot tell an empty value from none
	return bytes.Equal(key, k)
}

// drop removes the record, and the leases and ports that are the record's.
func (t *Tx) drop(a *Attachment) error {
	for i, addr := range a.Leases {
		released, err := t.release(a.Network, addr, a.Key)
		if err == nil && released && a.Sticky != "" {
			err = t.keep(a, i, addr)
		}
		if err != nil {
			return err
		}
	}
	for _, p := range a.Ports {
		if err := t.releasePort(p, a.Key); err != nil {
			return err
		}
	}
	if err := errors.Join(t.bucket(deletingBucket).Delete(a.bytes()), t.bucket(waitingBucket).Delete(waitingKey(a.Key)), t.forgetLost(a.Key)); err != nil {
		return err
	}
	// What a person made anew in the place of a runtime's is still for the runtime to delete.
	if !a.Connected || bytes.Equal(t.bucket(manualBucket).Get(manualKey(a.Key)), byPerson) {
		if err := t.forgetManual(a.Key); err != nil {
			return err
		}
	}
	return t.bucket(attachmentBucket).Delete(a.bytes())
}

// HeldError says that something can have one holder, and has one.
type HeldError struct {
	What   string // "address 10.1.0.7", "port 8080/tcp"
	Holder Key
}

func (e *HeldError) Error() string { return fmt.Sprintf("%s is held by %s", e.What, e.Holder) }
