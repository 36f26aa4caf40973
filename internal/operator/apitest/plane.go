package apitest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"dhow/deploy"
	"dhow/internal/demo/kube"
	"dhow/internal/demo/kube/crds"
	"dhow/internal/process"
)

// The users of a Plane.
const (
	// Admin may do everything, and so may Balancer, as whom AWS's controller is played.
	Admin    = "admin"
	Balancer = "aws"
	// Operator is the account by which the operator works in a cluster; it may do nothing
	// until Permit has been called.
	Operator = "system:serviceaccount:" + OperatorNamespace + ":" + operatorAccount
	// OperatorNamespace is where that account is.
	OperatorNamespace = "dhow-system"

	operatorAccount = "dhow-operator"
	masters         = "system:masters"
)

const (
	// keyBits is the length of the key that signs accounts' tokens.
	keyBits = 2048
	// tokenBytes make a token that nobody guesses.
	tokenBytes = 24
	// services are the addresses of Services: one more than a million, for ten thousand
	// need more than the API server's own default has.
	services = "10.96.0.0/12"
	// probeTime bounds one question whether a process is ready.
	probeTime = 2 * time.Second
	// planeStop bounds the end of each process.
	planeStop = 30 * time.Second
	// collectAgain is between the end of the garbage collector and its next start.
	collectAgain = 500 * time.Millisecond
	loopback     = "127.0.0.1"
)

// ErrNoPrograms says that this machine lacks the programs.
var ErrNoPrograms = errors.New("there is no kube-apiserver with etcd here: `hack/setup --kube` builds them")

// PlaneOptions say how to run a Plane.
type PlaneOptions struct {
	// Dir takes its state and its logs. It must be there, and be empty; the caller removes it.
	Dir string
	// Audited are the users whose requests are counted.
	Audited []string
	// Collector lets what is owned go with its owner, which the API server does not do by itself.
	Collector bool
	// Project is a folder of the project's sources; "" is the current one.
	Project string
}

// Plane is an API server with its etcd, as processes of their own, for what takes more
// than Start gives: it needs no test, it can be killed, paused and started again with all
// that it held, and it counts who asked for what. There are no nodes and no pods, and of
// Kubernetes' controllers the garbage collector at most. All of it ends with this process,
// however that ends.
type Plane struct {
	o             PlaneOptions
	bin           string
	store, server *process.Server
	peer          *process.Port // of etcd, where nobody calls
	collecting    sync.WaitGroup
	collector     atomic.Pointer[process.Process]
	closed        chan struct{} // ends the garbage collector
	close         sync.Once
	tokens        map[string]string // by user
	probe         *http.Client
}

// NewPlane starts one that knows the operator's kinds, the Gateway API's and those of the
// AWS Load Balancer Controller. Close ends it.
func NewPlane(ctx context.Context, o PlaneOptions) (_ *Plane, err error) {
	p := &Plane{o: o, bin: assets(), tokens: map[string]string{}, closed: make(chan struct{})}
	if p.bin == "" {
		return nil, ErrNoPrograms
	}
	if p.o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, fmt.Errorf("find the folder of the API server: %w", err)
	}
	if err := p.prepare(); err != nil {
		return nil, fmt.Errorf("prepare an API server: %w", err)
	}
	if err := p.start(ctx); err != nil {
		return nil, errors.Join(err, p.Close()) //nolint:contextcheck // it ends what was started, also when ctx has ended
	}
	return p, nil
}

// start starts everything, one after the other.
func (p *Plane) start(ctx context.Context) (err error) {
	if p.peer, err = process.ReservePort(); err != nil {
		return err
	}
	if p.store, err = process.NewServer(process.ServerOptions{Name: "etcd", Dir: p.folder("etcd"), Command: p.etcd, Probe: func(ctx context.Context) error { return p.answers(ctx, p.storeURL()+"/health") },
		Orderly: syscall.SIGTERM, Crash: syscall.SIGKILL}); err != nil {
		return err
	}
	if err := p.store.Restart(ctx); err != nil {
		return err
	}
	if p.server, err = process.NewServer(process.ServerOptions{Name: "kube-apiserver", Dir: p.folder("apiserver"), Command: p.apiServer, Probe: func(ctx context.Context) error { return p.answers(ctx, "https://"+p.Address()+"/readyz") },
		Orderly: syscall.SIGTERM, Crash: syscall.SIGKILL}); err != nil {
		return err
	}
	if err := p.StartServer(ctx); err != nil {
		return err
	}
	definitions, err := Definitions(ctx, p.o.Project)
	if err != nil {
		return err
	}
	admin, err := p.Kubeconfig(Admin, "")
	if err != nil {
		return err
	}
	if err := kube.Apply(ctx, admin, definitions); err != nil {
		return fmt.Errorf("teach the API server its kinds: %w", err)
	}
	if !p.o.Collector {
		return nil
	}
	return p.collect(admin)
}

