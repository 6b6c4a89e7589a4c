package attach

import (
	"bytes"
	"context"
	"slices"
)

// A container on several networks publishes a port once: the first network keeps it,
// and the others wait for it ([Attachment.Waiting]). With the first one's end it goes to
// the next that asked.

func waitingKey(k Key) []byte { return append([]byte(k.Container+"\x00"), k.bytes()...) }

// noteWaiting lists an attachment that waits for ports, or no longer does.
func (t *Tx) noteWaiting(a *Attachment) error {
	b := t.bucket(waitingBucket)
	if len(a.Waiting) > 0 {
		return b.Put(waitingKey(a.Key), []byte{1})
	}
	if b.Get(waitingKey(a.Key)) == nil {
		return nil
	}
	return b.Delete(waitingKey(a.Key))
}

// passOn gives the ports that an attachment had to those of its container that wait for
// them. It returns which ones have more ports now.
func (t *Tx) passOn(from *Attachment) (changed []Key, err error) {
	if len(from.Ports) == 0 {
		return nil, nil
	}
	prefix := []byte(from.Container + "\x00")
	var waiting []*Attachment
	c := t.bucket(waitingBucket).Cursor()
	for row, _ := c.Seek(prefix); row != nil && bytes.HasPrefix(row, prefix); row, _ = c.Next() {
		raw := row[len(prefix):]
		a, err := t.read(raw, t.bucket(attachmentBucket).Get(raw))
		if err == nil && !a.Deleting && a.Key != from.Key { // else it is nothing that could have a port
			waiting = append(waiting, a)
		}
	}
	slices.SortStableFunc(waiting, func(a, b *Attachment) int { return a.Created.Compare(b.Created) })
	for _, a := range waiting {
		n := len(a.Waiting)
		a.Waiting = slices.DeleteFunc(a.Waiting, func(p Port) bool {
			if t.ClaimPort(p, a.Key) != nil {
				return false
			}
			a.Ports = append(a.Ports, p)
			return true
		})
		if len(a.Waiting) == n {
			continue
		}
		if err := t.put(a); err != nil {
			return nil, err
		}
		changed = append(changed, a.Key)
	}
	return changed, nil
}

// publish has attachments publish the ports that they have got. What cannot be done now
// is said by a CHECK, and done by a reload.
func (s *Store) publish(ctx context.Context, all []Key) {
	for _, k := range all {
		_, _ = s.Reload(ctx, k, ofPorts)
	}
}

// ofPorts are the steps of an attachment that may be added again at any time, and that know of its
// ports: in the firewall, and on what containers share.
func ofPorts(a *Attachment) []Step {
	return slices.DeleteFunc(slices.Clone(a.Steps), func(st Step) bool {
		_, shared := st.(Shared)
		_, restorable := st.(Restorable)
		return !shared && !restorable
	})
}
