package etcd

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// relogins is how often a store that refuses what is asked is logged in to anew.
const relogins = time.Minute

// logInAnew looks after requests that are refused for want of a role. A client that logged
// in while etcd's authentication was off has no token; when it is turned on, and the host
// has a certificate, etcd takes the certificate's name for the user, and the client never
// hears that it has to log in.
func (s *Store) logInAnew(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := next(ctx, method, req, reply, conn, opts...)
	if errors.Is(rpctypes.Error(err), rpctypes.ErrPermissionDenied) {
		s.denied()
	}
	return err
}

// refused is the same for a watch, whose refusal is words.
func (s *Store) refused(reason string) {
	if strings.Contains(reason, rpctypes.ErrPermissionDenied.Error()) || strings.Contains(reason, "permission denied") {
		s.denied()
	}
}

// denied has the next request log in. It does not wait: the client is in use.
func (s *Store) denied() {
	if s.o.User == "" {
		return
	}
	go func() {
		s.dialing <- struct{}{}
		defer func() { <-s.dialing }()
		if s.client == nil || s.ctx.Err() != nil || time.Since(s.relogin) < relogins {
			return
		}
		s.relogin = time.Now()
		_ = s.client.Close()
		s.client = nil
	}()
}
