package pods

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"dhow/internal/estate"
)

const (
	// estateKey is the estate's file in a pack.
	estateKey = estate.FileName
	// gateToken is the key of the secret of the gate's control address.
	gateToken = "gate.token"
	// maxPack bounds a pack, in bytes; a Secret takes 1 MiB.
	maxPack = 1000 << 10
	// gatePort and metricsPort are where a gate in a pod listens, whatever the
	// estate's ports are: the Service keeps those.
	gatePort, metricsPort = 8080, 9090
)

// Pack is an estate as pods read it: its file, and beside it the secrets and the
// certificates that it names, each a file. It is kept in a Secret.
type Pack struct {
	estate *estate.Estate
	files  map[string][]byte
}

// NewPack packs an estate. What it keeps in environment variables and files goes
// along; what AWS keeps stays there, and the pods ask for it. The estate itself is
// not changed. It refuses what pods could not reach, all at once.
func NewPack(ctx context.Context, e *estate.Estate) (*Pack, error) {
	p := &Pack{estate: e, files: map[string][]byte{}}
	in := *e
	in.State = stateDir
	in.Databases = slices.Clone(e.Databases)
	var wrong []error
	fault := func(where string, err error) {
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", where, err))
		}
	}
	for i := range in.Databases {
		d := &in.Databases[i]
		for side, end := range map[string]*estate.Endpoint{"source": &d.Source, "target": &d.Target} {
			where := fmt.Sprintf("database %s: %s", d.Name, side)
			fault(where, reachable(end.Host))
			fault(where, p.secret(ctx, &end.Password, d.Name+"."+side+".password"))
			fault(where, p.file(&end.TLS.CA, d.Name+"."+side+".ca.pem"))
		}
		if d.Replication != nil {
			d.Replication = new(*d.Replication)
			fault(fmt.Sprintf("database %s: replication", d.Name), p.secret(ctx, &d.Replication.Password, d.Name+".replication.password"))
		}
	}
	if e.Gate != nil {
		in.Gate = new(*e.Gate)
		in.Gate.Listen, in.Gate.Metrics = fmt.Sprintf(":%d", gatePort), fmt.Sprintf(":%d", metricsPort)
		if strings.Contains(in.Gate.Control, "/") {
			in.Gate.Control = path.Join(stateDir, estate.DefaultControl)
		}
		fault("the gate's token", p.secret(ctx, &in.Gate.Token, gateToken))
		for _, r := range e.Gate.Routes {
			for side, to := range map[string]string{"source": r.Source, "target": r.Target} {
				if u, err := url.Parse(to); err == nil {
					fault(fmt.Sprintf("route %s: %s", r.Name, side), reachable(u.Hostname()))
				}
			}
		}
	}
	if len(wrong) > 0 {
		slices.SortFunc(wrong, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
		return nil, fmt.Errorf("pack the estate for pods: %w", errors.Join(wrong...))
	}
	text, err := in.Text()
	if err != nil {
		return nil, err
	}
	p.files[estateKey] = text
	size := 0
	for _, f := range p.files {
		size += len(f)
	}
	if size > maxPack {
		return nil, fmt.Errorf("pack the estate for pods: with its secrets and certificates it has %d bytes, and a Kubernetes Secret takes %d: name smaller files of certificates", size, maxPack)
	}
	return p, nil
}

// reachable says why a pod can not reach a host that this machine can.
func reachable(host string) error {
	ip := net.ParseIP(host)
	switch {
	case strings.HasPrefix(host, "/"):
		return fmt.Errorf("%s is a Unix socket of this machine, which no pod reaches: name the server's address", host)
	case strings.EqualFold(strings.TrimSuffix(host, "."), "localhost"), ip != nil && ip.IsLoopback():
		return fmt.Errorf("%s is each pod itself: name an address that pods reach", host)
	}
	return nil
}

// secret moves a secret into a file of the pack.
func (p *Pack) secret(ctx context.Context, s *estate.Secret, name string) error {
	if s.Env == "" && s.File == "" {
		return nil
	}
	value, err := s.Resolve(ctx)
	if err != nil {
		return err
	}
	p.files[name] = []byte(value)
	*s = estate.Secret{File: path.Join(estateDir, name)}
	return nil
}

// file moves a file of certificates into the pack.
func (p *Pack) file(at *string, name string) error {
	if *at == "" {
		return nil
	}
	info, err := os.Stat(*at)
	if err != nil {
		return fmt.Errorf("find the certificates to trust: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxPack {
		return fmt.Errorf("%s is not a file of at most %d bytes, which a Kubernetes Secret takes: name a file with the certificates that are needed", *at, maxPack)
	}
	text, err := os.ReadFile(*at)
	if err != nil {
		return fmt.Errorf("read the certificates to trust: %w", err)
	}
	p.files[name] = text
	*at = path.Join(estateDir, name)
	return nil
}

// Secret is the object that holds the pack.
func (p *Pack) Secret(name, namespace string) *corev1.Secret {
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: meta(p.estate, name, namespace, ""),
		Type:       corev1.SecretTypeOpaque,
		Data:       p.files,
	}
}
