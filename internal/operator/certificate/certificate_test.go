package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

//nolint:gochecknoglobals // constants of the tests
var (
	hosts = []string{"dhow-operator-webhook.dhow-system.svc", "127.0.0.1"}
	start = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	quiet = slog.New(slog.NewTextHandler(io.Discard, nil))
)

// secrets are one Secret that two operators share, as the API server keeps it.
type secrets struct {
	mu      sync.Mutex
	version string
	data    map[string][]byte
	missing bool
	// raced lets the next write come too late.
	raced  bool
	writes int
}

//nolint:gochecknoglobals // a constant
var resource = schema.GroupResource{Resource: "secrets"}

func (s *secrets) Get(_ context.Context, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.missing || key != (client.ObjectKey{Namespace: "dhow-system", Name: Secret}) {
		return apierrors.NewNotFound(resource, key.Name)
	}
	x := o.(*corev1.Secret)
	x.Namespace, x.Name, x.ResourceVersion = key.Namespace, key.Name, s.version
	x.Data = map[string][]byte{}
	for k, v := range s.data {
		x.Data[k] = bytes.Clone(v)
	}
	return nil
}

func (s *secrets) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return errors.New("nobody may list Secrets")
}

func (s *secrets) Update(_ context.Context, o client.Object, _ ...client.UpdateOption) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := o.(*corev1.Secret)
	if s.raced || x.ResourceVersion != s.version {
		s.raced = false
		return apierrors.NewConflict(resource, x.Name, errors.New("it has changed"))
	}
	s.writes++
	s.version += "1"
	s.data = x.Data
	return nil
}

// trusted says whether a served certificate is trusted by what was announced.
func trusted(s *Store, authorities []byte, at time.Time) error {
	c, err := s.Get(nil)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authorities)
	_, err = c.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at, DNSName: hosts[0]})
	return err
}

