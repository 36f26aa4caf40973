package estate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// named is where the tests' estate names a secret; errors have to say it.
var named = origin{file: FileName, line: 12, path: "databases[0].source.password"}

func resolve(t *testing.T, s Secret) (string, error) {
	t.Helper()
	s.origin = named
	value, err := s.Resolve(t.Context())
	if err != nil {
		if strings.Contains(err.Error(), hidden) {
			t.Errorf("the error shows the secret: %v", err)
		}
		if !strings.HasPrefix(err.Error(), "dhow.yaml:12: databases[0].source.password: ") {
			t.Errorf("the error does not say where the estate names the secret: %v", err)
		}
	}
	return value, err
}

func TestSecretOfEnvironment(t *testing.T) {
	t.Setenv("DHOW_TEST_SECRET", hidden)
	t.Setenv("DHOW_TEST_EMPTY", "")
	if got, err := resolve(t, Secret{Env: "DHOW_TEST_SECRET"}); err != nil || got != hidden {
		t.Errorf("got %q, %v", got, err)
	}
	for name, want := range map[string]string{"DHOW_TEST_EMPTY": "is empty", "DHOW_TEST_NONE": "is not set"} {
		if _, err := resolve(t, Secret{Env: name}); err == nil || !strings.Contains(err.Error(), name+" "+want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := (Secret{}).Resolve(t.Context()); err != nil || got != "" {
		t.Errorf("no secret resolves to %q, %v", got, err)
	}
}

func TestSecretOfFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil { // whatever the umask is
			t.Fatal(err)
		}
		return file
	}
	for text, want := range map[string]string{hidden: hidden, hidden + "\n": hidden, hidden + "\r\n": hidden, " " + hidden + " \n\n": " " + hidden + " \n", "\n" + hidden: "\n" + hidden} {
		for _, mode := range []os.FileMode{0o600, 0o400, 0o640} {
			if got, err := resolve(t, Secret{File: write("good", text, mode)}); err != nil || got != want {
				t.Errorf("%q in a file of mode %o is %q, %v; want %q", text, mode, got, err, want)
			}
			if err := os.Remove(filepath.Join(dir, "good")); err != nil {
				t.Fatal(err)
			}
		}
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		write("open", hidden, 0o644):                             "chmod 600",
		write("world", hidden, 0o602):                            "chmod 600",
		write("empty", "\n", 0o600):                              "is empty",
		write("large", strings.Repeat(hidden, maxSecret), 0o600): "larger",
		dir:                         "not a regular file",
		pipe:                        "not a regular file",
		filepath.Join(dir, "none"):  "no such file",
		filepath.Join(dir, "a\x00"): "invalid",
	} {
		if _, err := resolve(t, Secret{File: file}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
	}
	if _, err := resolve(t, Secret{File: filepath.Join(dir, "none")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the cause is lost: %v", err)
	}
}

// manager speaks Secrets Manager's protocol as far as GetSecretValue needs it.
type manager struct {
	*httptest.Server
	calls atomic.Int32
	// busy is how many calls are answered that the service is out of order first.
	busy atomic.Int32
}

// arnOf is the ARN of one of the manager's secrets.
func arnOf(name string) string {
	return "arn:aws:secretsmanager:eu-central-1:123456789012:secret:" + name
}

func startManager(t *testing.T) *manager {
	t.Helper()
	secrets := map[string]string{
		"plain":   hidden,
		"object":  `{"username": "dhow", "password": "` + hidden + `", "admin": "` + hidden + `-admin", "port": 5432, "empty": ""}`,
		"other":   `{"username": "` + hidden + `"}`,
		"list":    `["` + hidden + `"]`,
		"number":  "12345",
		"null":    "null",
		"cut-off": `{"password": "` + hidden,
		"empty":   "",
	}
	m := &manager{}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.calls.Add(1)
		refuse := func(status int, kind, text string) {
			w.Header().Set("X-Amzn-ErrorType", kind)
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(map[string]string{"__type": kind, "message": text})
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		if m.busy.Add(-1) >= 0 {
			refuse(http.StatusInternalServerError, "InternalServiceError", "try again")
			return
		}
		var in struct {
			SecretID string `json:"SecretId"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || r.Method != http.MethodPost || r.Header.Get("X-Amz-Target") != "secretsmanager.GetSecretValue" {
			refuse(http.StatusBadRequest, "InvalidRequestException", fmt.Sprintf("not a GetSecretValue: %v", err))
			return
		}
		if auth := r.Header.Get("Authorization"); !strings.Contains(auth, "Credential=key-of-the-test/") || !strings.Contains(auth, "/eu-central-1/secretsmanager/aws4_request") {
			refuse(http.StatusBadRequest, "UnrecognizedClientException", "signed otherwise: "+auth)
			return
		}
		name := strings.TrimPrefix(in.SecretID, arnOf(""))
		text, ok := secrets[name]
		switch {
		case name == "slow":
			<-r.Context().Done()
		case name == "denied":
			refuse(http.StatusBadRequest, "AccessDeniedException", "not authorized to perform: secretsmanager:GetSecretValue")
		case name == "bytes":
			_ = json.NewEncoder(w).Encode(map[string]any{"ARN": in.SecretID, "Name": name, "SecretBinary": []byte(hidden)})
		case !ok:
			refuse(http.StatusBadRequest, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
		default:
			_ = json.NewEncoder(w).Encode(map[string]any{"ARN": in.SecretID, "Name": name, "SecretString": text, "VersionId": "1"})
		}
	}))
	t.Cleanup(m.Close)
	for key, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "key-of-the-test", "AWS_SECRET_ACCESS_KEY": "secret-of-the-test", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "", "AWS_REGION": "us-west-2", "AWS_DEFAULT_REGION": "",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": "",
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": m.URL, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "", "HTTP_PROXY": "", "http_proxy": "",
	} {
		t.Setenv(key, value)
	}
	return m
}

func TestSecretOfSecretsManager(t *testing.T) {
	m := startManager(t)
	for _, c := range []struct {
		name, field string
		want        string // of a secret that is found
		fault       string // of one that is not
	}{
		{name: "plain", want: hidden},
		{name: "plain", field: "password", fault: "not a JSON object"},
		{name: "object", want: hidden},
		{name: "object", field: "admin", want: hidden + "-admin"},
		{name: "object", field: "none", fault: "has no field none"},
		{name: "object", field: "port", fault: "not a text"},
		{name: "object", field: "empty", fault: "empty"},
		{name: "other", fault: "has no field password"},
		{name: "list", want: `["` + hidden + `"]`},
		{name: "number", want: "12345"},
		{name: "null", want: "null"},
		{name: "cut-off", want: `{"password": "` + hidden},
		{name: "cut-off", field: "password", fault: "not a JSON object"},
		{name: "empty", fault: "is empty"},
		{name: "bytes", fault: "holds bytes"},
		{name: "denied", fault: "allow secretsmanager:GetSecretValue"},
		{name: "none", fault: "check the ARN"},
	} {
		t.Run(c.name+" "+c.field, func(t *testing.T) {
			got, err := resolve(t, Secret{ARN: arnOf(c.name), Field: c.field})
			if c.fault != "" {
				if err == nil || !strings.Contains(err.Error(), c.fault) || !strings.Contains(err.Error(), arnOf(c.name)) {
					t.Errorf("got %q, %v; want an error with %q and the ARN", got, err, c.fault)
				}
				return
			}
			if err != nil || got != c.want {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
	t.Run("tries again", func(t *testing.T) {
		before := m.calls.Load()
		m.busy.Store(1)
		if got, err := resolve(t, Secret{ARN: arnOf("plain")}); err != nil || got != hidden {
			t.Errorf("got %q, %v", got, err)
		}
		if n := m.calls.Load() - before; n != 2 {
			t.Errorf("%d calls, want 2", n)
		}
	})
	t.Run("gives up", func(t *testing.T) {
		before := m.calls.Load()
		m.busy.Store(1000)
		defer m.busy.Store(0)
		if _, err := resolve(t, Secret{ARN: arnOf("plain")}); err == nil {
			t.Error("a service out of order gave a secret")
		}
		if n := m.calls.Load() - before; n != secretTries {
			t.Errorf("%d calls, want %d", n, secretTries)
		}
	})
	t.Run("ends with its context", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := (Secret{ARN: arnOf("slow")}).Resolve(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("one endpoint for all services", func(t *testing.T) {
		t.Setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "")
		t.Setenv("AWS_ENDPOINT_URL", m.URL)
		if got, err := resolve(t, Secret{ARN: arnOf("plain")}); err != nil || got != hidden {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("no credentials", func(t *testing.T) {
		t.Setenv("AWS_ACCESS_KEY_ID", "")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		if _, err := resolve(t, Secret{ARN: arnOf("plain")}); err == nil || !strings.Contains(err.Error(), "AWS_PROFILE") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no ARN", func(t *testing.T) {
		if _, err := resolve(t, Secret{ARN: "secret"}); err == nil {
			t.Error("a text that is no ARN was resolved")
		}
	})
}

func TestSecretShowsOnlyItsPlace(t *testing.T) {
	t.Setenv("DHOW_TEST_SECRET", hidden)
	for _, c := range []struct {
		secret Secret
		want   string
	}{
		{Secret{}, "none"},
		{Secret{Env: "DHOW_TEST_SECRET"}, "env DHOW_TEST_SECRET"},
		{Secret{File: "/run/secrets/a"}, "file /run/secrets/a"},
		{Secret{ARN: arnOf("a")}, arnOf("a")},
		{Secret{ARN: arnOf("a"), Field: "admin"}, "field admin of " + arnOf("a")},
	} {
		c.secret.origin = named
		if got := fmt.Sprint(c.secret); got != c.want {
			t.Errorf("printed as %s, want %s", got, c.want)
		}
		asJSON, err := json.Marshal(struct{ Password Secret }{c.secret})
		if err != nil || string(asJSON) != `{"Password":"`+c.want+`"}` {
			t.Errorf("in JSON it is %s, %v", asJSON, err)
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("sign in", "password", c.secret)
		if !strings.Contains(log.String(), c.want) || strings.Contains(log.String(), hidden) {
			t.Errorf("logged as %s", log.String())
		}
		if c.secret.IsZero() != (c.want == "none") {
			t.Errorf("%s: IsZero is %t", c.want, c.secret.IsZero())
		}
	}
}
