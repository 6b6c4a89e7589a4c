package probe

import "container/heap"

// queue is a heap that can tell where in it an entry is.
type queue[K comparable] struct {
	which   int // of entry.at
	before  func(a, b *entry[K]) bool
	entries []*entry[K]
}

func (q *queue[K]) Len() int           { return len(q.entries) }
func (q *queue[K]) Less(i, j int) bool { return q.before(q.entries[i], q.entries[j]) }

func (q *queue[K]) Swap(i, j int) {
	q.entries[i], q.entries[j] = q.entries[j], q.entries[i]
	q.entries[i].at[q.which], q.entries[j].at[q.which] = i, j
}

// Push implements [heap.Interface].
func (q *queue[K]) Push(x any) {
	e := x.(*entry[K])
	e.at[q.which] = len(q.entries)
	q.entries = append(q.entries, e)
}

// Pop implements [heap.Interface].
func (q *queue[K]) Pop() any {
	last := len(q.entries) - 1
	e := q.entries[last]
	q.entries[last] = nil
	q.entries = q.entries[:last]
	e.at[q.which] = -1
	return e
}

func (q *queue[K]) first() *entry[K] {
	if len(q.entries) == 0 {
		return nil
	}
	return q.entries[0]
}

func (q *queue[K]) remove(e *entry[K]) {
	if i := e.at[q.which]; i >= 0 {
		heap.Remove(q, i)
	}
}
