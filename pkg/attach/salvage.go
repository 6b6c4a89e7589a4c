package attach

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"maps"
	"os"
	"slices"
)

// Salvage is what can still be read of a state file.
type Salvage struct {
	// Damage is why the file is no state file any more; nil: it is whole, or there is
	// none ([Salvage.Missing]).
	Damage  error
	Missing bool
	// Records are those that the file leads to.
	Records []*Attachment
	// Loose are those that are somewhere in a damaged file: of one key perhaps several,
	// older ones and deleted ones too, in the order of their places.
	Loose []*Attachment
	// Unreadable are the keys of records that this version cannot read.
	Unreadable []Key
	Networks   []Network // by name, each once
	// Deleted are the hashes of the keys of what was deleted while the file was damaged.
	Deleted map[string]bool

	rest map[string][]pair // of the buckets that are kept as they are
}

type pair struct{ key, value []byte }

// derived are the buckets that follow from the records, and those of kept addresses, whose
// parts have to agree.
var derived = [][]byte{attachmentBucket, networkBucket, leaseBucket, usedBucket, portBucket, deletingBucket, waitingBucket, lostBucket,
	keptBucket, keeperBucket, keptAgeBucket, keptBlockBucket}

// salvage reads a state file, whatever has become of it. It reads the bytes: bbolt trusts
// what it finds, and panics, or never ends, on what it did not write.
func (s *Store) salvage() (*Salvage, error) {
	data, err := os.ReadFile(s.path())
	if errors.Is(err, fs.ErrNotExist) {
		return &Salvage{Missing: true}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the damaged state file: %w", err)
	}
	return salvage(data, s.decode), nil
}

