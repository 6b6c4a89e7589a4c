package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// account is where a pod has its service account: a token, which the kubelet renews and
// which is read anew, the CA and the namespace.
const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

// deaf is for how long a peer may not acknowledge what it was sent. Without it a server
// whose host is off is noticed after 45 s, by HTTP/2's pings.
const deaf = 15 * time.Second

// Open reads the configuration. It does not speak to the server: every method does.
func Open(o Options) (*Client, error) {
	c := &Client{timeout: cmp.Or(o.Timeout, 10*time.Second), agent: cmp.Or(o.UserAgent, "berth")}
	config, err := c.configure(o)
	if err != nil {
		return nil, fmt.Errorf("configuration for Kubernetes' API: %w", err)
	}
	config.Host = cmp.Or(o.Server, config.Host)
	// Lists are large, the server is near, and its time is dear.
	config.DisableCompression = true
	config.Dial = dial
	if c.http, err = rest.HTTPClientFor(config); err != nil {
		return nil, fmt.Errorf("configuration for Kubernetes' API: %w", err)
	}
	if !strings.Contains(config.Host, "://") {
		config.Host = "https://" + config.Host
	}
	if c.base, err = url.Parse(config.Host); err != nil || c.base.Host == "" {
		return nil, fmt.Errorf("API server: %q: want https://HOST:PORT", config.Host)
	}
	return c, nil
}

func (c *Client) configure(o Options) (*rest.Config, error) {
	namespace, err := os.ReadFile(account + "namespace")
	if o.Kubeconfig == "" && err == nil {
		c.namespace, c.inPod = strings.TrimSpace(string(namespace)), true
		config, err := rest.InClusterConfig()
		if err != nil && o.Server != "" { // the environment does not say where it is
			config, err = &rest.Config{BearerTokenFile: account + "token", TLSClientConfig: rest.TLSClientConfig{CAFile: account + "ca.crt"}}, nil
		}
		return config, err
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.Kubeconfig
	kubeconfig := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{})
	config, err := kubeconfig.ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, errors.New("none is there: want --kubeconfig, or KUBECONFIG in the environment, or ~/.kube/config")
	}
	if err != nil {
		return nil, err
	}
	if name, said, err := kubeconfig.Namespace(); err == nil && (said || name != "default") {
		c.namespace = name
	}
	return config, nil
}

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: deaf / 3, Interval: deaf / 3},
		Control: func(_, _ string, raw syscall.RawConn) error {
			var err error
			// It also bounds the keepalives (tcp(7)).
			if failed := raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deaf/time.Millisecond))
			}); failed != nil {
				return failed
			}
			return err
		},
	}
	return d.DialContext(ctx, network, address)
}
