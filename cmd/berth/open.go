package main

import (
	"log/slog"
	"os"
	"os/user"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/etcd"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
	"github.com/berth-cni/berth/pkg/overlay/static"
)

// openStore opens the store that the settings name. It need not answer yet: an error
// is about the settings.
func openStore(s *settings, log *slog.Logger) (overlay.Store, error) {
	if s.store == storeStatic {
		return static.New(s.peersFile, log)
	}
	if s.store == storeKubernetes {
		return kubernetes.Open(kubernetes.Options{
			Options:   client.Options{Kubeconfig: s.kubeconfig, Server: s.apiServer, UserAgent: "berth"},
			Namespace: s.namespace, By: who(), Log: log,
		})
	}
	return etcd.Open(etcd.Options{
		Endpoints: s.endpoints, CA: s.ca, Cert: s.cert, Key: s.key,
		User: s.user, Password: s.password, Prefix: s.prefix, By: who(), Log: log,
	})
}

// who is the user and the host that a removal in the store names.
func who() string {
	name, host := "", "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username + "@"
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + host
}
