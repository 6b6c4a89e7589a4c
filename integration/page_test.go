package integration

import (
	"bufio"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/browser"
	"github.com/berth-cni/berth/integration/sandbox"
)

// served is `berth graph --serve` on a host, and a browser that has it open.
type served struct {
	*browser.Browser
	t   *testing.T
	bed *bed
	cmd *exec.Cmd
	url string
	out string // a folder for pictures
}

// browse starts both. Without a browser the test is skipped.
func (b *bed) browse(flags ...string) *served {
	b.t.Helper()
	shown, err := browser.Start(b.Host, b.t.TempDir())
	if errors.Is(err, browser.ErrNone) {
		b.t.Skip(err)
	}
	must(b.t, err)
	b.t.Cleanup(shown.Close)
	s := &served{Browser: shown, t: b.t, bed: b, out: b.t.ArtifactDir()}
	must(b.t, s.serve("127.0.0.1:0", flags...))
	must(b.t, s.Size(1280, 900))
	must(b.t, s.Open(s.url))
	s.await(`svg && at("state").textContent === "live"`)
	return s
}

// serve starts the server.
func (s *served) serve(address string, flags ...string) error {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(s.bed.bin, "berth"), append([]string{"graph", "--serve", address}, flags...)...)
	out, err := cmd.StdoutPipe()
	must(s.t, err)
	must(s.t, s.bed.Do(cmd.Start))
	s.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // where it has not ended
	line, err := bufio.NewReader(out).ReadString('\n')
	s.cmd, s.url = cmd, strings.TrimSpace(line)
	return err
}

func (s *served) await(expression string) {
	s.t.Helper()
	must(s.t, s.Await(expression))
}

// ends is that the server ends by a signal, as it should.
func (s *served) ends(signal syscall.Signal) {
	s.t.Helper()
	must(s.t, s.cmd.Process.Signal(signal))
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("%v: %v", signal, err)
	}
}

// quiet is that the page has thrown nothing, and asked for nothing that its policy forbids.
func (s *served) quiet() {
	s.t.Helper()
	for _, m := range s.Messages {
		s.t.Error(m)
	}
}

// shot keeps a picture of the page, light and dark (go test -artifacts).
func (s *served) shot(name string) {
	s.t.Helper()
	for _, scheme := range []string{"dark", "light"} {
		must(s.t, s.Scheme(scheme))
		must(s.t, s.Screenshot(filepath.Join(s.out, name+"-"+scheme+".png")))
	}
}

// box is an expression for the text of a box.
func box(id string) string { return `boxes.get("` + id + `").getAttribute("aria-label")` }

// TestPage has a browser look at a host while containers come, go, send and break, and while
// the server is away.
func TestPage(t *testing.T) {
	t.Parallel()
	b := newTraced(t)
	_, err := b.Output("sh", "-c", b.fill("ip link del {veth:db}"))
	must(t, err)
	s := b.browse("--most", "2")

	// What is broken is where it is, in the picture and in the doctor's words.
	s.await(box("container:db") + `.includes("is missing")`)
	s.await(`[...document.querySelectorAll("#findings li")].some(li => li.at.includes("container:db") && li.textContent.includes("berth reload"))`)
	s.await(`document.querySelector("[data-network='network:blue']").classList.contains("harmed")`)
	s.await(`!document.querySelector("[data-network='network:red']").classList.contains("harmed")`)
	must(t, s.Value(`(document.querySelector("#findings button").click(), 0)`, nil))
	s.await(`document.activeElement.dataset.node`)
	s.shot("broken")

	// What changes comes by itself; names of others are texts.
	_, err = b.Output("sh", "-c", b.fill("ip link set {veth:far} down"))
	must(t, err)
	s.await(box("container:far") + `.includes("is down")`)
	b.add(tracedNetwork("blue", "1"), "late", sandbox.Arg("K8S_POD_NAME", `<b onclick='x'>"late"&`))
	s.await(box("more:network:blue") + ` === "and 1 more"`)

	// A network that is folded is opened by the keyboard, and folded by the pointer.
	must(t, s.Value(`(choose("network:blue", true), 0)`, nil))
	must(t, s.Key("ArrowRight"))
	must(t, s.Key("ArrowDown"))
	must(t, s.Key("ArrowDown"))
	s.await(`document.activeElement.dataset.node === "more:network:blue"`)
	must(t, s.Key("Enter"))
	s.await(box("container:late") + `.includes("<b onclick='x'>\"late\"&") && !document.querySelector("#picture b")`)
	s.await(box("more:network:blue") + ` === "show only 2" && boxes.get("more:network:blue").getAttribute("aria-expanded") === "true"`)
	s.shot("open")
	must(t, s.Value(`(boxes.get("more:network:blue").dispatchEvent(new MouseEvent("click", {bubbles: true})), 0)`, nil))
	s.await(`boxes.get("more:network:blue").getAttribute("aria-expanded") === "false" && boxes.size`)

	// What is carried is on the lines.
	ping := exec.Command("ping", "-q", "-i", "0.1", sandbox.OutsideAddr4)
	must(t, b.all["late"].Do(ping.Start)) // whose line is in the folded picture
	t.Cleanup(func() { _ = ping.Process.Kill(); _ = ping.Wait() })
	s.await(`known["network:blue"] && [...slots].some(([key, of]) => key.startsWith("veth") && of[0].textContent.includes("B/s") && of[1].textContent.includes("packets/s"))`)
	s.await(`document.querySelector("[data-network='network:blue'] span").textContent.includes("B/s")`)
	s.shot("rates")

	// Finding, and the picture in words.
	must(t, s.Value(`(at("find").value = "FAR", at("find").dispatchEvent(new Event("input")), 0)`, nil))
	s.await(`boxes.get("container:db").classList.contains("miss") && boxes.get("container:far").classList.contains("here")`)
	must(t, s.Value(`(at("find").value = "", search(), at("words").open = true, 0)`, nil))
	s.await(`at("words").textContent.includes("late")`)
	s.quiet()
	s.reconnects()
	s.ends(syscall.SIGTERM)
}

// reconnects ends the server, and starts another one at its place.
func (s *served) reconnects() {
	s.t.Helper()
	address := strings.Trim(strings.TrimPrefix(s.url, "http:"), "/")
	must(s.t, s.cmd.Process.Kill())
	_ = s.cmd.Wait() // which says that it was killed
	s.await(`document.body.classList.contains("lost") && at("state").textContent.startsWith("connection lost")`)
	s.shot("lost")
	b := &traced{bed: s.bed, all: map[string]*sandbox.Container{}, at: map[string]string{}}
	b.add(tracedNetwork("red", "2"), "meanwhile")
	for end := time.Now().Add(time.Minute); s.serve(address) != nil; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("nobody can listen on %s", address)
		}
	}
	s.await(`!document.body.classList.contains("lost") && at("state").textContent === "live" && boxes.has("container:meanwhile")`)
}
