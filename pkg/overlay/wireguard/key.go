package wireguard

import (
	"cmp"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

func compare(a, b string) int { return cmp.Compare(a, b) }

// Key is a private, public or pre-shared key (Curve25519, RFC 7748; the last one of no
// kind).
type Key [32]byte

// String is the key in base64, as wg(8) writes it.
func (k Key) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// ParseKey reads what [Key.String] writes.
func ParseKey(s string) (k Key, err error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(k) {
		return k, errors.New("want 32 bytes in base64")
	}
	return Key(b), nil
}

// Public is the public key of a private one.
func (k Key) Public() Key {
	private, err := ecdh.X25519().NewPrivateKey(k[:])
	if err != nil {
		panic(err) // it is of the right length
	}
	return Key(private.PublicKey().Bytes())
}

// newKey makes a private key, clamped as RFC 7748, section 5, has it.
func newKey() (k Key) {
	_, _ = rand.Read(k[:]) // never fails (Go 1.24)
	k[0] &= 248
	k[31] = k[31]&127 | 64
	return k
}

// The folder of keys in the host's data folder, and what is in it. A network's pre-shared
// key is in NAME.psk.
const (
	folder     = "wireguard"
	keyFile    = "private.key"
	publicFile = "public.key"
)

// LoadKey returns the host's private key, which it makes if there is none. The file is
// for root alone from its birth; one that others may read is refused, since they may
// have. Beside it is the public key, for people.
func LoadKey(dataDir string) (Key, error) {
	dir := filepath.Join(dataDir, folder)
	path := filepath.Join(dir, keyFile)
	k, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		k, err = newKey(), os.MkdirAll(dir, 0o700)
		if err == nil {
			err = writeFile(path, k.String()+"\n", 0o600)
		}
	}
	if err != nil {
		return Key{}, err
	}
	public := filepath.Join(dir, publicFile)
	if text := k.Public().String() + "\n"; !holds(public, text) {
		err = writeFile(public, text, 0o644)
	}
	return k, err
}

// LoadPreshared returns a network's pre-shared key; zero when it has none.
func LoadPreshared(dataDir, network string) (Key, error) {
	k, err := readKey(filepath.Join(dataDir, folder, network+".psk"))
	if errors.Is(err, fs.ErrNotExist) {
		return Key{}, nil
	}
	return k, err
}

func readKey(path string) (Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return Key{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Key{}, err
	}
	if st.Mode()&0o077 != 0 {
		return Key{}, fmt.Errorf("key %s: mode %04o: others may have read it: want 0600, and a new key", path, st.Mode().Perm())
	}
	const most = 64 // a key and a newline are 45
	data := make([]byte, most)
	n, err := f.Read(data)
	if err != nil {
		return Key{}, fmt.Errorf("key %s: %w", path, err)
	}
	k, err := ParseKey(strings.TrimSpace(string(data[:n])))
	if err == nil && k == (Key{}) {
		err = errors.New("it is zero")
	}
	if err != nil {
		return k, fmt.Errorf("key %s: %w", path, err)
	}
	return k, nil
}

func holds(path, text string) bool {
	data, err := os.ReadFile(path)
	return err == nil && string(data) == text
}

// writeFile makes a file, or replaces it in one step, of that mode from the beginning.
func writeFile(path, text string, mode fs.FileMode) error {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
