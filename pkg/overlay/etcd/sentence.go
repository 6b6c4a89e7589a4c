package etcd

import (
	"context"
	"errors"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// sentence has an error of the client say what it means to a person. It is still what
// it was to errors.Is.
func sentence(err error) error {
	if err == nil {
		return nil
	}
	if text := meaning(err); text != "" {
		return &said{text, err}
	}
	return err
}

type said struct {
	text string
	err  error
}

func (e *said) Error() string { return e.text }
func (e *said) Unwrap() error { return e.err }

// meanings are what etcd answers by itself.
var meanings = []struct {
	err  error
	text string
}{
	{rpctypes.ErrUserEmpty, "wants a user and a password, and none is given"},
	{rpctypes.ErrAuthFailed, "user or password is wrong"},
	{rpctypes.ErrPermissionDenied, "the user may not do this there: a role is missing"},
	{rpctypes.ErrInvalidAuthToken, "the log-in has run out"},
	{rpctypes.ErrNoSpace, "its space is used up (alarm NOSPACE): etcdctl compact, defrag and alarm disarm make room"},
	{rpctypes.ErrCorrupt, "it has found its own data to be corrupt (alarm CORRUPT)"},
	{rpctypes.ErrNoLeader, "it has no leader: a majority of its members is away"},
	{rpctypes.ErrLeaderChanged, "its leader has changed"},
	{rpctypes.ErrTimeout, "the members do not agree in time: a majority of them is away or slow"},
	{rpctypes.ErrTimeoutDueToLeaderFail, "its leader was lost"},
	{rpctypes.ErrTimeoutDueToConnectionLost, "the members have lost each other"},
	{context.DeadlineExceeded, "does not answer in time"},
}

func meaning(err error) string {
	for _, m := range meanings {
		if errors.Is(err, m.err) {
			return m.text
		}
	}
	var answer interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &answer) || answer.GRPCStatus().Code() == codes.OK {
		return ""
	}
	s := answer.GRPCStatus()
	text := s.Message()
	if s.Code() == codes.DeadlineExceeded {
		return "does not answer in time"
	}
	// gRPC wraps the reason: connection error: desc = "transport: ...".
	if _, rest, ok := strings.Cut(text, `desc = "`); ok {
		text = strings.TrimSuffix(rest, `"`)
	}
	if reason, ok := strings.CutPrefix(text, "transport: Error while dialing: "); ok {
		return "cannot be reached: " + strings.Replace(reason, ": connect: ", ": ", 1)
	}
	if reason, ok := strings.CutPrefix(text, "transport: authentication handshake failed: "); ok {
		return "TLS: " + tlsReason(reason)
	}
	if s.Code() == codes.Unavailable {
		return "the connection is lost: " + text
	}
	return text
}

// tlsReason adds what people look for where TLS says little.
func tlsReason(reason string) string {
	switch {
	case reason == "EOF", strings.Contains(reason, "first record does not look like a TLS handshake"):
		return reason + ": does it speak https there, and want a certificate of ours?"
	case strings.Contains(reason, "unknown authority"):
		return reason + ": its certificate is not signed by what --etcd-ca has"
	}
	return reason
}
