// Package deploy holds the super-app's two deployments to Kubernetes: the old
// one, with the faults of years, as a customer had it, and the new one that a
// move should arrive at. It fills in what differs between places and gives plain
// manifests; it applies none. The faults of the old one stand in faults.yaml.
package deploy

import (
	"bufio"
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"dhow/superapp/fleet"
	"dhow/superapp/images"
)

//go:embed source aws faults.yaml
var files embed.FS

// Namespace is where both deployments live, each in its cluster.
const Namespace = "superapp"

// What the manifests have in the place of values: such as they might stand there,
// so that the files are whole as they are.
const (
	exampleRegistry = "registry.example.com/superapp"
	exampleNode     = "10.20.30.11"
	examplePostgres = "203.0.113.10"
	exampleMariaDB  = "203.0.113.11"
	exampleRedis    = "203.0.113.12"
	examplePassword = "Sup3rApp2019"
	exampleCardsKey = "6f1c0a5be27d4938b1a4c6d2e8f07193a5b4c3d2e1f0987654321fedcba98765"
	exampleEdge     = "10.40.0.0/20"
	exampleStores   = "10.40.64.0/20"
	exampleDigest   = "0000000000000000000000000000000000000000000000000000000000000000"
)

// firstNodePort is the first service's; the others follow in their order. All are
// in the range from which Kubernetes gives out none by itself, but for the last two.
const firstNodePort = 30080

// ports are the stores' own, by which the manifests name them.
const (
	postgresPort = 5432
	mariaDBPort  = 3306
	redisPort    = 6379
)

// redisNumbers are the databases of Redis that the old deployment names.
var redisNumbers = map[string]int{fleet.Transfers: 0, fleet.FX: 1, fleet.Web: 2} //nolint:gochecknoglobals // a constant table

// Values are what differs between the places that run the application.
type Values struct {
	// Registry holds the old deployment's images: Registry/accounts:latest.
	Registry string
	// Images are the new deployment's, by digest, by name; images.Push gives them.
	Images map[string]string
	// Postgres, MariaDB and Redis are URLs as the services read them, by the name of
	// the service that uses them.
	Postgres, MariaDB, Redis map[string]string
	// CardsKey is the secret from which card numbers follow.
	CardsKey string
	// Node is the address of a node, which the old deployment names.
	Node string
	// NodePorts are by service; a service that is not named keeps that of NodePorts().
	NodePorts map[string]int
	// Edge and Stores are the networks that the new deployment's policies name: where
	// requests come from, and where the stores are.
	Edge, Stores netip.Prefix
}

// NodePorts are the ports of a node on which the services are reached from outside
// of the cluster: of the old deployment, and of the new one's Edge.
func NodePorts() map[string]int {
	ports := map[string]int{}
	for i, s := range fleet.Services() {
		ports[s.Name] = firstNodePort + i
	}
	return ports
}

// SourceFiles are the old deployment's manifests as they stand, with the examples in them.
func SourceFiles() fs.FS {
	source, _ := fs.Sub(files, "source") // the name is valid: it is written here
	return source
}

// Source is the old deployment.
func Source(v Values) ([]byte, error) {
	return v.fill("source", v.registry(), v.node(), v.stores(), v.cardsKey())
}

// AWS is the new deployment as it was written by hand. The Secrets that it refers to are made elsewhere, see Secrets.
func AWS(v Values) ([]byte, error) { return v.fill("aws", v.digests(), v.networks()) }

// Edge is for a gate outside of the cluster: a NodePort for each service, in the
// place of a load balancer that reaches the pods themselves.
func Edge(v Values) ([]byte, error) { return v.fill("aws/edge", nil) }

// Migrations are Jobs that prepare the databases before the new deployment. Each
// refers to a Secret of the database's owner, SERVICE-owner.
func Migrations(v Values) ([]byte, error) { return v.fill("aws/migrate", v.digests(), v.networks()) }

// Secrets are those that the new deployment refers to.
func Secrets(v Values) ([]byte, error) {
	var out bytes.Buffer
	for _, s := range fleet.Services() {
		for _, u := range v.urls(s) {
			if u.value == "" {
				return nil, missing(u.what)
			}
			if err := secret(&out, s.Name+"-"+u.store, "url", u.value); err != nil {
				return nil, err
			}
		}
	}
	if v.CardsKey == "" {
		return nil, missing("CardsKey")
	}
	err := secret(&out, "cards-key", "key", v.CardsKey)
	return out.Bytes(), err
}

