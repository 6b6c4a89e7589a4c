package cni

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall/publish"
	"github.com/berth-cni/berth/pkg/internal/schema"
	"github.com/berth-cni/berth/pkg/ipam"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/link/parent"
	"github.com/containernetworking/cni/pkg/types"
)

// The plugins' own error codes (SPEC section 5: 100 and above). All others are
// those of the specification.
const (
	CodeTaken     uint = 100 // an address or a port has another holder
	CodeExhausted uint = 101 // no free address, or no free port of the bridge
	CodeAttached  uint = 102 // the container has this attachment
	CodeMissing   uint = 103 // CHECK: something is not as ADD left it
)

// environmentError marks an error of the environment or of CNI_ARGS: code 4.
type environmentError struct{ error }

func (e environmentError) Unwrap() error { return e.error }

func badEnvironment(format string, args ...any) error {
	return environmentError{fmt.Errorf(format, args...)}
}

// configError marks an error of the configuration: code 7.
type configError struct{ error }

func (e configError) Unwrap() error { return e.error }

func badConfig(format string, args ...any) error {
	return configError{fmt.Errorf(format, args...)}
}

// laterError marks what passes by itself: code 11 (SPEC section 5).
type laterError struct{ error }

func (e laterError) Unwrap() error { return e.error }

// Later marks an error that another try, some time later, need not meet.
func Later(err error) error { return laterError{err} }

// code gives every error its CNI error code. It is the one place that does.
func code(err error) *types.Error {
	var coded *types.Error
	if errors.As(err, &coded) {
		return coded
	}
	number := types.ErrInternal
	var (
		env       environmentError
		config    configError
		later     laterError
		overlap   *attach.OverlapError
		linkMode  *attach.LinkModeError
		held      *attach.HeldError
		taken     *publish.TakenError
		exhausted *ipam.ExhaustedError
		badType   *schema.TypeError
	)
	switch {
	case errors.As(err, &env), errors.Is(err, netns.ErrNotNetns):
		number = types.ErrInvalidEnvironmentVariables
	case errors.As(err, &config), errors.As(err, &overlap), errors.As(err, &linkMode), errors.Is(err, link.ErrWrongKind), errors.Is(err, parent.ErrMaster), errors.Is(err, parent.ErrNoKind),
		errors.Is(err, publish.ErrNotLocal):
		number = types.ErrInvalidNetworkConfig
	case errors.Is(err, schema.ErrSyntax), errors.As(err, &badType):
		number = types.ErrDecodingFailure
	case errors.As(err, &later), errors.As(err, &exhausted) && exhausted.Grows:
		number = types.ErrTryAgainLater
	case errors.As(err, &held), errors.As(err, &taken):
		number = CodeTaken
	case errors.As(err, &exhausted), errors.Is(err, link.ErrBridgeFull):
		number = CodeExhausted
	case errors.Is(err, attach.ErrExists):
		number = CodeAttached
	case errors.Is(err, attach.ErrNotFound):
		number = types.ErrUnknownContainer
	case errors.Is(err, errMissing):
		number = CodeMissing
	case errors.Is(err, fs.ErrPermission):
		number = types.ErrIOFailure
	}
	msg, details, _ := strings.Cut(err.Error(), "\n")
	return types.NewError(number, msg, details)
}

// errMissing marks what CHECK found.
var errMissing = errors.New("the attachment is not as ADD left it")

func missing(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errMissing, fmt.Errorf(format, args...))
}
