package pods_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dhow/internal/estate"
	"dhow/internal/pods"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a text with a file of testdata, which -update writes anew.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s has changed; -update takes it over. Now it is:\n%s", path, got)
	}
}

// load reads an estate of testdata; its secrets are in the environment and in files.
func load(t *testing.T, name string) *estate.Estate {
	t.Helper()
	dir := t.TempDir()
	for file, text := range map[string]string{"target.password": "s3cret-of-the-target\n", "ca.pem": "-----BEGIN CERTIFICATE-----\n"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, estate.FileName)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := estate.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

const sourcePassword = "s3cret-of-the-source"

func pack(t *testing.T) *pods.Pack {
	t.Helper()
	t.Setenv("LEDGER_SOURCE_PASSWORD", sourcePassword)
	p, err := pods.NewPack(t.Context(), load(t, "estate.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var somewhere = pods.Place{Namespace: "moves", Image: "registry.example.com/dhow@sha256:" + strings.Repeat("0", 64), ServiceAccount: "reads-secrets"}

// TestPack: what an estate keeps on this machine goes along, under names of the pods'.
func TestPack(t *testing.T) {
	e := load(t, "estate.yaml")
	t.Setenv("LEDGER_SOURCE_PASSWORD", sourcePassword)
	p, err := pods.NewPack(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	s := p.Secret("dhow-bank", "moves")
	for name, want := range map[string]string{
		"ledger.source.password": sourcePassword, "ledger.target.password": "s3cret-of-the-target", "ledger.source.ca.pem": "-----BEGIN CERTIFICATE-----\n",
	} {
		if got := string(s.Data[name]); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	golden(t, "packed.yaml", s.Data[estate.FileName])
	if e.State == "/var/lib/dhow" || e.Databases[0].Source.Password.Env == "" || e.Gate.Listen != "0.0.0.0:443" {
		t.Error("the estate itself was changed")
	}
	// The pods read it as it was meant.
	path := filepath.Join(t.TempDir(), estate.FileName)
	if err := os.WriteFile(path, s.Data[estate.FileName], 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := estate.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	d := again.Databases[0]
	if d.Source.Password.File != "/etc/dhow/ledger.source.password" || d.Source.TLS.CA != "/etc/dhow/ledger.source.ca.pem" || again.Databases[1].Source.Password.ARN == "" || again.Gate.Control != "/var/lib/dhow/gate.sock" {
		t.Errorf("the pods read %+v", again)
	}
}

// TestPackRefuses names all that pods can not reach or have, and shows no secret.
func TestPackRefuses(t *testing.T) {
	_, err := pods.NewPack(t.Context(), load(t, "unreachable.yaml"))
	if err == nil {
		t.Fatal("it is packed")
	}
	for _, want := range []string{
		"database ledger: source: 127.0.0.1 is each pod itself", "database ledger: source: ", "LEDGER_SOURCE_PASSWORD is not set",
		"database ledger: target: /run/postgresql is a Unix socket of this machine", "route ledger: target: localhost is each pod itself",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("it does not say %q: %v", want, err)
		}
	}
}

// TestJob keeps the Job as it is applied.
func TestJob(t *testing.T) {
	text, err := pods.YAML(pack(t).Job(pods.Job{Place: somewhere, Parts: 4}))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "job.yaml", text)
	if strings.Contains(string(text), "s3cret") {
		t.Error("it holds a secret")
	}
}

// TestPlaceRefused: what the API server would refuse is told before anything is sent.
func TestPlaceRefused(t *testing.T) {
	p := pack(t)
	for name, c := range map[string]struct {
		job  pods.Job
		want string
	}{
		"no part":         {pods.Job{Place: somewhere}, "a job of 0 parts: want 1 to 64"},
		"too many":        {pods.Job{Place: somewhere, Parts: 65}, "a job of 65 parts"},
		"no image":        {pods.Job{Place: pods.Place{Namespace: "moves"}, Parts: 1}, "need an image of dhow"},
		"a space":         {pods.Job{Place: pods.Place{Namespace: "moves", Image: "a b"}, Parts: 1}, "has a space in it"},
		"namespace":       {pods.Job{Place: pods.Place{Namespace: "Moves", Image: "a"}, Parts: 1}, `the namespace "Moves"`},
		"service account": {pods.Job{Place: pods.Place{Namespace: "moves", Image: "a", ServiceAccount: "A"}, Parts: 1}, `the service account "A"`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := (&pods.Cluster{}).Muster(t.Context(), p, c.job); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("it is refused with %v, want %q", err, c.want)
			}
		})
	}
}

// TestWorkload keeps the gate and the movers as they are applied: with all that they
// may have, and with as little as they can do with.
func TestWorkload(t *testing.T) {
	p := pack(t)
	least := pods.Workload{Place: pods.Place{Namespace: "moves", Image: "dhow"}, Volatile: true, NodePort: 30070}
	whole := pods.Workload{Place: somewhere, Parts: 4, StorageClass: "gp3", Storage: "2Gi"}
	own := pods.Workload{Place: pods.Place{Namespace: "moves", Image: "dhow"}, Parts: 1}
	for name, w := range map[string]pods.Workload{"least.yaml": least, "whole.yaml": whole, "own-account.yaml": own} {
		objects, err := p.Objects(w)
		if err != nil {
			t.Fatal(err)
		}
		text, err := pods.YAML(objects...)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, text)
		if strings.Contains(string(text), "s3cret") {
			t.Errorf("%s holds a secret", name)
		}
	}
	for want, w := range map[string]pods.Workload{
		`"much" is no size`: {Place: somewhere, Storage: "much"}, `"0" is no size`: {Place: somewhere, Storage: "0"},
		"65 parts of a copy": {Place: somewhere, Parts: 65}, "need an image": {},
	} {
		if _, err := p.Objects(w); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("it is refused with %v, want %q", err, want)
		}
	}
}
