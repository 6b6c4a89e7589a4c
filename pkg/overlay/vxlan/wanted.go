package vxlan

import "iter"

// wanted is one kind of entry that the kernel shall have, by what the kernel tells
// entries of that kind apart by.
type wanted[K, V comparable] struct {
	items map[K]*item[V]
	round uint32 // of the comparison that runs
}

type item[V comparable] struct {
	value V
	peer  string // whose
	round uint32 // the comparison that it was last met in
}

// put has the entry wanted, and tells whether that is new. An entry that two peers
// claim is the last one's.
func (w *wanted[K, V]) put(k K, v V, peer string) bool {
	if w.items == nil {
		w.items = map[K]*item[V]{}
	}
	i := w.items[k]
	if i == nil {
		w.items[k] = &item[V]{value: v, peer: peer}
		return true
	}
	changed := i.value != v
	i.value, i.peer = v, peer
	return changed
}

// drop ends the want of a peer's entry, and tells whether it was that peer's.
func (w *wanted[K, V]) drop(k K, peer string) bool {
	i := w.items[k]
	if i == nil || i.peer != peer {
		return false
	}
	delete(w.items, k)
	return true
}

func (w *wanted[K, V]) get(k K) (V, bool) {
	if i := w.items[k]; i != nil {
		return i.value, true
	}
	var none V
	return none, false
}

// is reports whether exactly this is wanted.
func (w *wanted[K, V]) is(k K, v V) bool {
	have, ok := w.get(k)
	return ok && have == v
}

// compare starts a comparison.
func (w *wanted[K, V]) compare() { w.round++ }

// met notes an entry that the kernel has, and tells whether exactly this is wanted.
func (w *wanted[K, V]) met(k K, v V) bool {
	i := w.items[k]
	if i == nil || i.value != v {
		return false
	}
	i.round = w.round
	return true
}

// has reports whether the entry was met in this comparison.
func (w *wanted[K, V]) has(k K) bool {
	i := w.items[k]
	return i != nil && i.round == w.round
}

// lacking are the entries that were not met in this comparison, in no order.
func (w *wanted[K, V]) lacking() iter.Seq2[K, *item[V]] {
	return func(yield func(K, *item[V]) bool) {
		for k, i := range w.items {
			if i.round != w.round && !yield(k, i) {
				return
			}
		}
	}
}
