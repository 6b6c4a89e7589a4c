package main

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// value is a flag that says what it wants when it is given something else. The
// same words are for the command line and for the configuration file.
type value struct {
	kind string // as the help names it
	get  func() string
	set  func(string) error
	bare string // what the flag means without a value; empty: it wants one
}

func (v *value) String() string {
	if v.get == nil { // pflag asks a zero one for the default
		return ""
	}
	return v.get()
}
func (v *value) Set(s string) error { return v.set(s) }
func (v *value) Type() string       { return v.kind }

// oneOf is a word out of several; the first is the default.
func oneOf(to *string, words ...string) pflag.Value {
	*to = words[0]
	return &value{kind: strings.Join(words, "|"), get: func() string { return *to }, set: func(s string) error {
		if !slices.Contains(words, s) {
			return fmt.Errorf("want %s", strings.Join(words, ", "))
		}
		*to = s
		return nil
	}}
}

// number is a whole number from least to most.
func number(to *int, kind string, least, most int) pflag.Value {
	return &value{kind: kind, get: func() string { return strconv.Itoa(*to) }, set: func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < least || n > most {
			return fmt.Errorf("want a number, %d to %d", least, most)
		}
		*to = n
		return nil
	}}
}

// duration is one of at least that long.
func duration(to *time.Duration, def, least time.Duration) pflag.Value {
	*to = def
	return &value{kind: "duration", get: func() string { return short(*to) }, set: func(s string) error {
		d, err := time.ParseDuration(s)
		if err != nil || d < least {
			return fmt.Errorf("want a duration of %s or more, such as 5s, 1m30s or 720h", short(least))
		}
		*to = d
		return nil
	}}
}

// short is a duration without the units that say nothing.
func short(d time.Duration) string {
	if d == 0 {
		return ""
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// words are texts, separated by commas; a flag that is given again adds to them.
func words(to *[]string, kind string, def ...string) pflag.Value {
	*to = def
	given := false
	return &value{kind: kind, get: func() string { return strings.Join(*to, ",") }, set: func(s string) error {
		more := strings.Split(s, ",")
		if slices.Contains(more, "") {
			return errors.New("want texts, separated by commas, none of them empty")
		}
		if !given {
			*to, given = nil, true
		}
		*to = append(*to, more...)
		return nil
	}}
}

// prefixes are subnets, separated by commas or given one by one.
func prefixes(to *[]netip.Prefix) pflag.Value {
	return &value{kind: "prefix", get: func() string { return "" }, set: func(s string) error {
		for word := range strings.SplitSeq(s, ",") {
			p, err := netip.ParsePrefix(word)
			if err != nil {
				return errors.New("want a prefix such as 10.42.0.0/16 or fd00:42::/48")
			}
			*to = append(*to, p)
		}
		return nil
	}}
}

// lengths are prefix lengths, separated by commas.
func lengths(to *[]int) pflag.Value {
	return &value{kind: "bits", get: func() string { return "" }, set: func(s string) error {
		for word := range strings.SplitSeq(s, ",") {
			n, err := strconv.Atoi(word)
			if err != nil || n < 0 || n > math.MaxUint8 {
				return errors.New("want the length of a prefix, or two: 24 or 24,64")
			}
			*to = append(*to, n)
		}
		return nil
	}}
}

// labels are pairs, or keys alone, one for each time that the flag is given.
func labels(to *map[string]string) pflag.Value {
	return &value{kind: "key=value", get: func() string { return "" }, set: func(s string) error {
		key, text, _ := strings.Cut(s, "=")
		if key == "" {
			return errors.New("want key=value, or key")
		}
		if *to == nil {
			*to = map[string]string{}
		}
		(*to)[key] = text
		return nil
	}}
}

// text is any text, or where check is not nil, one that it has nothing against.
func text(to *string, kind, def string, check func(string) error) pflag.Value {
	*to = def
	return &value{kind: kind, get: func() string { return *to }, set: func(s string) error {
		if check != nil {
			if err := check(s); err != nil {
				return err
			}
		}
		*to = s
		return nil
	}}
}

// onOff is a switch; the flag alone means on.
func onOff(to *bool) pflag.Value {
	return &value{kind: "bool", bare: "true", get: func() string { return strconv.FormatBool(*to) }, set: func(s string) error {
		on, err := strconv.ParseBool(s)
		if err != nil {
			return errors.New("want true or false")
		}
		*to = on
		return nil
	}}
}

// addFlag adds a flag that [onOff] and its like have made.
func addFlag(flags *pflag.FlagSet, v pflag.Value, name, usage string) {
	f := flags.VarPF(v, name, "", usage)
	f.NoOptDefVal = v.(*value).bare
}