// TestLife goes through several certificates' lives: whenever operators and API servers
// look, within their lags, what is served is trusted.
func TestLife(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		times := Times{Life: 36 * time.Hour, Settle: time.Hour}.WithDefaults()
		shared := &secrets{version: "1"}
		var announced, believed []byte
		var announcedAt time.Time
		at := start
		keeper := &Keeper{Reader: shared, Writer: shared, Namespace: "dhow-system", Hosts: hosts, Times: times, Log: quiet,
			Announce: func(_ context.Context, b []byte) error {
				if !same(announced, b) {
					announced, announcedAt = b, at
				}
				return nil
			}}
		stores := []*Store{{}, {}}
		loaders := []*Loader{{Reader: shared, Namespace: "dhow-system", Store: stores[0], Log: quiet}, {Reader: shared, Namespace: "dhow-system", Store: stores[1], Log: quiet}}
		serials := map[string]bool{}
		for step := range 36 {
			if at.Sub(announcedAt) >= times.Settle/2 {
				believed = announced
			}
			if err := keeper.keep(t.Context(), at); err != nil {
				t.Fatal(err)
			}
			// One operator is slow, and so is the API server's news of its own configuration.
			for i, l := range loaders {
				if i == 0 || step == 0 || rapid.Bool().Draw(t, "the slow one looks") {
					if err := l.load(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			if step == 0 || rapid.Bool().Draw(t, "the news is there") {
				believed = announced
			}
			for i, s := range stores {
				if err := trusted(s, believed, at); err != nil {
					t.Fatalf("step %d, operator %d: %v", step, i, err)
				}
			}
			c, _ := stores[0].Get(nil)
			serials[c.Leaf.SerialNumber.String()] = true
			if step%7 == 0 && rapid.Bool().Draw(t, "another leads") {
				keeper.announced, keeper.since = nil, time.Time{}
			}
			at = at.Add(time.Duration(rapid.IntRange(60, 120).Draw(t, "minutes")) * time.Minute)
			// What was slow is not slow for ever.
			if step%2 == 1 {
				for _, l := range loaders {
					if err := l.load(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if len(serials) < 2 {
			t.Fatalf("%d certificates in %s: want it changed", len(serials), at.Sub(start))
		}
	})
}

// TestQuiet: where all is as it should be, nothing is written.
func TestQuiet(t *testing.T) {
	shared := &secrets{version: "1"}
	keeper := &Keeper{Reader: shared, Writer: shared, Namespace: "dhow-system", Hosts: hosts, Times: Times{}.WithDefaults(), Log: quiet, Announce: func(context.Context, []byte) error { return nil }}
	for i := range 5 {
		if err := keeper.keep(t.Context(), start.Add(time.Duration(i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if shared.writes != 1 {
		t.Errorf("%d writes: want the first alone", shared.writes)
	}
}

// TestSpoiled: what can not be served is made anew, whatever it is, and the next one that is
// ready takes its place.
func TestSpoiled(t *testing.T) {
	times := Times{}.WithDefaults()
	good, err := generate(hosts, start, times.Life)
	if err != nil {
		t.Fatal(err)
	}
	other, err := generate(hosts, start, times.Life)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := generate([]string{"elsewhere.svc"}, start, times.Life)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		was  state
		at   time.Time
		next bool
	}{
		"nothing":               {at: start},
		"no PEM":                {was: state{now: pair{[]byte("x"), []byte("y"), []byte("z")}}, at: start},
		"another's key":         {was: state{now: pair{good.certificate, other.key, good.authority}}, at: start},
		"another's authority":   {was: state{now: pair{good.certificate, good.key, other.authority}}, at: start},
		"another's name":        {was: state{now: elsewhere}, at: start},
		"ended":                 {was: state{now: good}, at: start.Add(times.Life + time.Hour)},
		"ended, the next ended": {was: state{now: good, next: other}, at: start.Add(times.Life + time.Hour)},
		"the next is ready":     {was: state{now: elsewhere, next: good}, at: start, next: true},
	} {
		t.Run(name, func(t *testing.T) {
			is, changed, err := c.was.advance(hosts, c.at, times, false)
			if err != nil || !changed {
				t.Fatalf("got %v, %v: want another", changed, err)
			}
			if _, err := is.now.check(hosts, c.at); err != nil {
				t.Error(err)
			}
			if c.next != bytes.Equal(is.now.certificate, good.certificate) {
				t.Errorf("took the next one: %v", !c.next)
			}
			if !is.next.empty() {
				t.Error("want no next one")
			}
			if got := read(is.data()); !bytes.Equal(got.now.key, is.now.key) {
				t.Error("the Secret does not hold what it should")
			}
		})
	}
}

// TestTold: what keeps the certificate from being made is told, with what to do, and never the key.
func TestTold(t *testing.T) {
	shared := &secrets{version: "1", missing: true}
	keeper := &Keeper{Reader: shared, Writer: shared, Namespace: "dhow-system", Hosts: hosts, Times: Times{}.WithDefaults(), Log: quiet, Announce: func(context.Context, []byte) error { return errors.New("refused") }}
	if err := keeper.keep(t.Context(), start); err == nil || !strings.Contains(err.Error(), "apply deploy/operator/install.yaml") {
		t.Errorf("got %v", err)
	}
	shared.missing, shared.raced = false, true
	if err := keeper.keep(t.Context(), start); err != nil || shared.writes != 0 {
		t.Errorf("got %v, %d writes: want the other's write respected", err, shared.writes)
	}
	if err := keeper.keep(t.Context(), start); err == nil || keeper.announced != nil {
		t.Errorf("got %v: want what the API server says, and nothing counted as announced", err)
	}
	loader := &Loader{Reader: shared, Namespace: "dhow-system", Store: &Store{}, Log: quiet}
	if _, err := loader.Store.Get(nil); !errors.Is(err, errNone) {
		t.Errorf("got %v", err)
	}
	shared.data[privateKey] = []byte("a secret of nobody's business")
	err := loader.load(t.Context())
	if !errors.Is(err, errWrong) || strings.Contains(err.Error(), "nobody's business") {
		t.Errorf("got %v", err)
	}
}

// TestServe: a real TLS server with the Store, and a client that believes the authorities.
func TestServe(t *testing.T) {
	shared := &secrets{version: "1"}
	var announced []byte
	keeper := &Keeper{Reader: shared, Writer: shared, Namespace: "dhow-system", Hosts: hosts, Times: Times{}.WithDefaults(), Log: quiet, Announce: func(_ context.Context, b []byte) error { announced = b; return nil }}
	store := &Store{}
	loader := &Loader{Reader: shared, Namespace: "dhow-system", Store: store, Times: Times{Look: 10 * time.Millisecond}, Log: quiet}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- loader.Start(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: store.Get})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _, _ = io.Copy(io.Discard, c) }()
		}
	}()
	if err := keeper.keep(ctx, time.Now()); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(announced)
	deadline := time.Now().Add(10 * time.Second)
	for {
		c, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{RootCAs: roots, ServerName: hosts[0]})
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