// collect runs the garbage collector, which learns the kinds that are there, until Close. It
// ends where the API server does not answer while it starts, so it is started again, as a
// kubelet does.
func (p *Plane) collect(kubeconfig string) error {
	program := p.program("kube-controller-manager")
	if _, err := os.Stat(program); err != nil {
		return fmt.Errorf("find the garbage collector: %w: `hack/setup --kube` builds it", err)
	}
	start := func() (*process.Process, error) {
		cmd := exec.Command(program, "--kubeconfig="+kubeconfig, "--authentication-kubeconfig="+kubeconfig, "--authorization-kubeconfig="+kubeconfig, "--controllers=garbage-collector-controller", //nolint:noctx // it lives until Close
			"--leader-elect=false", "--secure-port=0", "--kube-api-qps=200", "--kube-api-burst=400")
		return process.Start(cmd, process.Options{Name: "kube-controller-manager", Log: p.folder("controller-manager.log"), DeathSignal: syscall.SIGKILL})
	}
	current, err := start()
	if err != nil {
		return err
	}
	p.collecting.Go(func() {
		for err == nil {
			p.collector.Store(current)
			select {
			case <-p.closed:
				current.Kill() // it holds nothing
				return
			case <-current.Done():
			}
			select {
			case <-p.closed:
				return
			case <-time.After(collectAgain):
				current, err = start()
			}
		}
	})
	return nil
}

// Definitions are those of the operator's kinds, the Gateway API's and those of the AWS
// Load Balancer Controller, for kube.Apply. project is a folder of the project's sources;
// "" is the current one.
func Definitions(ctx context.Context, project string) ([]byte, error) {
	ours, err := kube.Files(deploy.Definitions())
	if err != nil {
		return nil, err
	}
	others, err := crds.All(ctx, project)
	if err != nil {
		return nil, err
	}
	return append(ours, others...), nil
}

func (p *Plane) folder(name string) string  { return filepath.Join(p.o.Dir, name) }
func (p *Plane) program(name string) string { return filepath.Join(p.bin, name) }
func (p *Plane) storeURL() string {
	return "http://" + loopback + ":" + strconv.Itoa(p.store.Port)
}

// KillCollector ends the garbage collector at once, and another begins: it waits ever longer, a
// quarter of an hour in the end, with what it could not remove when the API server was away.
func (p *Plane) KillCollector() {
	if c := p.collector.Load(); c != nil {
		c.Kill()
	}
}

// Address is the API server's host and port, which stay.
func (p *Plane) Address() string { return loopback + ":" + strconv.Itoa(p.server.Port) }

// etcd is its command. It syncs nothing: what a power cut would cost is nobody's here.
func (p *Plane) etcd() *exec.Cmd {
	peer := "http://" + p.peer.On(loopback)
	return exec.Command(p.program("etcd"), "--name=default", "--data-dir="+p.folder("etcd/data"), "--unsafe-no-fsync", "--log-level=warn", "--quota-backend-bytes=4294967296", //nolint:noctx // it lives until Close
		"--listen-client-urls="+p.storeURL(), "--advertise-client-urls="+p.storeURL(), "--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer)
}

func (p *Plane) apiServer() *exec.Cmd {
	// With the address of a machine's own network it would tell others of itself: it is alone.
	return exec.Command(p.program("kube-apiserver"), "--etcd-servers="+p.storeURL(), "--bind-address="+loopback, "--advertise-address="+loopback, "--endpoint-reconciler-type=none", //nolint:noctx // it lives until Close
		"--secure-port="+strconv.Itoa(p.server.Port), "--cert-dir="+p.folder("pki"), "--token-auth-file="+p.folder("tokens.csv"), "--authorization-mode=RBAC", "--service-cluster-ip-range="+services,
		"--disable-admission-plugins=ServiceAccount", "--service-account-issuer=https://kubernetes.default.svc.cluster.local", "--service-account-key-file="+p.folder("accounts.key"),
		"--service-account-signing-key-file="+p.folder("accounts.key"), "--audit-policy-file="+p.folder("audit.yaml"), "--audit-log-path="+p.auditLog(), "--audit-log-maxsize=0", "--audit-log-mode=blocking")
}

// prepare writes what the API server reads: who its users are, and whose requests count.
func (p *Plane) prepare() error {
	if found, err := os.ReadDir(p.o.Dir); err != nil || len(found) > 0 {
		return errors.Join(fmt.Errorf("the folder %s must be there and be empty", p.o.Dir), err)
	}
	var users strings.Builder
	for name, groups := range map[string]string{Admin: masters, Balancer: masters, Operator: "system:serviceaccounts,system:serviceaccounts:" + OperatorNamespace} {
		token := make([]byte, tokenBytes)
		if _, err := rand.Read(token); err != nil {
			return err
		}
		p.tokens[name] = fmt.Sprintf("%x", token)
		fmt.Fprintf(&users, "%s,%s,%s,%q\n", p.tokens[name], name, name, groups)
	}
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{
		"tokens.csv":   []byte(users.String()),
		"audit.yaml":   []byte(p.auditPolicy()),
		"accounts.key": pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}),
	} {
		if err := os.WriteFile(p.folder(name), text, 0o600); err != nil {
			return err
		}
	}
	for _, name := range []string{"etcd", "apiserver", "pki"} {
		if err := os.Mkdir(p.folder(name), 0o700); err != nil {
			return err
		}
	}
	// The API server makes its own certificate when it starts first: until then nobody can
	// know it, and nothing is sent to who answers here but the question whether it is ready.
	p.probe = &http.Client{Timeout: probeTime, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // see above
	return nil
}

