package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/etcd"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes"
	"github.com/spf13/pflag"
)

// settings are the flags that the configuration file can have, too.
type settings struct {
	config string

	store        string
	endpoints    []string
	ca           string
	cert         string
	key          string
	user         string
	password     string
	passwordFile string
	prefix       string
	peersFile    string
	kubeconfig   string
	apiServer    string
	namespace    string

	node           string
	underlay       string
	dataDir        string
	stateDir       string
	confDir        string
	defaultNetwork string
	bridgeNF       bool
	mode           string
	installBin     string
	installFrom    string
	firewall       string
	listen         string
	listenAnywhere bool
	logLevel       string
	logFormat      string
	noProbe        bool
	onDemand       bool
	hostNames      string
	resync         time.Duration

	networkSettings

	// origin says where in the file a setting comes from.
	origin map[string]string
	// named says that somebody has said where the store is.
	named bool
}

// Words and places that are defaults.
const (
	storeEtcd       = "etcd"
	storeStatic     = "static"
	storeKubernetes = "kubernetes"

	defaultEndpoint = "http://127.0.0.1:2379"
	defaultListen   = "127.0.0.1:9477"
	underlayAuto    = "auto"
)

// storeFlags are what every command needs that speaks to the store.
func (s *settings) storeFlags(f *pflag.FlagSet) {
	f.SortFlags = false // a command's own come first
	addFlag(f, oneOf(&s.store, storeEtcd, storeStatic, storeKubernetes), "store", "where networks and nodes are kept: etcd, a file of peers, or Kubernetes' API")
	addFlag(f, words(&s.endpoints, "url,...", defaultEndpoint), "etcd-endpoints", "members of the etcd cluster")
	addFlag(f, text(&s.ca, "file", "", nil), "etcd-ca", "certificates that etcd's is signed by, PEM")
	addFlag(f, text(&s.cert, "file", "", nil), "etcd-cert", "this host's certificate for etcd, PEM")
	addFlag(f, text(&s.key, "file", "", nil), "etcd-key", "the key of --etcd-cert, PEM")
	addFlag(f, text(&s.user, "name", "", nil), "etcd-user", "user of etcd")
	addFlag(f, text(&s.passwordFile, "file", "", nil), "etcd-password-file", "file with the password of --etcd-user")
	addFlag(f, text(&s.password, "password", "", nil), "etcd-password", "the password itself, which everybody on this host can see: --etcd-password-file is better")
	addFlag(f, text(&s.prefix, "key", etcd.DefaultPrefix, nil), "etcd-prefix", "where in etcd everything is")
	addFlag(f, text(&s.peersFile, "file", "", nil), "peers-file", "networks and nodes, for --store static")
	s.kubernetesFlags(f)
}

// kubernetesFlags are those of storeFlags that are for --store kubernetes.
func (s *settings) kubernetesFlags(f *pflag.FlagSet) {
	addFlag(f, text(&s.kubeconfig, "file", "", nil), "kubeconfig", "who comes to Kubernetes' API, and where it is (default: in a pod its service account, else as kubectl has it)")
	addFlag(f, text(&s.apiServer, "url", "", validServer), "api-server", "Kubernetes' API server, in place of the one that --kubeconfig or the pod says")
	addFlag(f, text(&s.namespace, "name", "", nil), "namespace", "where in Kubernetes the agents are (default: the pod's own, else "+kubernetes.DefaultNamespace+")")
}

// configFlag is of every command.
func (s *settings) configFlag(f *pflag.FlagSet) {
	addFlag(f, text(&s.config, "file", "", nil), "config", "configuration file (default "+defaultConfig+", if it is there)")
}

// hostFlags are what a command needs that looks at this host and its agent.
func (s *settings) hostFlags(f *pflag.FlagSet) {
	state := attach.New("", nil).Dir() // which reads the environment
	addFlag(f, text(&s.dataDir, "folder", overlay.DataDir(), nil), "data-dir", "what outlives a reboot: this host's identity and blocks")
	addFlag(f, text(&s.stateDir, "folder", state, nil), "state-dir", "what a reboot takes away: records and leases")
	addFlag(f, text(&s.listen, "address:port", defaultListen, validListen), "listen", "where the agent answers /healthz, /readyz, /status and /metrics")
}

