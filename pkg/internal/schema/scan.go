package schema

import "encoding/json"

// members calls fn with each key of a JSON object and its value, in order. What is no
// object has none. It is for text that encoding/json has taken: on another it ends early.
func members(raw []byte, fn func(key string, value []byte)) {
	i := space(raw, 0)
	if i >= len(raw) || raw[i] != '{' {
		return
	}
	for i = space(raw, i+1); i < len(raw) && raw[i] == '"'; i = space(raw, i+1) {
		end := skip(raw, i)
		key := text(raw[i:end])
		if i = space(raw, end); i >= len(raw) || raw[i] != ':' {
			return
		}
		start := space(raw, i+1)
		end = skip(raw, start)
		fn(key, raw[start:end])
		if i = space(raw, end); i >= len(raw) || raw[i] != ',' {
			return
		}
	}
}

// elements calls fn with each element of a JSON array; what is none has none.
func elements(raw []byte, fn func(n int, value []byte)) {
	i := space(raw, 0)
	if i >= len(raw) || raw[i] != '[' {
		return
	}
	i = space(raw, i+1)
	for n := 0; i < len(raw) && raw[i] != ']'; n++ {
		end := skip(raw, i)
		if end == i {
			return
		}
		fn(n, raw[i:end])
		if i = space(raw, end); i < len(raw) && raw[i] == ',' {
			i = space(raw, i+1)
		}
	}
}

func space(raw []byte, i int) int {
	for i < len(raw) && (raw[i] == ' ' || raw[i] == '\n' || raw[i] == '\t' || raw[i] == '\r') {
		i++
	}
	return i
}

// skip returns where the value ends that begins at i.
func skip(raw []byte, i int) int {
	depth := 0
	for ; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			for i++; i < len(raw) && raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return min(i+1, len(raw))
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\n', '\t', '\r', ':':
			if depth == 0 {
				return i
			}
		}
	}
	return i
}

// text is a JSON string without its quotes and escapes.
func text(raw []byte) string {
	for _, c := range raw {
		if c == '\\' {
			var s string
			_ = json.Unmarshal(raw, &s)
			return s
		}
	}
	if len(raw) < 2 {
		return ""
	}
	return string(raw[1 : len(raw)-1])
}
