package packages

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mvdan.cc/sh/v3/syntax"
)

// reader reads command lines.
type reader struct {
	programs []string // their base names
	open     string   // a function whose parameter decides about one
}

var opened = regexp.MustCompile("\x01([^\x02]*)\x02")

// wrappers are programs that run another one: the first word after them that is neither a
// flag, nor NAME=VALUE, nor one of these flags' arguments. flock and timeout have an
// argument of their own before it.
var wrappers = map[string][]string{
	"nsenter": nil, "unshare": {"--propagation"}, "env": {"-u"}, "timeout": {"."}, "flock": {"."}, "setsid": nil, "nohup": nil, "exec": nil, "command": nil,
	"strace": {"-e", "-o", "-p", "-s"},
}

// line reads the words of one command line.
func (r *reader) line(words []string) {
	if len(words) == 0 || !r.known(words[0]) {
		return
	}
	name, args := filepath.Base(words[0]), words[1:]
	r.programs = append(r.programs, name)
	switch flags, wrapper := wrappers[name]; {
	case wrapper:
		r.line(wrapped(args, flags))
	case name == "sh" || name == "bash":
		if i := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "-") && strings.HasSuffix(a, "c") }); i >= 0 && i+1 < len(args) {
			_ = r.script(args[i+1])
		}
	case name == "ip" && slices.Contains(args, "exec"):
		if i := slices.Index(args, "exec"); i > 0 && args[i-1] == "netns" && i+2 < len(args) {
			r.line(args[i+2:])
		}
	}
}

// known says whether a text is all there.
func (r *reader) known(text string) bool {
	if m := opened.FindStringSubmatch(text); m != nil {
		r.open = m[1]
		return false
	}
	return !strings.Contains(text, unknown)
}

// wrapped is the command line after a wrapper's own arguments.
func wrapped(args, flags []string) []string {
	skip := slices.Contains(flags, ".")
	for i := 0; i < len(args); i++ {
		switch {
		case slices.Contains(flags, args[i]):
			i++
		case strings.HasPrefix(args[i], "-"), strings.Contains(args[i], "="):
		case skip:
			skip = false
		default:
			return args[i:]
		}
	}
	return nil
}

// placeholder is a word that a shell can read.
const placeholder = "UNKNOWN"

// script reads the commands of a shell's script. An error says that it is none: with
// parts that only a run can tell, it need not be.
func (r *reader) script(text string) error {
	if m := opened.FindStringSubmatch(text); m != nil {
		r.open = m[1]
	}
	text = opened.ReplaceAllString(strings.ReplaceAll(text, unknown, placeholder), placeholder)
	f, err := syntax.NewParser().Parse(strings.NewReader(text), "")
	if err != nil {
		return err
	}
	functions := map[string]bool{}
	syntax.Walk(f, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.FuncDecl:
			functions[n.Name.Value] = true
		case *syntax.CallExpr:
			var words []string
			for _, w := range n.Args {
				words = append(words, literal(w.Parts))
			}
			if len(words) > 0 && !functions[words[0]] {
				r.line(words)
			}
		}
		return true
	})
	return nil
}

// literal is a word without its quotes.
func literal(parts []syntax.WordPart) (text string) {
	for _, part := range parts {
		switch p := part.(type) {
		case *syntax.Lit:
			text += strings.ReplaceAll(p.Value, placeholder, unknown)
		case *syntax.SglQuoted:
			text += strings.ReplaceAll(p.Value, placeholder, unknown)
		case *syntax.DblQuoted:
			text += literal(p.Parts)
		default:
			text += unknown
		}
	}
	return text
}

// TestReader reads command lines of every form.
func TestReader(t *testing.T) {
	for _, test := range []struct{ words, want, open string }{
		{"ip link", "ip", ""},
		{"/usr/sbin/nft list", "nft", ""},
		{"nsenter --net=/run/netns/a curl -s", "nsenter curl", ""},
		{"strace -f -o log -e trace=x " + unknown, "strace", ""},
		{"flock -x lock timeout 5 ping -c1", "flock timeout ping", ""},
		{"ip netns exec a env A=b dig", "ip env dig", ""},
		{"ip -n a link", "ip", ""},
		{"unshare -m " + open("f") + " x", "unshare", "f"},
		{"unshare -m --propagation private curl", "unshare curl", ""},
		{open("f"), "", "f"},
		{"ip " + open("f"), "ip", ""},
	} {
		var r reader
		r.line(strings.Fields(test.words))
		if got := strings.Join(r.programs, " "); got != test.want || r.open != test.open {
			t.Errorf("%q: %q, open %q; want %q, %q", test.words, got, r.open, test.want, test.open)
		}
	}
	var r reader
	r.line([]string{"bash", "-ec", "f() { seq 3; }; for i in $(f); do A=b cat <" + unknown + " | grep $i || exec wc -l; done; if ! true; then " + open("g") + "; fi"})
	if got := strings.Join(r.programs, " "); got != "bash seq cat grep exec wc true" || r.open != "g" {
		t.Errorf("script: %q, open %q", got, r.open)
	}
}
