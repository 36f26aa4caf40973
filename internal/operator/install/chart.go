package install

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"reflect"
	"regexp"
	"strings"

	"github.com/invopop/jsonschema"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"dhow/deploy"
	"dhow/internal/operator/render"
)

const (
	chartVersion = "0.1.0"
	// leastVersion is the first Kubernetes that knows all that the definitions' own rules use.
	leastVersion = ">=1.31.0-0"
	made         = "Made by `go test ./internal/operator/install -update`: do not edit."
)

// Chart is the Helm chart, each file by its path in it.
func Chart() (map[string][]byte, error) {
	all, err := objects()
	if err != nil {
		return nil, err
	}
	schema, err := valuesSchema()
	if err != nil {
		return nil, err
	}
	values, err := valuesFile()
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{
		"Chart.yaml": fmt.Appendf(nil, `# %s
apiVersion: v2
name: %s
description: Exposes and balances the workloads of a cluster on AWS, so that a rollout loses no request.
type: application
version: %s
kubeVersion: "%s"
`, made, Name, chartVersion, leastVersion),
		"values.yaml":        values,
		"values.schema.json": schema,
	}
	kinds := deploy.Definitions()
	names, err := fs.Glob(kinds, "*.yaml")
	if err != nil {
		return nil, fmt.Errorf("list the definitions: %w", err)
	}
	for _, name := range names {
		if files["crds/"+name], err = fs.ReadFile(kinds, name); err != nil {
			return nil, fmt.Errorf("read a definition: %w", err)
		}
	}
	for _, o := range all {
		text, err := template(o)
		if err != nil {
			return nil, err
		}
		name := "templates/" + strings.ToLower(o.GetKind())
		if files[name+".yaml"] != nil { // another of its kind
			name += "-" + o.GetName()
		}
		files[name+".yaml"] = text
	}
	return files, nil
}

// way is how a hole of a template is filled.
type way int

const (
	// scalar stands in the place of a value.
	scalar way = iota
	// block stands in the place of a value that is a list or a map.
	block
	// option is a key that is there only where its value is given.
	option
	// entries are put into the map in which they stand, where there are any.
	entries
	// item is of a list, and there only under a condition.
	item
)

// hole is a place of an object that a chart's values fill.
type hole struct {
	// at is the way to it: keys of maps, and numbers of lists.
	at []any
	way
	// text is an expression in the language of Helm's templates.
	text string
	// key and value are of an option and of an item.
	key, value string
}

// whenAdmitting is under which what belongs to the webhook is made.
const whenAdmitting = ".Values.admission.enabled"

// policyText is the operator's policy: always in the namespace in which it runs.
const policyText = `merge (dict "namespace" .Release.Namespace) (get .Values "policy" | default dict) | toYaml`

// holes are those of a kind of object beside its namespace.
func holes(o *unstructured.Unstructured) []hole {
	pod := []any{"spec", "template", "spec"}
	in := func(base []any, more ...any) []any { return append(append([]any{}, base...), more...) }
	switch o.GetKind() {
	case "ServiceAccount":
		return []hole{{at: []any{"metadata"}, way: option, text: ".Values.serviceAccount.annotations", key: "annotations"}}
	case "ClusterRoleBinding", "RoleBinding":
		return []hole{{at: []any{"subjects", 0, "namespace"}, text: "{{ .Release.Namespace }}"}}
	case "ConfigMap":
		if o.GetName() != Name {
			return nil
		}
		return []hole{{at: []any{"data", "policy.yaml"}, way: block, text: policyText, value: "|"}}
	case "MutatingWebhookConfiguration":
		hooks, _, _ := unstructured.NestedSlice(o.Object, "webhooks")
		var all []hole
		for i := range hooks {
			all = append(all, hole{at: []any{"webhooks", i, "clientConfig", "service", "namespace"}, text: "{{ .Release.Namespace }}"},
				hole{at: []any{"webhooks", i, "timeoutSeconds"}, text: "{{ .Values.admission.timeoutSeconds }}"})
		}
		return all
	case "Deployment":
		container := in(pod, "containers", 0)
		return []hole{
			{at: []any{"spec", "replicas"}, text: "{{ .Values.replicas }}"},
			{at: []any{"spec", "template", "metadata", "annotations", policyHash}, text: `"{{ ` + policyText + ` | sha256sum }}"`},
			{at: []any{"spec", "template", "metadata", "annotations"}, way: entries, text: ".Values.podAnnotations"},
			{at: []any{"spec", "template", "metadata", "labels"}, way: entries, text: ".Values.podLabels"},
			{at: pod, way: option, text: ".Values.imagePullSecrets", key: "imagePullSecrets"},
			{at: pod, way: option, text: ".Values.priorityClassName", key: "priorityClassName"},
			{at: pod, way: option, text: ".Values.nodeSelector", key: "nodeSelector"},
			{at: pod, way: option, text: ".Values.tolerations", key: "tolerations"},
			{at: pod, way: option, text: ".Values.affinity", key: "affinity"},
			{at: in(container, "image"), text: `"{{ .Values.image.repository }}{{ with .Values.image.digest }}@{{ . }}{{ else }}{{ with .Values.image.tag }}:{{ . }}{{ end }}{{ end }}"`},
			{at: in(container, "imagePullPolicy"), text: "{{ .Values.image.pullPolicy }}"},
			{at: in(container, "args", 6), way: item, text: ".Values.verbose", value: "-v"},
			{at: in(container, "args", 7), way: item, text: whenAdmitting, value: fmt.Sprintf("--webhook=:%d", webhookPort)},
			{at: in(container, "resources"), way: block, text: "toYaml .Values.resources"},
		}
	}
	return nil
}

