package certificate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Store holds the certificate that is served. Its zero value has none yet.
type Store struct {
	current atomic.Pointer[tls.Certificate]
}

// errNone says that there is no certificate yet.
var errNone = errors.New("there is no certificate yet: the leading operator makes it within seconds")

// Get is for tls.Config.GetCertificate.
func (s *Store) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := s.current.Load(); c != nil {
		return c, nil
	}
	return nil, errNone
}

const (
	// firstLook is between looks as long as there is no certificate.
	firstLook = 500 * time.Millisecond
	// lookTime bounds one look, with all of its requests.
	lookTime = 30 * time.Second
)

// look reads the Secret.
func look(ctx context.Context, r client.Reader, namespace string) (*corev1.Secret, error) {
	s := &corev1.Secret{}
	err := r.Get(ctx, client.ObjectKey{Namespace: namespace, Name: Secret}, s)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("there is no Secret %s/%s for the certificate: apply deploy/operator/install.yaml, which has it", namespace, Secret)
	}
	if err != nil {
		return nil, fmt.Errorf("read the Secret %s/%s: %w", namespace, Secret, err)
	}
	return s, nil
}

// again repeats a look until ctx ends. A fault is told when it begins, and when it is another.
func again(ctx context.Context, log *slog.Logger, what string, do func(context.Context) (time.Duration, error)) {
	said := ""
	for {
		bound, cancel := context.WithTimeout(ctx, lookTime)
		wait, err := do(bound)
		cancel()
		if ctx.Err() != nil {
			return
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != said && text != "" {
			log.Warn(what+" failed: it is tried again", "error", text)
		}
		said = text
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// Loader brings what the Secret holds into a Store. Each operator has one.
type Loader struct {
	// Reader reads the Secret past any cache: nothing more than its reading is needed then.
	Reader    client.Reader
	Namespace string
	Store     *Store
	Times     Times
	Log       *slog.Logger

	// have is the certificate in the Store, as PEM.
	have string
}

// NeedLeaderElection says that each operator loads.
func (l *Loader) NeedLeaderElection() bool { return false }

// Start loads until ctx ends. It returns no error: what fails is tried again.
func (l *Loader) Start(ctx context.Context) error {
	t := l.Times.WithDefaults()
	again(ctx, l.Log, "loading the webhook's certificate", func(ctx context.Context) (time.Duration, error) {
		err := l.load(ctx)
		if l.Store.current.Load() == nil {
			return min(firstLook, t.Look), err
		}
		return t.Look, err
	})
	return nil
}

func (l *Loader) load(ctx context.Context) error {
	secret, err := look(ctx, l.Reader, l.Namespace)
	if err != nil {
		return err
	}
	text := string(secret.Data[certificateKey])
	if text == "" || text == l.have {
		return nil // there is none yet, or none that is new
	}
	both, err := tls.X509KeyPair(secret.Data[certificateKey], secret.Data[privateKey])
	if err != nil {
		return fmt.Errorf("%w: it and its key in the Secret %s/%s are not a pair", errWrong, l.Namespace, Secret)
	}
	l.Store.current.Store(&both)
	l.have = text
	l.Log.Info("the webhook has a certificate", "until", both.Leaf.NotAfter.UTC().Format(time.RFC3339))
	return nil
}

// Writer writes an object that is there, if it is still the one that was read.
type Writer interface {
	Update(ctx context.Context, o client.Object, options ...client.UpdateOption) error
}

// Keeper makes the certificate, announces its authority, and changes both in time. One of
// several operators runs it; two at once do no harm, for each writes only what it has seen.
type Keeper struct {
	// Reader reads the Secret past any cache, and Writer writes it.
	Reader    client.Reader
	Writer    Writer
	Namespace string
	// Hosts are the names and addresses by which the operators are called.
	Hosts []string
	Times Times
	// Announce tells the API server which authorities to trust, in PEM. It may be called again
	// with the same, and then writes nothing.
	Announce func(ctx context.Context, authorities []byte) error
	Log      *slog.Logger

	// announced is what was announced last, and since when.
	announced []byte
	since     time.Time
}

// NeedLeaderElection says that one operator keeps.
func (k *Keeper) NeedLeaderElection() bool { return true }

// Start keeps until ctx ends. It returns no error: what fails is tried again.
func (k *Keeper) Start(ctx context.Context) error {
	k.Times = k.Times.WithDefaults()
	again(ctx, k.Log, "keeping the webhook's certificate", func(ctx context.Context) (time.Duration, error) {
		err := k.keep(ctx, time.Now())
		if err != nil && k.announced == nil {
			return min(firstLook, k.Times.Look), err
		}
		return k.Times.Look, err
	})
	return nil
}

// keep looks once, and does what is to be done. It may be repeated at any time.
func (k *Keeper) keep(ctx context.Context, at time.Time) error {
	secret, err := look(ctx, k.Reader, k.Namespace)
	if err != nil {
		return err
	}
	was := read(secret.Data)
	settled := k.announced != nil && same(k.announced, was.bundle(at)) && at.Sub(k.since) >= k.Times.Settle
	is, changed, err := was.advance(k.Hosts, at, k.Times, settled)
	if err != nil {
		return err
	}
	if changed {
		secret.Data = is.data()
		switch err := k.Writer.Update(ctx, secret); {
		case apierrors.IsConflict(err):
			return nil // another operator was faster: the next look sees what it wrote
		case err != nil:
			return fmt.Errorf("write the Secret %s/%s: %w", k.Namespace, Secret, err)
		}
		k.Log.Info("the webhook's certificate was made or changed", "next", !is.next.empty())
	}
	bundle := is.bundle(at)
	if err := k.Announce(ctx, bundle); err != nil {
		return err
	}
	if k.announced == nil || !same(k.announced, bundle) {
		k.announced, k.since = bundle, at
	}
	return nil
}
