package ipam

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/berth-cni/berth/pkg/attach"
)

var _ attach.Step = (*Delegate)(nil)

// fake writes an IPAM plugin, a shell script, to a folder that is its CNI_PATH. It
// keeps a log of the commands, and of the environment and stdin of the last one.
func fake(t *testing.T, body string) (path string) {
	t.Helper()
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\ncd %q\necho $CNI_COMMAND >>log\nenv >env\ncat >stdin\n%s\n", dir, body)
	if err := os.WriteFile(filepath.Join(dir, "fake"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func read(t *testing.T, path, file string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path, file))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func conf(version string) json.RawMessage {
	return json.RawMessage(`{"cniVersion":"` + version + `","name":"net","type":"bridge","ipam":{"type":"fake"}}`)
}

func attachment() *attach.Attachment {
	return &attach.Attachment{Key: key("c1"), Netns: "/run/netns/c1", Routes: []attach.Route{{Dst: prefix("10.9.0.0/16")}}}
}

const fullResult = `{"cniVersion":"1.1.0",
 "ips":[{"address":"10.1.0.7/24","gateway":"10.1.0.1"},{"address":"fd00::7/64"}],
 "routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1","mtu":1400,"table":7},{"dst":"fd00:1::/32"}],
 "dns":{"nameservers":["10.1.0.53"],"search":["a.example"]}}`

// TestDelegateLife: ADD, CHECK and, from the record alone, DEL.
func TestDelegateLife(t *testing.T) {
	path := fake(t, "[ $CNI_COMMAND = ADD ] && echo '"+fullResult+"'; true")
	t.Setenv("CNI_COMMAND", "CHECK") // our own call's, which must not reach the plugin
	t.Setenv("CNI_CONTAINERID", "other")
	d := &Delegate{Type: "fake", Conf: conf("1.1.0"), Path: "/nowhere::" + path, Args: "K8S_POD_NAME=p;X=y"}
	a := attachment()
	adding := &attach.Adding{Attachment: a}
	if err := d.Add(t.Context(), adding); err != nil {
		t.Fatal(err)
	}
	table := 7
	want := &attach.Adding{Attachment: attachment()}
	want.Changed()
	want.Addresses = []attach.Address{
		{Prefix: prefix("10.1.0.7/24"), Gateway: addr("10.1.0.1")},
		{Prefix: prefix("fd00::7/64")},
	}
	want.Routes = append(want.Routes,
		attach.Route{Dst: prefix("0.0.0.0/0"), Gateway: addr("10.1.0.1"), MTU: 1400, Table: &table},
		attach.Route{Dst: prefix("fd00:1::/32")})
	if !reflect.DeepEqual(adding, want) {
		t.Errorf("got  %+v\nwant %+v", a, want.Attachment)
	}
	if want := (types.DNS{Nameservers: []string{"10.1.0.53"}, Search: []string{"a.example"}}); !reflect.DeepEqual(d.DNS, want) {
		t.Errorf("DNS: got %+v", d.DNS)
	}

	record, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	d = &Delegate{}
	if err := json.Unmarshal(record, d); err != nil {
		t.Fatal(err)
	}
	for _, run := range []func(context.Context, *attach.Attachment) error{d.Check, d.Del, d.Del} {
		if err := run(t.Context(), attachment()); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, path, "log"); got != "ADD\nCHECK\nDEL\nDEL" {
		t.Errorf("commands: %q", got)
	}
	if got := read(t, path, "stdin"); got != string(conf("1.1.0")) {
		t.Errorf("stdin: %s", got)
	}
	env := "\n" + read(t, path, "env") + "\n"
	for _, want := range []string{
		"CNI_COMMAND=DEL", "CNI_CONTAINERID=c1", "CNI_NETNS=/run/netns/c1", "CNI_IFNAME=eth0",
		"CNI_ARGS=K8S_POD_NAME=p;X=y", "CNI_PATH=/nowhere::" + path, "PATH=" + os.Getenv("PATH"),
	} {
		if !strings.Contains(env, "\n"+want+"\n") {
			t.Errorf("environment has no %s:\n%s", want, env)
		}
	}
}

// TestDelegateVersions: results as each version of the spec writes them.
func TestDelegateVersions(t *testing.T) {
	for _, c := range []struct{ version, result string }{
		{"0.1.0", `{"cniVersion":"0.1.0","ip4":{"ip":"10.1.0.7/24","gateway":"10.1.0.1","routes":[{"dst":"0.0.0.0/0"}]}}`},
		{"0.2.0", `{"ip4":{"ip":"10.1.0.7/24","gateway":"10.1.0.1","routes":[{"dst":"0.0.0.0/0"}]}}`},
		{"0.3.1", `{"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.1.0.7/24","gateway":"10.1.0.1"}],"routes":[{"dst":"0.0.0.0/0"}]}`},
		{"0.4.0", `{"ips":[{"version":"4","address":"10.1.0.7/24","gateway":"10.1.0.1"}],"routes":[{"dst":"0.0.0.0/0"}]}`},
		{"1.0.0", `{"cniVersion":"","ips":[{"address":"10.1.0.7/24","gateway":"10.1.0.1"}],"routes":[{"dst":"0.0.0.0/0"}]}`},
		{"1.1.0", `{"cniVersion":"1.0.0","ips":[{"address":"10.1.0.7/24","gateway":"10.1.0.1"}],"routes":[{"dst":"0.0.0.0/0"}]}`},
	} {
		path := fake(t, "echo '"+c.result+"'")
		d := &Delegate{Type: "fake", Conf: conf(c.version), Path: path}
		a := &attach.Attachment{Key: key("c1")}
		if err := d.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
			t.Errorf("%s: %v", c.version, err)
			continue
		}
		if want := []attach.Address{{Prefix: prefix("10.1.0.7/24"), Gateway: addr("10.1.0.1")}}; !reflect.DeepEqual(a.Addresses, want) {
			t.Errorf("%s: addresses %v", c.version, a.Addresses)
		}
		// 0.1.0 and 0.2.0 have a route's gateway filled in by the conversion.
		if len(a.Routes) != 1 || a.Routes[0].Dst != prefix("0.0.0.0/0") {
			t.Errorf("%s: routes %v", c.version, a.Routes)
		}
		if err := d.Check(t.Context(), a); err != nil {
			t.Errorf("%s: CHECK: %v", c.version, err)
		}
		want := "ADD\nCHECK"
		if c.version < "0.4.0" {
			want = "ADD"
		}
		if got := read(t, path, "log"); got != want {
			t.Errorf("%s: commands %q, want %q", c.version, got, want)
		}
	}
}

// TestDelegateFails: each way in which ADD fails is followed by a DEL, and leaves
// the attachment as it was.
func TestDelegateFails(t *testing.T) {
	for _, c := range []struct {
		name, add, want string
		code            uint
	}{
		{"error", `echo '{"cniVersion":"1.1.0","code":11,"msg":"no lease yet","details":"dhcp"}'; exit 1`, "ADD by ipam plugin fake: no lease yet; dhcp", 11},
		{"no JSON", `echo oops; exit 3`, `exit status 3, with "oops" in place of an error`, 0},
		{"nothing", `exit 3`, "exit status 3", 0},
		{"empty error", `echo '{}'; exit 1`, `exit status 1, with "{}"`, 0},
		{"no result", `true`, "unexpected end of JSON input", 0},
		{"null", `echo null`, "want an object, not null", 0},
		{"no address", `echo '{"cniVersion":"1.1.0"}'`, "has no address", 0},
		{"not an address", `echo '{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.7"}]}'`, "invalid CIDR address: 10.1.0.7", 0},
		{"address left out", `echo '{"cniVersion":"1.1.0","ips":[{}]}'`, "result of ipam plugin fake", 0},
		{"unknown version", `echo '{"cniVersion":"9.9.9","ips":[{"address":"10.1.0.7/24"}]}'`, `"9.9.9"`, 0},
		{"killed", `kill -9 $$`, "signal: killed", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := fake(t, "[ $CNI_COMMAND = ADD ] || exit 0\n"+c.add)
			a := attachment()
			err := (&Delegate{Type: "fake", Conf: conf("1.1.0"), Path: path}).Add(t.Context(), &attach.Adding{Attachment: a})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			var said *types.Error
			if errors.As(err, &said) != (c.code != 0) || said != nil && said.Code != c.code {
				t.Errorf("code: %+v, want %d", said, c.code)
			}
			if got := read(t, path, "log"); got != "ADD\nDEL" {
				t.Errorf("commands: %q", got)
			}
			if !reflect.DeepEqual(a, attachment()) {
				t.Errorf("attachment changed: %+v", a)
			}
		})
	}
}