// template is an object as a template of the chart.
func template(o *unstructured.Unstructured) ([]byte, error) {
	fail := func(err error) ([]byte, error) {
		return nil, fmt.Errorf("make the template of %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	tree := o.DeepCopy().Object
	all := holes(o)
	if o.GetNamespace() != "" {
		all = append(all, hole{at: []any{"metadata", "namespace"}, text: "{{ .Release.Namespace }}"})
	}
	for i, h := range all {
		if err := h.open(tree, mark(i)); err != nil {
			return fail(err)
		}
	}
	text, err := yaml.Marshal(tree)
	if err != nil {
		return fail(err)
	}
	filled := string(text)
	for i, h := range all {
		filled = h.fill(filled, mark(i))
	}
	if kind := o.GetKind(); kind == "MutatingWebhookConfiguration" || kind == "Secret" || kind == "Service" {
		filled = "{{- if " + whenAdmitting + " }}\n" + filled + "{{- end }}\n"
	}
	return []byte("{{- /* " + made + " */}}\n" + filled), nil
}

// mark stands where a hole is until it is filled: a word that needs no quotes, and that no
// other begins with.
func mark(i int) string { return fmt.Sprintf("HOLE%dHERE", i) }

// open puts a mark into the tree.
func (h hole) open(tree any, mark string) error {
	at := h.at
	if h.way == option || h.way == entries {
		at = append(append([]any{}, at...), mark)
	}
	for _, step := range at[:len(at)-1] {
		switch x := tree.(type) {
		case map[string]any:
			key, _ := step.(string)
			tree = x[key]
		case []any:
			n, ok := step.(int)
			if !ok || n >= len(x) {
				return fmt.Errorf("there is no %v", h.at)
			}
			tree = x[n]
		}
	}
	switch x := tree.(type) {
	case map[string]any:
		key, _ := at[len(at)-1].(string)
		if _, ok := x[key]; !ok && key != mark {
			return fmt.Errorf("there is no %v", h.at)
		}
		x[key] = mark
	case []any:
		n, ok := at[len(at)-1].(int)
		if !ok || n >= len(x) || h.way == item && x[n] != h.value {
			return fmt.Errorf("there is no %v of %q", h.at, h.value)
		}
		x[n] = mark
	default:
		return fmt.Errorf("there is no %v", h.at)
	}
	return nil
}

// fill puts the expression in the place of a mark.
func (h hole) fill(text, mark string) string {
	if h.way == scalar {
		return strings.ReplaceAll(text, mark, h.text)
	}
	line := regexp.MustCompile(`(?m)^( *)(.*)` + mark + `.*$`)
	return line.ReplaceAllStringFunc(text, func(found string) string {
		parts := line.FindStringSubmatch(found)
		in, before := parts[1], strings.TrimSuffix(parts[2], " ")
		deeper := len(in) + 2
		switch h.way {
		case block:
			if h.value != "" {
				before += " " + h.value
			}
			return fmt.Sprintf("%s%s\n%s  {{- %s | nindent %d }}", in, before, in, h.text, deeper)
		case option:
			return fmt.Sprintf("%[1]s{{- with %[2]s }}\n%[1]s%[3]s:\n%[1]s  {{- toYaml . | nindent %[4]d }}\n%[1]s{{- end }}", in, h.text, h.key, deeper)
		case entries:
			return fmt.Sprintf("%[1]s{{- with %[2]s }}\n%[1]s{{- toYaml . | nindent %[3]d }}\n%[1]s{{- end }}", in, h.text, len(in))
		default:
			return fmt.Sprintf("%[1]s{{- if %[2]s }}\n%[1]s- %[3]s\n%[1]s{{- end }}", in, h.text, h.value)
		}
	})
}

// value is one of the chart's values, or a group of them.
type value struct {
	key, comment string
	usual        any
	schema       map[string]any
	group        []value
}

func kindOf(name string) map[string]any { return map[string]any{"type": name} }

// values are the chart's, in the order in which they are told.
func values() ([]value, error) {
	policy, err := policySchema()
	if err != nil {
		return nil, err
	}
	words := map[string]any{"type": "object", "additionalProperties": kindOf("string")}
	return []value{
		{key: "image", comment: "The image of dhow, which you have pushed to a registry of your own.", group: []value{
			{key: "repository", comment: "Where it is, without a tag.", usual: image, schema: map[string]any{"type": "string", "minLength": 1}},
			{key: "tag", comment: "Its tag; a digest is better.", usual: "", schema: kindOf("string")},
			{key: "digest", comment: "Its digest, as sha256:0b1c..., which counts before the tag.", usual: "", schema: map[string]any{"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"}},
			{key: "pullPolicy", comment: "When a node fetches it: Always, IfNotPresent or Never.", usual: "IfNotPresent", schema: map[string]any{"enum": []any{"Always", "IfNotPresent", "Never"}}},
		}},
		{key: "imagePullSecrets", comment: "Secrets by which nodes may fetch it, as - name: registry.", usual: []any{}, schema: map[string]any{"type": "array", "items": kindOf("object")}},
		{key: "replicas", comment: "How many operators run: one works, all complete pods, and another takes over within seconds.", usual: 2, schema: map[string]any{"type": "integer", "minimum": 1, "maximum": 10}},
		{key: "policy", comment: "What holds for all Exposures of the cluster: docs/operator.md lists the keys. Its namespace is always that of the release.", usual: map[string]any{}, schema: policy},
		{key: "admission", comment: "Pods that are completed when they are made, in namespaces with the label dhow.dev/pods=enabled, and whose images are held, in those with dhow.dev/digests=pin.", group: []value{
			{key: "enabled", comment: "Without it no namespace's pods are.", usual: true, schema: kindOf("boolean")},
			{key: "timeoutSeconds", comment: "For how long the API server waits for an answer before it lets a pod in as it is.", usual: webhookTimeout, schema: map[string]any{"type": "integer", "minimum": 1, "maximum": 10}},
		}},
		{key: "verbose", comment: "Logs what the operator does, not its faults alone.", usual: true, schema: kindOf("boolean")},
		{key: "resources", comment: "What an operator asks for, and may take: 512Mi are enough for 10,000 Exposures.", usual: map[string]any{"requests": map[string]any{"cpu": "100m", "memory": "256Mi"}, "limits": map[string]any{"memory": "512Mi"}}, schema: kindOf("object")},
		{key: "serviceAccount", comment: "The account by which it calls the API server.", group: []value{
			{key: "annotations", comment: "Annotations of the account.", usual: map[string]any{}, schema: words},
		}},
		{key: "podAnnotations", comment: "Further annotations of its pods.", usual: map[string]any{}, schema: words},
		{key: "podLabels", comment: "Further labels of its pods.", usual: map[string]any{}, schema: words},
		{key: "priorityClassName", comment: "The class by which its pods go before others.", usual: "", schema: kindOf("string")},
		{key: "nodeSelector", comment: "On which nodes its pods run.", usual: map[string]any{}, schema: words},
		{key: "tolerations", comment: "Which taints of nodes its pods bear.", usual: []any{}, schema: map[string]any{"type": "array", "items": kindOf("object")}},
		{key: "affinity", comment: "Near what its pods run; they are spread over zones and nodes anyway.", usual: map[string]any{}, schema: kindOf("object")},
	}, nil
}

// policySchema is the schema of the operator's policy.
func policySchema() (map[string]any, error) {
	r := jsonschema.Reflector{Anonymous: true, ExpandedStruct: true, DoNotReference: true}
	text, err := json.Marshal(r.ReflectFromType(reflect.TypeFor[render.Policy]()))
	schema := map[string]any{}
	if err == nil {
		err = json.Unmarshal(text, &schema)
	}
	if err != nil {
		return nil, fmt.Errorf("write the schema of the operator's policy: %w", err)
	}
	delete(schema, "$schema")
	delete(schema, "$id")
	return schema, nil
}

// valuesFile is values.yaml, with a comment to each value.
func valuesFile() ([]byte, error) {
	all, err := values()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n", made)
	if err := writeValues(&b, all, ""); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func writeValues(b *bytes.Buffer, all []value, in string) error {
	for _, v := range all {
		if in == "" {
			b.WriteString("\n")
		}
		fmt.Fprintf(b, "%s# %s\n", in, v.comment)
		if len(v.group) > 0 {
			fmt.Fprintf(b, "%s%s:\n", in, v.key)
			if err := writeValues(b, v.group, in+"  "); err != nil {
				return err
			}
			continue
		}
		text, err := yaml.Marshal(map[string]any{v.key: v.usual})
		if err != nil {
			return fmt.Errorf("write the value %s: %w", v.key, err)
		}
		for line := range strings.Lines(string(text)) {
			b.WriteString(in + line)
		}
	}
	return nil
}

// valuesSchema is values.schema.json: it refuses keys that it does not know.
func valuesSchema() ([]byte, error) {
	all, err := values()
	if err != nil {
		return nil, err
	}
	schema := schemaOf(all)
	schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	schema["title"] = Name
	// A chart that contains this one hands these down.
	schema["properties"].(map[string]any)["global"] = kindOf("object")
	text, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the schema of the values: %w", err)
	}
	return append(text, '\n'), nil
}

func schemaOf(all []value) map[string]any {
	properties := map[string]any{}
	for _, v := range all {
		s := map[string]any{}
		if len(v.group) > 0 {
			s = schemaOf(v.group)
		}
		for k, x := range v.schema {
			s[k] = x
		}
		s["description"] = v.comment
		properties[v.key] = s
	}
	return map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
}
