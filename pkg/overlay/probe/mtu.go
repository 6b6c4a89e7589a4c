package probe

// largest finds the largest UDP payload that passes, where low does and high does
// not. Sizes that do not pass each take all tries, so eight sizes are asked at a
// time: three or four rounds.
func (e *exchange) largest(low, high int) (int, error) {
	const parallel = 8
	for high-low > 1 {
		var packets []packet
		step := max(1, (high-low+parallel)/(parallel+1))
		for size := low + step; size < high; size += step {
			packets = append(packets, packet{size: size})
		}
		answers, err := e.ask(packets...)
		if err != nil {
			return 0, err
		}
		// One that is lost by chance below one that passes does not matter.
		for p := range answers {
			low = max(low, p.size)
		}
		high = min(high, low+step)
	}
	return low, nil
}