func TestDelegateBothFail(t *testing.T) {
	path := fake(t, `echo "{\"code\":100,\"msg\":\"$CNI_COMMAND is not today\"}"; exit 1`)
	err := (&Delegate{Type: "fake", Conf: conf("1.1.0"), Path: path}).Add(t.Context(), &attach.Adding{Attachment: attachment()})
	if err == nil || !strings.Contains(err.Error(), "ADD is not today") || !strings.Contains(err.Error(), "DEL is not today") || !errors.Is(err, attach.ErrLeft) {
		t.Errorf("got %v", err)
	}
}

// TestDelegateCancelled: the plugin is killed, and DEL runs all the same.
func TestDelegateCancelled(t *testing.T) {
	path := fake(t, `[ $CNI_COMMAND = ADD ] && exec sleep 60; true`)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		for range 1000 { // until the plugin runs
			if log, _ := os.ReadFile(filepath.Join(path, "log")); len(log) > 0 {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	start := time.Now()
	err := (&Delegate{Type: "fake", Conf: conf("1.1.0"), Path: path}).Add(ctx, &attach.Adding{Attachment: attachment()})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 40*time.Second {
		t.Errorf("took %s", took)
	}
	if got := read(t, path, "log"); got != "ADD\nDEL" {
		t.Errorf("commands: %q", got)
	}
}

// TestDelegateDaemon: a daemon that the plugin leaves behind, with its stdout,
// does not hold up the call.
func TestDelegateDaemon(t *testing.T) {
	path := fake(t, `sleep 20 & echo $! >pid; echo '`+fullResult+`'`)
	start := time.Now()
	if err := (&Delegate{Type: "fake", Conf: conf("1.1.0"), Path: path}).Add(t.Context(), &attach.Adding{Attachment: attachment()}); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
	if err := exec.Command("kill", read(t, path, "pid")).Run(); err != nil {
		t.Error(err)
	}
}

func TestDelegateMissing(t *testing.T) {
	d := &Delegate{Type: "fake", Conf: conf("1.1.0"), Path: "/nowhere:" + t.TempDir()}
	for name, run := range map[string]func(context.Context, *attach.Attachment) error{"ADD": added(d), "CHECK": d.Check, "DEL": d.Del} {
		err := run(t.Context(), attachment())
		if err == nil || !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), `ipam plugin "fake" is not on CNI_PATH "/nowhere:`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDelegateName(t *testing.T) {
	path := fake(t, "true")
	sub := filepath.Join(path, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../fake", "./fake", path + "/fake", "", ".", "..", "sub/../fake", "fa\x00ke"} {
		d := &Delegate{Type: name, Conf: conf("1.1.0"), Path: sub}
		if err := d.Add(t.Context(), &attach.Adding{Attachment: attachment()}); err == nil || !strings.Contains(err.Error(), "without a slash") {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(path, "log")); err == nil {
		t.Error("a program outside of CNI_PATH was run")
	}
	// A folder of that name is not the plugin, nor is one that PATH has.
	for _, name := range []string{"sub", "sh"} {
		if p, err := findPlugin(name, path+":."); err == nil {
			t.Errorf("%s: found %s", name, p)
		}
	}
}

func TestDelegateBusy(t *testing.T) {
	path := fake(t, "echo '"+fullResult+"'")
	// Only a binary is busy; the script's interpreter is one.
	sh, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	busy := filepath.Join(path, "busysh")
	if err := os.WriteFile(busy, sh, 0o755); err != nil {
		t.Fatal(err)
	}
	script := strings.Replace(read(t, path, "fake"), "#!/bin/sh", "#!"+busy, 1)
	if err := os.WriteFile(filepath.Join(path, "fake"), []byte(script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(busy, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	first := writer
	time.AfterFunc(50*time.Millisecond, func() { first.Close() })
	d := &Delegate{Type: "fake", Conf: conf("1.1.0"), Path: path}
	if err := d.Add(t.Context(), &attach.Adding{Attachment: attachment()}); err != nil {
		t.Fatal(err)
	}
	if writer, err = os.OpenFile(busy, os.O_WRONLY, 0); err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	if err := d.Del(t.Context(), attachment()); err == nil || !strings.Contains(err.Error(), "text file busy") {
		t.Errorf("busy for good: %v", err)
	}
}

func TestExecStatusAndGC(t *testing.T) {
	path := fake(t, `[ $CNI_COMMAND = STATUS ] && { echo '{"code":50,"msg":"full"}'; exit 1; }; true`)
	err := ExecStatus(t.Context(), "fake", conf("1.1.0"), path)
	var said *types.Error
	if !errors.As(err, &said) || said.Code != types.ErrPluginNotAvailable {
		t.Errorf("STATUS: %v", err)
	}
	if err := ExecGC(t.Context(), "fake", conf("1.1.0"), path); err != nil {
		t.Error(err)
	}
	if err := errors.Join(ExecStatus(t.Context(), "fake", conf("1.0.0"), path), ExecGC(t.Context(), "fake", conf("1.0.0"), path)); err != nil {
		t.Errorf("below 1.1.0: %v", err)
	}
	if got := read(t, path, "log"); got != "STATUS\nGC" {
		t.Errorf("commands: %q", got)
	}
	if err := ExecGC(t.Context(), "absent", conf("1.1.0"), path); err == nil {
		t.Error("GC by an absent plugin: no error")
	}
}

// TestImports holds the price of a plugin's start down.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for _, dep := range strings.Fields(string(out)) {
		if dep == "net/http" || strings.HasSuffix(dep, "cni/pkg/invoke") || strings.HasPrefix(dep, "go.opentelemetry.io/") {
			t.Errorf("links %s", dep)
		}
	}
}

// FuzzResult: no output of a plugin panics, and what is taken is whole.
func FuzzResult(f *testing.F) {
	f.Add([]byte(fullResult), "1.1.0")
	f.Add([]byte(`{"ip4":{"ip":"10.1.0.7/24"},"ip6":{"ip":"fd00::7/64","routes":[{"dst":"::/0"}]}}`), "0.2.0")
	f.Add([]byte(`{"cniVersion":"0.4.0","ips":[{"version":"6","address":"10.1.0.7/24","interface":3}],"routes":[null]}`), "0.4.0")
	f.Fuzz(func(t *testing.T, out []byte, version string) {
		v, err := json.Marshal(map[string]string{"cniVersion": version})
		if err != nil {
			t.Fatal(err)
		}
		a := &attach.Attachment{}
		if (&Delegate{Type: "fake", Conf: v}).take(&attach.Adding{Attachment: a}, out) != nil {
			return
		}
		if len(a.Addresses) == 0 {
			t.Error("no address")
		}
		for _, got := range a.Addresses {
			if !got.Prefix.IsValid() || got.Prefix.Addr().Is4In6() || got.Gateway == (netip.Addr{}) != !got.Gateway.IsValid() {
				t.Errorf("address %v", got)
			}
		}
	})
}

// added has the step add to the attachment.
func added(d *Delegate) func(context.Context, *attach.Attachment) error {
	return func(ctx context.Context, a *attach.Attachment) error {
		return d.Add(ctx, &attach.Adding{Attachment: a})
	}
}
