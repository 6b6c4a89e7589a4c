package runtimes

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// firewalld is Debian's daemon on a machine, and the bus that it is asked by.
type firewalld struct {
	*beside
	daemon *exec.Cmd
}

// busConf has a bus that all may use, with root alone on the machine.
const busConf = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
<type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_type="signal"/><allow send_type="method_return"/>
<allow send_type="error"/><allow receive_type="method_call"/><allow receive_type="signal"/><allow receive_type="method_return"/><allow receive_type="error"/></policy>
</busconfig>`

// bus starts the bus.
func (f *firewalld) bus() {
	f.t.Helper()
	conf := f.write("bus.conf", busConf)
	f.mustRun("mkdir", "-p", "/run/dbus")
	must(f.t, f.command("dbus-daemon", "--nofork", "--nopidfile", "--config-file="+conf).Start())
}

// start starts firewalld, and waits until it has its rules.
func (f *firewalld) start() {
	f.t.Helper()
	log, err := os.OpenFile(filepath.Join(f.dir, "firewalld.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(f.t, err)
	defer log.Close()
	f.daemon = f.command("sh", "-c", "echo $$ >/run/firewalld.first; exec firewalld --nofork --nopid")
	f.daemon.Stdout, f.daemon.Stderr = log, log
	must(f.t, f.daemon.Start())
	var out string
	for range 100 {
		if out, err = f.run("firewall-cmd", "--state"); err == nil {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	data, _ := os.ReadFile(log.Name())
	f.t.Fatalf("firewalld does not answer: %s %v\n%s", out, err, data)
}

func (f *firewalld) stop() {
	f.t.Helper()
	f.mustRun("sh", "-c", "kill $(cat /run/firewalld.first)")
	_ = f.daemon.Wait()
}

// TestFirewalldBefore: firewalld runs when a network begins, and ends.
func TestFirewalldBefore(t *testing.T) {
	eachBackend(t, func(t *testing.T, b *beside) {
		f := &firewalld{beside: b}
		f.bus()
		f.start()
		b.add("c1", 8080)
		b.hold("after ADD", b.ours())
		f.stop()
		b.reloadIptables()
		b.hold("without firewalld", b.ours())
	})
}

// reloadIptables is for rules of iptables, which firewalld flushes when it starts, ends
// and is reloaded. Those of nftables have a table of their own.
func (b *beside) reloadIptables() {
	b.t.Helper()
	if b.backend != "iptables" {
		return
	}
	if out, err := b.berth("reload"); err != nil {
		b.t.Errorf("berth reload: %v\n%s", err, out)
	}
}

// TestFirewalldAfter: firewalld starts beside containers that run, is reloaded, which
// forgets what it was told at run time, and restarted.
func TestFirewalldAfter(t *testing.T) {
	eachBackend(t, func(t *testing.T, b *beside) {
		b.add("c1", 8080)
		b.hold("alone", b.ours())
		f := &firewalld{beside: b}
		f.bus()
		f.start()
		b.bad("firewalld has started", "firewalld")
		b.add("c2", 8082)
		b.reloadIptables()
		b.hold("after the next ADD", b.ours())
		b.repaired("firewall-cmd --reload", "firewalld", func() { f.mustRun("firewall-cmd", "--reload") })
		b.withAgent(func() {
			f.stop()
			f.start()
			b.settle("restarted, with the agent", agentTime, b.ours())
			f.mustRun("firewall-cmd", "--complete-reload")
			b.settle("firewall-cmd --complete-reload, with the agent", agentTime, b.ours())
		})
	})
}

// TestFirewalldDocker: all three on one host.
func TestFirewalldDocker(t *testing.T) {
	eachBackend(t, func(t *testing.T, b *beside) {
		b.add("c1", 8080)
		f := &firewalld{beside: b}
		f.bus()
		f.start()
		b.dockerStarts(&docker{machine: b.machine, flavour: "nft", log: filepath.Join(b.dir, "docker.log")})
		b.add("c2", 8082)
		b.reloadIptables()
		b.hold("after the next ADD", b.all())
		b.withAgent(func() {
			f.mustRun("firewall-cmd", "--reload")
			b.settle("firewall-cmd --reload, with the agent", agentTime, b.all())
		})
	})
}

func eachBackend(t *testing.T, test func(*testing.T, *beside)) {
	for _, backend := range []string{"nftables", "iptables"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			test(t, newBeside(t, backend))
		})
	}
}
