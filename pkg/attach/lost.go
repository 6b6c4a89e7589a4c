package attach

// Lost is the role of a record that stands for an attachment whose key nobody knows any
// more: its own record was lost, and what the kernel has carries no more than the key's
// hash, which is the record's Container. It keeps the address and the ports of a
// container that lives from others. Whoever knows the key finds it: the DEL of the
// container's runtime deletes it.
const Lost Role = "lost"

// findLost returns the lost record that is of the key; nil when there is none.
func (t *Tx) findLost(k Key) (*Attachment, error) {
	raw := t.bucket(lostBucket).Get([]byte(k.Hash()))
	if raw == nil {
		return nil, nil
	}
	data := t.bucket(attachmentBucket).Get(raw)
	if data == nil {
		return nil, nil
	}
	return t.read(raw, data)
}

// noteLost has a record found by the hash of the key that it stands for.
func (t *Tx) noteLost(k Key) error {
	if k.Role != Lost {
		return nil
	}
	return t.bucket(lostBucket).Put([]byte(k.Container), k.bytes())
}

func (t *Tx) forgetLost(k Key) error {
	if k.Role != Lost {
		return nil
	}
	return t.bucket(lostBucket).Delete([]byte(k.Container))
}