// answers is nil where an address answers that all is well.
func (p *Plane) answers(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := p.probe.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, answer.Status)
	}
	return nil
}

// Config reaches the API server as a user, with no limit of its own on requests.
func (p *Plane) Config(user string) (*rest.Config, error) {
	ca, err := os.ReadFile(p.folder("pki/apiserver.crt"))
	if err != nil {
		return nil, fmt.Errorf("read the API server's certificate: %w", err)
	}
	return &rest.Config{Host: "https://" + p.Address(), BearerToken: p.tokens[user], TLSClientConfig: rest.TLSClientConfig{CAData: ca}, QPS: -1, UserAgent: user, WarningHandler: rest.NoWarnings{}}, nil
}

// Kubeconfig writes a file for a user of the API server, which is reached at an address,
// host and port on this machine, where something may stand between; "" is its own.
func (p *Plane) Kubeconfig(user, address string) (string, error) {
	conf, err := p.Config(user)
	if err != nil {
		return "", err
	}
	if address == "" {
		address = p.Address()
	}
	raw := clientcmdapi.NewConfig()
	raw.Clusters["plane"] = &clientcmdapi.Cluster{Server: "https://" + address, CertificateAuthorityData: conf.CAData}
	raw.AuthInfos["user"] = &clientcmdapi.AuthInfo{Token: conf.BearerToken}
	raw.Contexts["plane"] = &clientcmdapi.Context{Cluster: "plane", AuthInfo: "user"}
	raw.CurrentContext = "plane"
	name := strings.NewReplacer(":", "-", ".", "-").Replace(user + "-" + address)
	path := p.folder(name + ".kubeconfig")
	if err := clientcmd.WriteToFile(*raw, path); err != nil { // with mode 0600
		return "", fmt.Errorf("write a kubeconfig: %w", err)
	}
	return path, nil
}

// bindings give the operator's account the roles of its name.
const bindings = `
apiVersion: v1
kind: Namespace
metadata: {name: ` + OperatorNamespace + `}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: ` + operatorAccount + `}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: ` + operatorAccount + `}
subjects: [{kind: ServiceAccount, name: ` + operatorAccount + `, namespace: ` + OperatorNamespace + `}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: ` + operatorAccount + `, namespace: ` + OperatorNamespace + `}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: ` + operatorAccount + `}
subjects: [{kind: ServiceAccount, name: ` + operatorAccount + `, namespace: ` + OperatorNamespace + `}]
`

// Permit makes the operator's namespace, and lets its account do what the roles say, which
// are those of deploy/operator/role.yaml.
func (p *Plane) Permit(ctx context.Context, roles []byte) error {
	admin, err := p.Kubeconfig(Admin, "")
	if err != nil {
		return err
	}
	return kube.Apply(ctx, admin, append([]byte(bindings+"\n---\n"), roles...))
}

// StartServer starts the API server where it was before, or anew, and returns when it is
// ready. It must not be called twice at once.
func (p *Plane) StartServer(ctx context.Context) error { return p.server.Restart(ctx) }

// KillServer ends the API server at once; what it had acknowledged is in the store.
func (p *Plane) KillServer() { p.server.Kill() }

// PauseStore lets the store do nothing until ResumeStore, without telling anybody.
func (p *Plane) PauseStore() error { return p.signalStore(syscall.SIGSTOP) }

// ResumeStore lets the store go on. It may be called again.
func (p *Plane) ResumeStore() error { return p.signalStore(syscall.SIGCONT) }

func (p *Plane) signalStore(s syscall.Signal) error {
	if err := syscall.Kill(p.store.Pid(), s); err != nil {
		return fmt.Errorf("send etcd the signal %s: %w", s, err)
	}
	return nil
}

// Close ends all processes. It may be called again.
func (p *Plane) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), planeStop)
	defer cancel()
	var all []error
	p.close.Do(func() { close(p.closed) })
	p.collecting.Wait()
	for _, s := range []*process.Server{p.server, p.store} {
		if s != nil {
			if err := s.Stop(ctx); err != nil && !errors.Is(err, process.ErrForced) {
				all = append(all, err)
			}
		}
	}
	p.peer.Release()
	return errors.Join(all...)
}