func secret(out *bytes.Buffer, name, key, value string) error {
	return write(out, map[string]any{
		"apiVersion": "v1", "kind": "Secret", "stringData": map[string]any{key: value},
		"metadata": map[string]any{"name": name, "namespace": Namespace},
	})
}

// Fault is one of the old deployment's.
type Fault struct {
	ID string `json:"id"`
	// Wrong is what is the matter, Hurts why that matters.
	Wrong string `json:"wrong"`
	Hurts string `json:"hurts"`
	// Shows says what it takes for the fault to do harm: one-node, many-nodes, or
	// cloud, where one is needed for its network or load balancers.
	Shows string  `json:"shows"`
	At    []Place `json:"at"`
}

// Place is where a fault is: a field, there or lacking, of some objects.
type Place struct {
	Path string `json:"path"`
	// Objects are written KIND/NAMESPACE/NAME, or KIND/NAME without a namespace.
	Objects []string `json:"objects"`
}

// Faults are all that the old deployment is known to have.
func Faults() ([]Fault, error) {
	text, err := files.ReadFile("faults.yaml")
	if err != nil {
		return nil, fmt.Errorf("read the list of faults: %w", err)
	}
	var list struct {
		Faults []Fault `json:"faults"`
	}
	if err := yaml.UnmarshalStrict(text, &list); err != nil {
		return nil, fmt.Errorf("read the list of faults: %w", err)
	}
	return list.Faults, nil
}

// value is what comes into the place of an example.
type value struct{ example, what, value string }

func missing(what string) error {
	return fmt.Errorf("fill in a deployment: the value of %s is missing", what)
}

func (v Values) registry() []value {
	return []value{{exampleRegistry, "Registry", v.Registry}}
}

func (v Values) cardsKey() []value { return []value{{exampleCardsKey, "CardsKey", v.CardsKey}} }

func (v Values) node() []value {
	var values []value
	for name, example := range NodePorts() {
		at := ""
		if v.Node != "" {
			at = v.Node + ":" + strconv.Itoa(v.nodePort(name))
		}
		values = append(values, value{exampleNode + ":" + strconv.Itoa(example), "Node", at})
	}
	return append(values, value{exampleNode, "Node", v.Node})
}

func (v Values) nodePort(service string) int {
	if port, ok := v.NodePorts[service]; ok {
		return port
	}
	return NodePorts()[service]
}

// storeURL is how one service reaches one store.
type storeURL struct{ store, what, value, example string }

func (v Values) urls(s fleet.Service) []storeURL {
	var urls []storeURL
	if s.Database == fleet.Postgres {
		urls = append(urls, storeURL{"postgres", "Postgres[" + s.Name + "]", v.Postgres[s.Name],
			fmt.Sprintf("postgres://superapp:%s@%s:%d/%s?sslmode=disable", examplePassword, examplePostgres, postgresPort, s.Name)})
	}
	if s.Database == fleet.MariaDB {
		urls = append(urls, storeURL{"mariadb", "MariaDB[" + s.Name + "]", v.MariaDB[s.Name],
			fmt.Sprintf("mariadb://superapp:%s@%s:%d/%s", examplePassword, exampleMariaDB, mariaDBPort, s.Name)})
	}
	if s.Redis {
		urls = append(urls, storeURL{"redis", "Redis[" + s.Name + "]", v.Redis[s.Name],
			fmt.Sprintf("redis://:%s@%s:%d/%d", examplePassword, exampleRedis, redisPort, redisNumbers[s.Name])})
	}
	return urls
}

// stores are the URLs, and the addresses in them where the manifests have those alone.
func (v Values) stores() []value {
	var values []value
	for _, s := range fleet.Services() {
		for _, u := range v.urls(s) {
			values = append(values, value{u.example, u.what, u.value})
		}
	}
	for example, u := range map[string]string{examplePostgres: v.Postgres[fleet.Accounts], exampleMariaDB: v.MariaDB[fleet.Cards]} {
		// Endpoints take an address only. For a name they keep their example, which nobody uses.
		if parsed, err := url.Parse(u); err == nil {
			if a, err := netip.ParseAddr(parsed.Hostname()); err == nil {
				values = append(values, value{example, "", a.String()})
			}
		}
	}
	return values
}

