package estate

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"
)

const (
	// maxSecret bounds a secret, in bytes; Secrets Manager's own bound.
	maxSecret = 64 << 10
	// readableByOthers are the permissions that a file with a secret must not
	// grant: anything at all to those who are neither its owner nor of its group.
	readableByOthers = 0o007
)

// origin is where the estate says something; the zero value is nowhere, of an
// estate that was not read from a file.
type origin struct {
	file string
	line int
	path string
}

// in is the beginning of an error about what stands there.
func (o origin) in(otherwise string) string {
	if o.file == "" {
		return otherwise
	}
	return fmt.Sprintf("%s:%d: %s", o.file, o.line, o.path)
}

// IsZero says that no secret is named.
func (s Secret) IsZero() bool { return s.Env == "" && s.File == "" && s.ARN == "" && s.Field == "" }

// String says where the secret is kept, never what it is: "env ACCOUNTS_PASSWORD".
func (s Secret) String() string {
	switch {
	case s.Env != "":
		return "env " + s.Env
	case s.File != "":
		return "file " + s.File
	case s.ARN != "" && s.Field != "":
		return "field " + s.Field + " of " + s.ARN
	case s.ARN != "":
		return s.ARN
	}
	return "none"
}

// LogValue logs where the secret is kept.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON writes where the secret is kept, as a text.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// Resolve fetches the secret from where it is kept. The zero Secret resolves to
// nothing. An error names the place, and the line of the estate that names it,
// but never shows what is kept there.
func (s Secret) Resolve(ctx context.Context) (string, error) {
	var (
		value string
		err   error
	)
	switch {
	case s.Env != "":
		value, err = s.fromEnv()
	case s.File != "":
		value, err = s.fromFile()
	case s.ARN != "":
		value, err = s.fromSecretsManager(ctx)
	default:
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", s.origin.in("secret"), err)
	}
	return value, nil
}

func (s Secret) fromEnv() (string, error) {
	value, ok := os.LookupEnv(s.Env)
	switch {
	case !ok:
		return "", fmt.Errorf("the environment variable %s is not set: export it in the shell that runs dhow", s.Env)
	case value == "":
		return "", fmt.Errorf("the environment variable %s is empty: export the secret in it", s.Env)
	}
	return value, nil
}

func (s Secret) fromFile() (string, error) {
	// Without O_NONBLOCK a named pipe that nobody writes to would hold us for ever.
	f, err := os.OpenFile(s.File, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("open the file with the secret: %w: create it, readable by you alone", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return "", fmt.Errorf("look at the file with the secret: %w", err)
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is not a regular file: name a file that holds the secret alone", s.File)
	case info.Mode().Perm()&readableByOthers != 0:
		return "", fmt.Errorf("%s holds a secret but its mode, %#o, lets everybody on this machine at it: run `chmod 600 %[1]s`, and change the secret if others may have read it", s.File, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("read the file with the secret: %w", err)
	}
	if len(text) > maxSecret {
		return "", fmt.Errorf("%s is larger than a secret can be (%s): name a file that holds the secret alone", s.File, Size(maxSecret))
	}
	value := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if value == "" {
		return "", fmt.Errorf("%s is empty: write the secret into it", s.File)
	}
	return value, nil
}