func salvage(data []byte, decode Decoder) *Salvage {
	f := &Salvage{rest: map[string][]pair{}}
	tree := readTree(data)
	networks, deleting := map[string]Network{}, map[string]bool{}
	for _, e := range tree.entries {
		switch {
		case e.bucket == string(attachmentBucket):
			f.addRecord(e, decode)
		case e.bucket == string(deletingBucket):
			deleting[string(e.key)] = true
		case e.bucket == string(networkBucket):
			if n := (Network{}); json.Unmarshal(e.value, &n) == nil && n.Name == string(e.key) {
				networks[n.Name] = n
			}
		case !slices.ContainsFunc(derived, func(b []byte) bool { return string(b) == e.bucket }):
			f.rest[e.bucket] = append(f.rest[e.bucket], e.pair)
		}
	}
	if f.Damage = tree.fault; f.Damage == nil {
		f.Damage = f.compare(tree)
	}
	if f.Damage != nil {
		f.carve(data, decode, networks)
	}
	for _, n := range networks {
		f.Networks = append(f.Networks, n)
	}
	slices.SortFunc(f.Networks, func(a, b Network) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	for _, a := range f.Records {
		a.Deleting = deleting[string(a.bytes())]
	}
	return f
}

func (f *Salvage) addRecord(e entry, decode Decoder) {
	a, err := decodeAttachment(e.value, decode)
	if err != nil || !bytes.Equal(a.bytes(), e.key) {
		f.Unreadable = append(f.Unreadable, parseKey(e.key))
		return
	}
	f.Records = append(f.Records, a)
}

// How the records and networks begin in JSON.
var recordStart, networkStart = []byte(`{"network":"`), []byte(`{"name":"`)

// carve finds records and networks anywhere: each is in one piece, and says itself whose
// it is.
func (f *Salvage) carve(data []byte, decode Decoder, networks map[string]Network) {
	known := map[Key]bool{}
	for _, a := range f.Records {
		known[a.Key] = true
	}
	for raw := range objects(data, recordStart) {
		a, err := decodeAttachment(raw, decode)
		if err == nil && a.Network != "" && a.Container != "" && a.Plugin != "" && !known[a.Key] {
			f.Loose = append(f.Loose, a)
		}
	}
	for raw := range objects(data, networkStart) {
		var n Network
		if json.Unmarshal(raw, &n) != nil || n.Name == "" || n.Plugin == "" {
			continue
		}
		if _, known := networks[n.Name]; !known {
			networks[n.Name] = n
		}
	}
}

// objects calls yield for the JSON objects that begin so.
func objects(data, start []byte) func(func(json.RawMessage) bool) {
	return func(yield func(json.RawMessage) bool) {
		for {
			i := bytes.Index(data, start)
			if i < 0 {
				return
			}
			data = data[i:]
			raw, ok := object(data)
			if ok && !yield(raw) {
				return
			}
			data = data[max(len(start), len(raw)):]
		}
	}
}

// object is the JSON object at the start of some bytes.
func object(data []byte) (raw json.RawMessage, ok bool) {
	const most = 1 << 20 // bytes of a record, by far
	err := json.NewDecoder(bytes.NewReader(data[:min(len(data), most)])).Decode(&raw)
	return raw, err == nil
}

// The file is pages (bbolt, internal/common/page.go), in the machine's byte order. Each
// begins with its number (8 bytes), flags (2), the count of its elements (2), and how
// many pages follow that belong to it (4). An element of a branch has where its key is
// from its own start (4), the key's length (4), and a page (8); one of a leaf has flags
// (4), where its key is (4), the lengths of key and value (4 each), the value behind the
// key. The value of a bucket is the number of its root (8) and a sequence (8); a root of 0
// says that its one leaf follows in the value.
const (
	pageHeader, elementLen  = 16, 16
	branchPage, leafPage    = 1, 2
	freelistPage            = 0x10
	bucketElement           = 1
	metaLen, metaMagic      = 64, 0xED0CDAED
	metaVersion, metaHashed = 2, 56 // bytes that the checksum is of
)

// entry is a pair of a bucket.
type entry struct {
	bucket string
	pair
}

// tree is what the newest root leads to.
type tree struct {
	data    []byte
	size    int // of a page, bytes
	seen    map[uint64]bool
	fault   error // the first
	entries []entry
}

func readTree(data []byte) *tree {
	t := &tree{data: data, seen: map[uint64]bool{}}
	m, ok := t.newest()
	if !ok {
		t.fail("it has no valid meta page")
		return t
	}
	if m.pages > uint64(len(data)/t.size) {
		t.fail("it has %d pages, and had %d", len(data)/t.size, m.pages)
	}
	t.walk("", m.root, 0)
	t.free(m)
	return t
}

func (t *tree) fail(format string, args ...any) {
	if t.fault == nil {
		t.fault = fmt.Errorf(format, args...)
	}
}

// meta describes a whole file (struct meta).
type meta struct{ root, freelist, pages, transaction uint64 }

// newest is what the last transaction wrote that was written whole. It has two places.
func (t *tree) newest() (newest meta, ok bool) {
	for _, size := range []int{os.Getpagesize(), 1 << 12, 1 << 14, 1 << 16} {
		for _, at := range []int{0, size} {
			m, valid := readMeta(t.data, at, size)
			if valid && (!ok || m.transaction > newest.transaction) {
				newest, ok, t.size = m, true, size
			}
		}
		if ok {
			break
		}
	}
	return newest, ok
}

func readMeta(data []byte, at, size int) (m meta, ok bool) {
	at += pageHeader
	if len(data) < at+metaLen {
		return m, false
	}
	b := data[at : at+metaLen]
	sum := fnv.New64a()
	sum.Write(b[:metaHashed])
	order := binary.NativeEndian
	ok = order.Uint32(b) == metaMagic && order.Uint32(b[4:]) == metaVersion && int(order.Uint32(b[8:])) == size &&
		order.Uint64(b[metaHashed:]) == sum.Sum64()
	return meta{order.Uint64(b[16:]), order.Uint64(b[32:]), order.Uint64(b[40:]), order.Uint64(b[48:])}, ok
}

// free looks at the list of pages that nothing uses: what is written next goes there.
func (t *tree) free(m meta) {
	used := maps.Clone(t.seen)
	b, ok := t.page(m.freelist)
	if !ok || binary.NativeEndian.Uint16(b[8:]) != freelistPage {
		t.fail("page %d, the list of free pages, is not as it was written", m.freelist)
		return
	}
	const many = 0xffff // the count is the first number of the list
	count, ids := uint64(binary.NativeEndian.Uint16(b[10:])), b[pageHeader:]
	if count == many && len(ids) >= 8 {
		count, ids = binary.NativeEndian.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		t.fail("page %d, the list of free pages, is cut off", m.freelist)
		return
	}
	for i := range count {
		id := binary.NativeEndian.Uint64(ids[8*i:])
		if id < 2 || id >= m.pages || used[id] {
			t.fail("page %d is used, and in the list of free pages", id)
			return
		}
	}
}

// page returns a page with those that belong to it; not ok when it is not one of the
// tree, or was read before.
func (t *tree) page(id uint64) (b []byte, ok bool) {
	if id >= uint64(len(t.data)/t.size) || t.seen[id] {
		return nil, false
	}
	t.seen[id] = true
	b = t.data[int(id)*t.size:]
	more := uint64(binary.NativeEndian.Uint32(b[12:]))
	if binary.NativeEndian.Uint64(b) != id || more >= uint64(len(b)/t.size) {
		return nil, false
	}
	return b[:int(more+1)*t.size], true
}

// walk reads the pages below one.
func (t *tree) walk(bucket string, id uint64, depth int) {
	const deepest = 64 // levels; each has two pages for one of the level above
	b, ok := t.page(id)
	if !ok || depth > deepest {
		t.fail("page %d is not as it was written", id)
		return
	}
	t.elements(bucket, b, id, depth)
}

// elements reads those of a page, which may be within a value of another one.
func (t *tree) elements(bucket string, b []byte, id uint64, depth int) {
	order := binary.NativeEndian
	flags, count := order.Uint16(b[8:]), int(order.Uint16(b[10:]))
	if flags != branchPage && flags != leafPage || pageHeader+count*elementLen > len(b) {
		t.fail("page %d is not as it was written", id)
		return
	}
	for i := range count {
		e := b[pageHeader+i*elementLen:]
		if flags == branchPage {
			t.walk(bucket, order.Uint64(e[8:]), depth+1)
			continue
		}
		at, keyLen, valueLen := uint64(order.Uint32(e[4:])), uint64(order.Uint32(e[8:])), uint64(order.Uint32(e[12:]))
		if at < elementLen || at+keyLen+valueLen > uint64(len(e)) {
			t.fail("page %d is not as it was written", id)
			continue
		}
		key, value := e[at:at+keyLen], e[at+keyLen:at+keyLen+valueLen]
		if order.Uint32(e)&bucketElement == 0 {
			t.add(bucket, key, value)
			continue
		}
		t.bucket(bucket, string(key), value, id, depth)
	}
}

// add adds a pair. Those of a bucket are in the order of their keys.
func (t *tree) add(bucket string, key, value []byte) {
	if last := len(t.entries) - 1; bucket == "" || last >= 0 && t.entries[last].bucket == bucket && bytes.Compare(t.entries[last].key, key) >= 0 {
		t.fail("key %q is not where it was written", key)
	}
	if bucket != "" {
		t.entries = append(t.entries, entry{bucket, pair{key, value}})
	}
}

// bucket reads one that is an element of the root; the store has none within another.
func (t *tree) bucket(within, name string, value []byte, id uint64, depth int) {
	const header = 16
	if within != "" || name == "" || len(value) < header {
		t.fail("page %d is not as it was written", id)
		return
	}
	root := binary.NativeEndian.Uint64(value)
	switch {
	case root != 0:
		t.walk(name, root, depth+1)
	case len(value) < header+pageHeader:
		t.fail("page %d is not as it was written", id)
	default:
		t.elements(name, value[header:], id, depth+1)
	}
}