func (v Values) digests() []value {
	var values []value
	for _, s := range images.Superapp() {
		values = append(values, value{exampleRegistry + "/" + s.Name + "@sha256:" + exampleDigest, "Images[" + s.Name + "]", v.Images[s.Name]})
	}
	return values
}

func (v Values) networks() []value {
	text := func(p netip.Prefix) string {
		if !p.IsValid() {
			return ""
		}
		return p.String()
	}
	return []value{{exampleEdge, "Edge", text(v.Edge)}, {exampleStores, "Stores", text(v.Stores)}}
}

// fill reads the manifests of a folder, not of those in it, and puts the values in.
func (v Values) fill(dir string, sets ...[]value) ([]byte, error) {
	objects, err := read(dir)
	if err != nil {
		return nil, err
	}
	var pairs []string
	for _, x := range slices.Concat(sets...) {
		if x.value == "" {
			return nil, missing(x.what)
		}
		pairs = append(pairs, x.example, x.value)
	}
	texts := strings.NewReplacer(pairs...)
	var out bytes.Buffer
	for _, o := range objects {
		if err := write(&out, filled(o, "", texts, v.ports(o))); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

// ports are those of an object that differ between places: a field's name, its
// example, and what comes there.
func (v Values) ports(object map[string]any) map[string]map[float64]int {
	meta, _ := object["metadata"].(map[string]any)
	name, _ := meta["name"].(string)
	switch object["kind"] {
	case "Service":
		node := map[float64]int{}
		for service, example := range NodePorts() {
			node[float64(example)] = v.nodePort(service)
		}
		return map[string]map[float64]int{"nodePort": node}
	case "Endpoints", "NetworkPolicy":
		return map[string]map[float64]int{"port": {
			postgresPort: portOf(postgresPort, v.Postgres[name], v.Postgres[fleet.Accounts]),
			mariaDBPort:  portOf(mariaDBPort, v.MariaDB[name], v.MariaDB[fleet.Cards]),
			redisPort:    portOf(redisPort, v.Redis[name]),
		}}
	}
	return nil
}

// portOf is the port of the first URL that has one.
func portOf(otherwise int, urls ...string) int {
	for _, text := range urls {
		if u, err := url.Parse(text); err == nil && u.Port() != "" {
			if n, err := strconv.Atoi(u.Port()); err == nil {
				return n
			}
		}
	}
	return otherwise
}

// filled is a part of an object, with the values in it; key is the field that it is in.
func filled(part any, key string, texts *strings.Replacer, ports map[string]map[float64]int) any {
	switch x := part.(type) {
	case map[string]any:
		for k := range x {
			x[k] = filled(x[k], k, texts, ports)
		}
	case []any:
		for i := range x {
			x[i] = filled(x[i], key, texts, ports)
		}
	case string:
		return texts.Replace(x)
	case float64:
		if n, ok := ports[key][x]; ok {
			return n
		}
	}
	return part
}

// read gives the objects in a folder's files.
func read(dir string) ([]map[string]any, error) {
	entries, err := files.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the manifests: %w", err)
	}
	var objects []map[string]any
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		text, err := files.ReadFile(dir + "/" + e.Name())
		if err != nil {
			return nil, fmt.Errorf("read the manifests: %w", err)
		}
		for doc := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text))); ; {
			one, err := doc.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			var object map[string]any
			if err == nil {
				err = yaml.UnmarshalStrict(one, &object)
			}
			if err != nil {
				return nil, fmt.Errorf("read the manifest %s/%s: %w", dir, e.Name(), err)
			}
			objects = append(objects, object)
		}
	}
	// Nothing can be made in a namespace that is not there yet.
	slices.SortStableFunc(objects, func(a, b map[string]any) int { return first(a) - first(b) })
	return objects, nil
}

func first(object map[string]any) int {
	if object["kind"] == "Namespace" {
		return 0
	}
	return 1
}

func write(out *bytes.Buffer, object any) error {
	text, err := yaml.Marshal(object)
	if err != nil {
		return fmt.Errorf("write a manifest: %w", err)
	}
	out.WriteString("---\n")
	out.Write(text)
	return nil
}
