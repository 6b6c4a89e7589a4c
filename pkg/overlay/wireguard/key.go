package wireguard

import (
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
	// The key that is to replace the host's, before and after others were told of it.
	nextFile      = "next.key"
	announcedFile = "announced.key"
)

// LoadKey returns the host's private key, which it makes if there is none. The file is
// for root alone from its birth; one that others may read is refused, since they may
// have. Beside it is the public key, for people.
func LoadKey(dataDir string) (Key, error) {
	dir, path := filepath.Join(dataDir, folder), KeyPath(dataDir)
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

// Rotate has the host's key replaced: it makes the next one, unless there is one, and the
// agent does the rest.
func Rotate(dataDir string) error {
	dir := filepath.Join(dataDir, folder)
	if _, err := readKey(filepath.Join(dir, keyFile)); err != nil {
		return err
	}
	if k, _, err := LoadNext(dataDir); err != nil || k != (Key{}) {
		return err
	}
	return writeFile(filepath.Join(dir, nextFile), newKey().String()+"\n", 0o600)
}

// LoadNext returns the key that is to replace the host's, zero when none is, and whether
// others were told of it.
func LoadNext(dataDir string) (k Key, announced bool, err error) {
	k, err = optional(filepath.Join(dataDir, folder, announcedFile))
	if err != nil || k != (Key{}) {
		return k, true, err
	}
	k, err = optional(filepath.Join(dataDir, folder, nextFile))
	return k, false, err
}

// Announce notes that others are told of the next key.
func Announce(dataDir string) error {
	dir := filepath.Join(dataDir, folder)
	return os.Rename(filepath.Join(dir, nextFile), filepath.Join(dir, announcedFile))
}

// Replace makes the next key the host's own.
func Replace(dataDir string, next Key) error {
	dir := filepath.Join(dataDir, folder)
	return errors.Join(writeFile(filepath.Join(dir, keyFile), next.String()+"\n", 0o600),
		writeFile(filepath.Join(dir, publicFile), next.Public().String()+"\n", 0o644))
}

// EndRotation forgets the next key, which is the host's own by now.
func EndRotation(dataDir string) error {
	err := os.Remove(filepath.Join(dataDir, folder, announcedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// LoadPreshared returns a network's pre-shared key; zero when it has none.
func LoadPreshared(dataDir, network string) (Key, error) {
	return optional(PresharedPath(dataDir, network))
}

// KeyPath is where the host's key is.
func KeyPath(dataDir string) string { return filepath.Join(dataDir, folder, keyFile) }

// PresharedPath is where a network's pre-shared key is, if it has one.
func PresharedPath(dataDir, network string) string {
	return filepath.Join(dataDir, folder, network+".psk")
}

func optional(path string) (Key, error) {
	k, err := readKey(path)
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
