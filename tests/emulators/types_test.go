package emulators

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/transport/http"

	"dhow/internal/landing"
)

// typesOf are the types of the templates, sorted.
func typesOf(l landing.Library) []string {
	seen := map[string]bool{}
	for _, t := range l {
		for _, r := range t.Resources {
			seen[r.Type] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// knows tries whether an emulator knows a type: a template with one resource of it and
// no properties. What comes of that does not matter, only whether the type is refused
// (ministack) or passed over in silence (moto: the resource has no physical id).
func (e *emulator) knows(t *testing.T, cfn *cloudformation.Client, typ string) bool {
	t.Helper()
	name := strings.ReplaceAll(typ, "::", "-")
	_, err := cfn.CreateStack(t.Context(), &cloudformation.CreateStackInput{StackName: &name, TemplateBody: aws.String(fmt.Sprintf(`{"Resources": {"Thing": {"Type": %q}}}`, typ))})
	var (
		api      smithy.APIError
		answered *http.ResponseError
	)
	switch {
	case errors.As(err, &api):
		return !strings.Contains(api.ErrorMessage(), "Unrecognized resource types")
	case errors.As(err, &answered): // it has tried to make it, and has failed without a word
		return true
	case err != nil:
		t.Fatalf("%s, %s: %v", e.kind.name, typ, err)
	case e.kind == ministack:
		return true
	}
	out, err := cfn.ListStackResources(t.Context(), &cloudformation.ListStackResourcesInput{StackName: &name})
	if err != nil {
		t.Fatalf("%s, %s: %v", e.kind.name, typ, err)
	}
	for _, r := range out.StackResourceSummaries {
		if aws.ToString(r.PhysicalResourceId) != "" {
			return true
		}
	}
	return false
}

// TestTypes tells which types of the templates each emulator knows, and holds it: a
// newer release that knows more lets more be deployed.
func TestTypes(t *testing.T) {
	library, err := landing.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	known := map[*kind]map[string]bool{}
	all := typesOf(library)
	for _, k := range []*kind{moto, ministack} {
		e := k.start(t)
		cfn := cloudformation.NewFromConfig(e.config(t), func(o *cloudformation.Options) { o.Retryer = aws.NopRetryer{} })
		known[k] = map[string]bool{}
		for _, typ := range all {
			known[k][typ] = e.knows(t, cfn, typ)
		}
	}
	var text, unknown strings.Builder
	neither := 0
	for _, typ := range all {
		if !known[moto][typ] && !known[ministack][typ] {
			unknown.WriteString(typ + "\n")
			neither++
		}
		var by []string
		for _, k := range []*kind{moto, ministack} {
			if known[k][typ] {
				by = append(by, k.name)
			}
		}
		if len(by) == 0 {
			by = []string{"neither"}
		}
		fmt.Fprintf(&text, "%s: %s\n", typ, strings.Join(by, ", "))
	}
	t.Logf("of %d types neither emulator knows %d:\n%s", len(all), neither, unknown.String())
	golden(t, "types.txt", text.String())
}