// agentFlags are all of them.
func (s *settings) agentFlags(f *pflag.FlagSet) {
	addFlag(f, text(&s.node, "name", "", overlay.ValidName), "node-name", "this host's name in the store (default: the host name)")
	addFlag(f, text(&s.underlay, "auto|address|device", underlayAuto, validUnderlay), "underlay", "the address that other hosts reach this one by, or its device; auto: that of the default route")
	addFlag(f, text(&s.confDir, "folder", "", nil), "conf-dir", "write NAME.conflist for each network into it; empty: do not")
	addFlag(f, text(&s.defaultNetwork, "name", "", overlay.ValidName), "default-network", "the network of containers for which nobody names one, as Kubernetes' pods: its conflist comes first in --conf-dir")
	addFlag(f, oneOf(&s.mode, "bridge", "routed"), "mode", "how conflists in --conf-dir have containers attached on this host: to a bridge of each network, or without one")
	addFlag(f, text(&s.installBin, "folder", "", nil), "install-bin", "install the plugins into it, the runtimes' folder, and keep them there: as berth-bridge and so on, beside those of other suites; empty: do not")
	addFlag(f, text(&s.installFrom, "folder", "/usr/local/lib/berth", nil), "install-from", "where the plugins for --install-bin are")
	addFlag(f, onOff(&s.bridgeNF), "bridge-netfilter", "have frames between ports of bridges pass the firewall (br_netfilter): Kubernetes wants it where pods are on a bridge")
	addFlag(f, oneOf(&s.firewall, "auto", "nftables", "iptables"), "firewall-backend", "who keeps the rules; auto: nftables where the kernel has it")
	addFlag(f, onOff(&s.listenAnywhere), "listen-anywhere", "let --listen be an address that is not of loopback: whoever reaches it can read everything there")
	addFlag(f, oneOf(&s.logLevel, "info", "debug", "warn", "error"), "log-level", "how much is logged, on stderr")
	addFlag(f, oneOf(&s.logFormat, "text", "json"), "log-format", "how it is logged")
	addFlag(f, onOff(&s.onDemand), "on-demand", "end when no container needs its name any more, and give way to an agent without this; plugins start it so. With a store it means nothing")
	addFlag(f, text(&s.hostNames, "address[:port]", "", validHostNames), "host-names", "answer this host's own programs for NAME.NETWORK.berth at an address of loopback, such as "+defaultHostNames+"; 'berth host-names on' has the host's resolver ask there; empty: do not")
	addFlag(f, onOff(&s.noProbe), "no-probe", "do not look for black holes on the way to other hosts")
	addFlag(f, duration(&s.resync, 5*time.Second, 100*time.Millisecond), "resync", "how often the kernel is compared with what is wanted")
	s.hostFlags(f)
	s.storeFlags(f)
}

// problems are what is wrong with the settings, each with where it comes from.
type problems struct {
	origin map[string]string
	errs   []error
}

func (p *problems) refuse(key string, value any, format string, args ...any) {
	where, ok := p.origin[key]
	if !ok {
		where = "--" + key
	}
	p.errs = append(p.errs, fmt.Errorf("%s: %v: %s", where, value, fmt.Sprintf(format, args...)))
}

func (p *problems) err() error {
	if err := errors.Join(p.errs...); err != nil {
		return usageError{err}
	}
	return nil
}

// check tells all that is wrong with the settings together, of those that the
// command has.
func (s *settings) check(has func(name string) bool) error {
	p := &problems{origin: s.origin}
	if has("store") {
		s.checkStore(p)
	}
	if has("listen-anywhere") && !s.listenAnywhere && !loopback(s.listen) {
		p.refuse("listen", s.listen, "want an address of loopback, or --listen-anywhere")
	}
	if has("node-name") && s.node == "" {
		host, err := os.Hostname()
		if err == nil {
			err = overlay.ValidName(host)
		}
		if err != nil {
			p.refuse("node-name", fmt.Sprintf("%q, the host name", host), "%v", err)
		}
		s.node = host
	}
	return p.err()
}

func (s *settings) checkStore(p *problems) {
	if s.store == storeStatic {
		if s.peersFile == "" {
			p.refuse("peers-file", `""`, "want a file, since the store is static")
		}
		return
	}
	if s.store == storeKubernetes {
		return
	}
	if (s.cert == "") != (s.key == "") {
		p.refuse("etcd-cert", fmt.Sprintf("%q", s.cert), "want it together with --etcd-key, or neither")
	}
	if s.password != "" && s.passwordFile != "" {
		p.refuse("etcd-password-file", s.passwordFile, "want it or --etcd-password, not both")
	}
	if (s.password != "" || s.passwordFile != "") != (s.user != "") {
		p.refuse("etcd-user", fmt.Sprintf("%q", s.user), "want it together with --etcd-password-file, or neither")
	}
	if s.passwordFile != "" && s.password == "" {
		data, err := os.ReadFile(s.passwordFile)
		if err != nil {
			p.refuse("etcd-password-file", s.passwordFile, "%v", err)
		}
		s.password = strings.TrimRight(string(data), "\r\n")
	}
}

// storeName is the store in words.
func (s *settings) storeName() string {
	switch s.store {
	case storeStatic:
		return s.peersFile
	case storeKubernetes:
		return "Kubernetes' API"
	}
	return "etcd at " + strings.Join(s.endpoints, ", ")
}

func validServer(s string) error {
	if u, err := url.Parse(s); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return errors.New("want https://HOST:PORT")
	}
	return nil
}

func validListen(s string) error {
	if _, err := netip.ParseAddrPort(s); err != nil {
		return errors.New("want an IP address and a port, such as " + defaultListen)
	}
	return nil
}

func loopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

func validUnderlay(s string) error {
	if a, err := netip.ParseAddr(s); err == nil {
		return overlay.ValidUnderlay(a)
	}
	if s == underlayAuto {
		return nil
	}
	if err := cni.ValidIfName(s); err != nil {
		return errors.New("want auto, an IP address or the name of an interface")
	}
	return nil
}
