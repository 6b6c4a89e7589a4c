package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestSentence: no error tells a person of gRPC, and each is still what it was to a program.
func TestSentence(t *testing.T) {
	unavailable := func(text string) error { return status.Error(codes.Unavailable, text) }
	dialing := `connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`
	for _, c := range []struct {
		err  error
		want string
	}{
		{unavailable(dialing), "cannot be reached: dial tcp 127.0.0.1:1: connection refused"},
		{unavailable(`connection error: desc = "transport: authentication handshake failed: EOF"`), "TLS: EOF: does it speak https there, and want a certificate of ours?"},
		{unavailable(`connection error: desc = "error reading server preface: http2: frame too large"`), "the connection is lost: error reading server preface: http2: frame too large"},
		{status.Error(codes.DeadlineExceeded, "context deadline exceeded"), "does not answer in time"},
		{status.Error(codes.Unknown, "what nobody knows"), "what nobody knows"},
		{context.DeadlineExceeded, "does not answer in time"},
		{rpctypes.ErrUserEmpty, "wants a user and a password, and none is given"},
		{rpctypes.ErrNoLeader, "it has no leader: a majority of its members is away"},
		{context.Canceled, "context canceled"},
		{errRaced, errRaced.Error()},
	} {
		got := sentence(fmt.Errorf("%w", c.err))
		if got.Error() != c.want || strings.Contains(got.Error(), "rpc error") || !errors.Is(got, c.err) {
			t.Errorf("%v:\n%v, want %s", c.err, got, c.want)
		}
	}
	if sentence(nil) != nil {
		t.Error("no error is one")
	}
}
