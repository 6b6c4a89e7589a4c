// Package browser drives Debian's chromium, without a screen, on a sandbox's host: by the
// DevTools protocol over a pair of pipes, each message one JSON object with a NUL behind it.
package browser

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
	"golang.org/x/sys/unix"
)

// ErrNone says that there is no chromium on this machine.
var ErrNone = errors.New("no chromium (make test-browser installs it)")

// patience is how long the browser may take for an answer.
const patience = time.Minute

// Browser is a chromium with one page. It is for one goroutine.
type Browser struct {
	cmd     *exec.Cmd
	to      *os.File
	from    *os.File
	answers *bufio.Reader
	last    int
	session string
	// Messages are what the page has written to its console, errors above all.
	Messages []string
}

// Start starts a browser on the host, with its profile in a folder.
func Start(h *sandbox.Host, profile string) (*Browser, error) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		return nil, ErrNone
	}
	theirs, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	from, their, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer their.Close()
	b := &Browser{to: to, from: from, answers: bufio.NewReader(from)}
	b.cmd = exec.Command(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe", "--user-data-dir="+profile, "about:blank")
	b.cmd.ExtraFiles = []*os.File{theirs, their} // 3 and 4
	b.cmd.Env = append(os.Environ(), "HOME="+profile)
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := h.Do(b.cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	if err := b.attach(); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// Close ends the browser with all its processes.
func (b *Browser) Close() {
	_ = unix.Kill(-b.cmd.Process.Pid, unix.SIGKILL)
	_ = b.cmd.Wait() // which says that it was killed
	b.to.Close()
	b.from.Close()
}

// attach takes the page.
func (b *Browser) attach() error {
	var target struct{ TargetID string }
	if err := b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target); err != nil {
		return err
	}
	var session struct{ SessionID string }
	if err := b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &session); err != nil {
		return err
	}
	b.session = session.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		if err := b.call(domain+".enable", nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// message is what goes either way.
type message struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  any             `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// call asks the browser, and takes the answer.
func (b *Browser) call(method string, params, result any) error {
	b.last++
	data, err := json.Marshal(message{ID: b.last, Session: b.session, Method: method, Params: params})
	if err != nil {
		return err
	}
	if err := errors.Join(b.to.SetWriteDeadline(time.Now().Add(patience)), b.from.SetReadDeadline(time.Now().Add(patience))); err != nil {
		return err
	}
	if _, err := b.to.Write(append(data, 0)); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	for {
		data, err := b.answers.ReadBytes(0)
		if err != nil {
			return fmt.Errorf("%s: %w", method, err)
		}
		var m message
		if err := json.Unmarshal(bytes.TrimRight(data, "\x00"), &m); err != nil {
			return err
		}
		if m.Method == "Runtime.exceptionThrown" || m.Method == "Log.entryAdded" || m.Method == "Runtime.consoleAPICalled" {
			text, _ := json.Marshal(m.Params)
			b.Messages = append(b.Messages, string(text))
		}
		switch {
		case m.ID != b.last:
			continue
		case m.Error != nil:
			return fmt.Errorf("%s: %s", method, m.Error.Message)
		case result != nil:
			return json.Unmarshal(m.Result, result)
		}
		return nil
	}
}

// Open goes to an address.
func (b *Browser) Open(url string) error {
	var answer struct{ ErrorText string }
	err := b.call("Page.navigate", map[string]any{"url": url}, &answer)
	if err == nil && answer.ErrorText != "" {
		err = fmt.Errorf("open %s: %s", url, answer.ErrorText)
	}
	return err
}

// Value evaluates an expression in the page, and decodes what it is into value.
func (b *Browser) Value(expression string, value any) error {
	var answer struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	err := b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &answer)
	switch {
	case err != nil:
		return err
	case answer.ExceptionDetails != nil:
		return fmt.Errorf("%s: %s %s", expression, answer.ExceptionDetails.Text, answer.ExceptionDetails.Exception.Description)
	case value == nil || answer.Result.Value == nil:
		return nil
	}
	return json.Unmarshal(answer.Result.Value, value)
}

// Await waits until an expression is true in the page. One that throws is not: what it
// speaks of may still come.
func (b *Browser) Await(expression string) error {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		var yes bool
		err := b.Value("!!("+expression+")", &yes)
		if yes {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("never in the page: %s (%w)", expression, err)
		}
	}
}

// Key presses a key, by its name in the DOM ("ArrowDown").
func (b *Browser) Key(name string) error {
	for _, kind := range []string{"keyDown", "keyUp"} {
		key := map[string]any{"type": kind, "key": name, "code": name}
		if name == "Enter" {
			key["text"], key["windowsVirtualKeyCode"] = "\r", 13
		}
		if err := b.call("Input.dispatchKeyEvent", key, nil); err != nil {
			return err
		}
	}
	return nil
}

// Scheme has the page shown as people with that choice see it: light or dark.
func (b *Browser) Scheme(name string) error {
	return b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": name}}}, nil)
}

// Size is that of the window, in pixels.
func (b *Browser) Size(width, height int) error {
	return b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}, nil)
}

// Screenshot writes a PNG of what the window shows.
func (b *Browser) Screenshot(path string) error {
	var shot struct{ Data string }
	if err := b.call("Page.captureScreenshot", map[string]any{"format": "png"}, &shot); err != nil {
		return err
	}
	data, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
