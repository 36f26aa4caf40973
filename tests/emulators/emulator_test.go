// Package emulators deploys templates to emulators of AWS that others wrote, and
// compares CloudFormation's double with them: so it is not right by its own word alone.
package emulators

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"dhow/internal/landing/double"
	"dhow/internal/process"
	"dhow/internal/venv"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	// home is a region that all three know with all types of the templates.
	home = "eu-central-1"
	// management is whose credentials the tests have; the emulators take its number for
	// the key of one who asks.
	management = "111111111111"
	role       = "dhow-deploy"
)

// kind is an emulator: how it is had and started.
type kind struct {
	name, lock, ready string
	command           func(e venv.Env, dir string, port int) *exec.Cmd
}

var (
	moto = &kind{name: "moto", lock: "requirements-moto.txt", ready: "/moto-api/data.json", command: func(e venv.Env, dir string, port int) *exec.Cmd {
		return alone(dir, e.Bin("moto_server"), []string{"-H", "127.0.0.1", "-p", fmt.Sprint(port)})
	}}
	ministack = &kind{name: "ministack", lock: "requirements-ministack.txt", ready: "/_ministack/health", command: func(e venv.Env, dir string, port int) *exec.Cmd {
		return alone(dir, e.Bin("ministack"), nil, "BIND_HOST=127.0.0.1", fmt.Sprint("GATEWAY_PORT=", port), "S3_DATA_DIR="+filepath.Join(dir, "s3"), "MINISTACK_REGION="+home)
	}}
)

// alone is a command that knows nothing of this process's environment, its credentials
// least of all, and leaves nothing outside its folder.
func alone(dir, program string, args []string, env ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "PYTHONDONTWRITEBYTECODE=1"}, env...)
	return cmd
}

// emulator is one that answers, until the test ends.
type emulator struct {
	kind *kind
	url  string
}

// start starts an emulator with nothing in it.
func (k *kind) start(t *testing.T) *emulator {
	t.Helper()
	if testing.Short() {
		t.Skip("installs and starts emulators of AWS: not with -short (testing.Short)")
	}
	env, err := venv.Install(t.Context(), k.lock, k.name)
	if err != nil {
		t.Fatal(err)
	}
	var s *process.Server
	e := &emulator{kind: k}
	s, err = process.NewServer(process.ServerOptions{
		Name: k.name + " " + env.Version, Dir: t.TempDir(), Orderly: syscall.SIGTERM, Crash: syscall.SIGKILL,
		Command: func() *exec.Cmd { return k.command(env, s.Dir, s.Port) },
		Probe: func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url+k.ready, nil)
			if err != nil {
				return err
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			defer res.Body.Close()
			if res.StatusCode != http.StatusOK {
				return fmt.Errorf("it answers %s", res.Status)
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	e.url = fmt.Sprintf("http://127.0.0.1:%d", s.Port)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s said last: %s", k.name, s.LogTail())
		}
		if err := s.Stop(context.Background()); err != nil {
			t.Log(err)
		}
	})
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	return e
}

// ahead reads a request's body before it is sent: the SDK closes it when the answer begins,
// and Go's client then the connection, if it was just about to find the body at its end.
type ahead struct{ next http.RoundTripper }

func (a ahead) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err = errors.Join(err, r.Body.Close()); err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	return a.next.RoundTrip(r)
}

// clients is how AWS's SDK is told of endpoints: by one variable of the environment for
// each service. A service that none names would be looked for at AWS, without credentials.
func clients(t *testing.T, endpoints map[string]string) aws.Config {
	t.Helper()
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": management, "AWS_SECRET_ACCESS_KEY": "not-a-secret-of-anybody", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "", "AWS_REGION": home,
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_ENDPOINT_URL": ""} {
		t.Setenv(name, value)
	}
	for service, url := range endpoints {
		t.Setenv("AWS_ENDPOINT_URL_"+strings.ToUpper(strings.ReplaceAll(service, " ", "_")), url)
	}
	c, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// A server that closes a connection just as it is used again would give no answer.
	once := http.DefaultTransport.(*http.Transport).Clone()
	once.DisableKeepAlives = true
	c.HTTPClient = &http.Client{Transport: ahead{once}}
	return c
}

// services are those that the tests call, by the names of the SDK.
var services = []string{"CloudFormation", "CloudWatch", "EC2", "IAM", "KMS", "RDS", "Route 53", "S3", "Scheduler", "Service Quotas", "SNS", "STS", "Secrets Manager", "ECR", "Elastic Load Balancing v2"}

// config points the SDK at the emulator for every service.
func (e *emulator) config(t *testing.T) aws.Config {
	endpoints := map[string]string{}
	for _, s := range services {
		endpoints[s] = e.url
	}
	return clients(t, endpoints)
}

// in is a configuration in another account, by the role that a deployment assumes.
func in(c aws.Config, account string) aws.Config {
	of := c.Copy()
	of.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(c), "arn:aws:iam::"+account+":role/"+role))
	return of
}

// schemas are AWS's, opened once for all tests: they are only read.
var schemas = sync.OnceValues(func() (*double.Schemas, error) { return double.OpenSchemas(context.Background()) })

// doubled is a client of the double, in which nothing takes any time.
func doubled(t *testing.T) *cloudformation.Client {
	t.Helper()
	s, err := schemas()
	if err != nil {
		t.Fatal(err)
	}
	d, err := double.New(double.Options{Accounts: []double.Account{{ID: management, Keys: []double.Key{{ID: "AKIATEST", Secret: "not-a-secret-of-anybody", User: "tester"}}}}, Schemas: s, Speed: math.Inf(1)})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- d.Serve(ctx, listener) }()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return cloudformation.New(cloudformation.Options{Region: home, BaseEndpoint: aws.String("http://" + listener.Addr().String()), HTTPClient: &http.Client{Transport: ahead{transport}},
		Credentials: credentials.NewStaticCredentialsProvider("AKIATEST", "not-a-secret-of-anybody", ""), Retryer: aws.NopRetryer{}})
}

// until waits for a condition, at most a minute.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: it does not come", what)
		}
	}
}

// golden compares a text with a file of testdata, which -update writes anew.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s has changed; -update takes it over. Now it is:\n%s", path, got)
	}
}
