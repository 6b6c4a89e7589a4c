package schema

import "strings"

// near returns the key that a name comes near to: a slip or two of the pen, or other
// separators between its words. Short names are near to none, since too many are.
func (t *Table) near(plain string) *Key {
	var best *Key
	nearest := 3
	for _, group := range t.Keys {
		for i := range group {
			own := squash(group[i].Name)
			most := 2
			switch {
			case len(own) < 4:
				most = 0
			case len(own) < 6:
				most = 1
			}
			if d := distance(plain, own, most); d <= most && d < nearest {
				best, nearest = &group[i], d
			}
		}
	}
	return best
}

// squash is a name without capitals and separators: range_start is rangestart.
func squash(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || r == ' ' {
			return -1
		}
		return r
	}, strings.ToLower(name))
}

// distance is how many letters have to be put in, left out, changed, or swapped with the
// next to make b of a (optimal string alignment); more than most when it is more.
func distance(a, b string, most int) int {
	if len(a)-len(b) > most || len(b)-len(a) > most {
		return most + 1
	}
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := last[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			row[j] = min(last[j]+1, row[j-1]+1, change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
