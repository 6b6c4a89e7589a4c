package schema

import (
	"errors"
	"strings"
	"testing"
)

// conf is a part of a bridge's configuration, with Go's types.
type conf struct {
	embedded
	MTU        int
	BcQueueLen uint32 `json:"bcqueuelen"`
	VLANTrunk  []struct{ ID int }
	Runtime    struct {
		PortMappings []struct{ HostPort int }
		IPs          []string
	} `json:"runtimeConfig"`
	DNS struct{ Nameservers []string }
}

type embedded struct {
	Bridge   string
	Internal bool
}

// TestDecode: a value of another type is named with its path, as it is written, and with
// what is allowed; all of them, and without Go's words.
func TestDecode(t *testing.T) {
	for text, want := range map[string]string{
		`{"bridge": "a", "mtu": 5, "internal": null}`: "",
		`{"bridge": 5}`:                               "bridge: 5: want a string in quotes",
		`{"internal": "true"}`:                        `internal: "true": want true or false, without quotes`,
		`{"Internal": 1}`:                             `Internal: 1: want true or false, without quotes`,
		`{"mtu": "1500"}`:                             `mtu: "1500": want a whole number, without quotes`,
		`{"mtu": 1.5}`:                                "mtu: 1.5: want a whole number",
		`{"mtu": 1e30}`:                               "mtu: 1e30: want a whole number",
		`{"bcqueuelen": -1}`:                          "bcqueuelen: -1: want a whole number, 0 to 4294967295",
		`{"runtimeConfig": []}`:                       "runtimeConfig: []: want an object",
		`{"runtimeConfig": {"ips": "10.1.0.2"}}`:      `runtimeConfig.ips: "10.1.0.2": want a list of strings`,
		`{"runtimeConfig": {"ips": ["10.1.0.2", 5]}}`: `runtimeConfig.ips: ["10.1.0.2", 5]: want a list of strings`,
		`{"runtimeConfig": {"portMappings": {"hostPort": 80}}}`:         `runtimeConfig.portMappings: {"hostPort": 80}: want a list of objects`,
		`{"runtimeConfig": {"portMappings": [{"hostPort": 80}, 5]}}`:    "runtimeConfig.portMappings[1]: 5: want an object",
		`{"runtimeConfig": {"portMappings": [{}, {"hostPort": "80"}]}}`: `runtimeConfig.portMappings[1].hostPort: "80": want a whole number`,
		`{"vlanTrunk": [{"id": "5"}]}`:                                  `vlanTrunk[0].id: "5": want a whole number`,
		`{"dns": {"nameservers": "9.9.9.9"}, "mtu": true}`:              "dns.nameservers: \"9.9.9.9\": want a list of strings\nmtu: true: want a whole number, without quotes",
		`[]`:                 "configuration: []: want an object",
		`"x"`:                `configuration: "x": want an object`,
		``:                   "configuration: is no JSON: unexpected end of JSON input (line 1, character 0)",
		"{\n \"mtu\": 5,\n}": "configuration: is no JSON: invalid character '}' looking for beginning of object key string (line 3, character 1)",
	} {
		var c conf
		err := tableOfTest().Decode("", []byte(text), &c)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%s: %s\nwant: %s", text, got, want)
		}
		for _, word := range []string{"json:", "Go ", "struct", "unmarshal", "float64", "[]"} {
			if strings.Contains(strings.ReplaceAll(got, ": []:", ""), word) {
				t.Errorf("%s: %s: has the word %q", text, got, word)
			}
		}
		var mistyped *TypeError
		if err != nil && !errors.As(err, &mistyped) && !errors.Is(err, ErrSyntax) {
			t.Errorf("%s: %v is of no kind", text, err)
		}
	}
}

// tableOfTest is a bridge's, with a key of macvlan's whose numbers have no sign.
func tableOfTest() *Table {
	t := *Plugin("bridge")
	t.Keys = append([][]Key{macvlan}, t.Keys...)
	return &t
}

func TestSection(t *testing.T) {
	for path, want := range map[string]*Table{"dns": dns, "args": args, "args.cni": CNIArgs, "runtimeConfig.dns": runtimeDNS, "mtu": nil, "none": nil, "mtu.x": nil} {
		if got := Plugin("bridge").Section(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

func TestIsZero(t *testing.T) {
	for value, want := range map[string]bool{`null`: true, `0`: true, `false`: true, `""`: true, `[]`: true, `{"a": {"b": [0, null]}}`: true, ``: true,
		`1`: false, `true`: false, `"0"`: false, `[1]`: false, `{"a": 0.5}`: false} {
		if got := IsZero([]byte(value)); got != want {
			t.Errorf("%s: %v", value, got)
		}
	}
}
