package cni

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/containernetworking/cni/pkg/types"
)

// CmdArgs is what a verb is called with (SPEC section 2): the environment, and the
// configuration from stdin.
type CmdArgs struct {
	ContainerID string
	Netns       string
	IfName      string
	Args        string
	Path        string
	StdinData   []byte
}

// needs says what a verb cannot do without.
type needs struct {
	container, netns bool
	lenient          bool // works with a configuration that is wrong
}

func readArgs(n needs) (*CmdArgs, error) {
	a := &CmdArgs{
		ContainerID: os.Getenv("CNI_CONTAINERID"), Netns: os.Getenv("CNI_NETNS"), IfName: os.Getenv("CNI_IFNAME"),
		Args: os.Getenv("CNI_ARGS"), Path: os.Getenv("CNI_PATH"),
	}
	var errs []error
	if n.container {
		if err := validName(a.ContainerID); err != nil {
			errs = append(errs, badEnvironment("CNI_CONTAINERID: %q: %w", a.ContainerID, err))
		}
		if err := ValidIfName(a.IfName); err != nil {
			errs = append(errs, badEnvironment("CNI_IFNAME: %q: %w", a.IfName, err))
		}
	}
	if n.netns && a.Netns == "" {
		errs = append(errs, badEnvironment("CNI_NETNS: want the path of a network namespace"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var err error
	if a.StdinData, err = io.ReadAll(os.Stdin); err != nil {
		return nil, types.NewError(types.ErrIOFailure, fmt.Sprintf("read configuration from stdin: %v", err), "")
	}
	return a, nil
}

// validName checks a container ID or a network's name (SPEC section 2 and 1):
// both become parts of keys and of paths.
func validName(s string) error {
	letter := func(c rune) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' }
	for i, c := range s {
		if !letter(c) && (i == 0 || !strings.ContainsRune("_.-", c)) {
			return errors.New("want letters, digits, and behind the first also _ . -")
		}
	}
	if s == "" {
		return errors.New("want a name")
	}
	return nil
}

// ValidKey tells whether these can be an attachment's network, container and interface.
func ValidKey(network, container, ifName string) bool {
	return validName(network) == nil && validName(container) == nil && ValidIfName(ifName) == nil
}

// ValidIfName checks the name of an interface (SPEC section 2; the kernel's
// dev_valid_name).
func ValidIfName(s string) error {
	const most = 15 // IFNAMSIZ is 16, with the terminating zero
	if s == "" || len(s) > most || s == "." || s == ".." ||
		strings.ContainsFunc(s, func(c rune) bool { return c == '/' || c == ':' || c == '%' || unicode.IsSpace(c) || c == 0 }) {
		return fmt.Errorf("want an interface name: up to %d characters, no slash, colon, percent sign (for the kernel a template) or space", most)
	}
	return nil
}
