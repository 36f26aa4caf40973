package v1alpha1_test

import (
	"os"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"dhow/api/v1alpha1"
	"dhow/internal/operator/apitest"
)

// day is a window that is right.
const day = `{name: day, from: "08:00", to: "20:00", min: 3}`

// wrongSchedules are specs, and the sentence that refuses each.
//
//nolint:gochecknoglobals // a table of tests
var wrongSchedules = []struct{ spec, want string }{
	{`{timeZone: Asia/Dubai, windows: [` + day + `]}`, "spec.target: Required value"},
	{`{target: {name: a}, windows: [` + day + `]}`, "spec.timeZone: Required value"},
	{`{target: {name: a}, timeZone: Asia/Dubai}`, "spec.windows: Required value"},
	{`{target: {name: a}, timeZone: Asia/Dubai, windows: []}`, "should have at least 1 items"},
	{`{target: {name: a, kind: DaemonSet}, timeZone: Asia/Dubai, windows: [` + day + `]}`, `supported values: "Exposure", "HorizontalPodAutoscaler", "Deployment", "StatefulSet", "Rollout"`},
	{`{target: {name: a}, timeZone: Asia/Atlantis, windows: [` + day + `]}`, "there is no such time zone: name one of the IANA"},
	{`{target: {name: a}, timeZone: Local, windows: [` + day + `]}`, "should match"},
	{`{target: {name: a}, mode: Try, timeZone: UTC, windows: [` + day + `]}`, `supported values: "DryRun", "Apply"`},
	{`{target: {name: a}, timeZone: UTC, windows: [` + day + `, ` + day + `]}`, "Duplicate value"},
	{`{target: {name: a}, timeZone: UTC, windows: [{name: Day, from: "08:00", to: "20:00", min: 3}]}`, "should match"},
	{`{target: {name: a}, timeZone: UTC, windows: [{name: day, from: "8", to: "20:00", min: 3}]}`, "should match"},
	{`{target: {name: a}, timeZone: UTC, windows: [{name: day, from: "24:00", to: "20:00", min: 3}]}`, "should match"},
	{`{target: {name: a}, timeZone: UTC, windows: [{name: day, from: "08:00", min: 3}]}`, "give from and to, or cron and for"},
	{`{target: {name: a}, timeZone: UTC, windows: [{name: day, min: 3}]}`, "give from and to, or cron and for"},
	{`{target: {name: a}, timeZone: UTC, windows: [{name: day, from: "08:00", to: "20:00", cron: "0 8 * * *", for: 1h, min: 3}]}`, "give from and to, or cron and for"},
	{`{target: {name: a}, timeZone: UTC, windows: [{name: day, from: "08:00", to: "08:00", min: 3}]}`, "for a whole day, give 00:00 and 24:00"},
	{`{target: {name: a}, timeZone: UTC, windows: [{name: day, cron: "0 8 * * *", for: 1h, days: [Mon], min: 3}]}`, "a cron expression names the days itself"},
	{`{target: {name: a}, timeZone: UTC, windows: [{name: day, cron: "0 8 * *", for: 1h, min: 3}]}`, "should match"},
	{`{target: {name: a}, timeZone: UTC, windows: [{name: day, cron: "0 8 * * *", for: 8d, min: 3}]}`, "for: Invalid value"},
	{`{target: {name: a}, timeZone: UTC, windows: [{name: day, cron: "0 8 * * *", for: 200h, min: 3}]}`, "for must be from 1m to 168h"},
	{`{target: {name: a}, timeZone: UTC, windows: [{name: day, days: [Monday], from: "08:00", to: "20:00", min: 3}]}`, "supported values"},
	{`{target: {name: a}, timeZone: UTC, windows: [{name: day, from: "08:00", to: "20:00"}]}`, "give min, max, or both"},
	{`{target: {name: a}, timeZone: UTC, windows: [{name: day, from: "08:00", to: "20:00", min: 5, max: 3}]}`, "min must not be above max"},
	{`{target: {name: a}, timeZone: UTC, windows: [{name: day, from: "08:00", to: "20:00", min: 0, max: 0}]}`, "an autoscaler keeps one pod at least"},
	{`{target: {name: a, kind: HorizontalPodAutoscaler}, timeZone: UTC, otherwise: {min: 0}, windows: [` + day + `]}`, "an autoscaler keeps one pod at least"},
	{`{target: {name: a}, timeZone: UTC, otherwise: {}, windows: [` + day + `]}`, "give min, max, or both"},
	{`{target: {name: a}, timeZone: UTC, windows: [` + day + `], holidays: [{name: h, from: 2026-02-30}]}`, "there is no such day"},
	{`{target: {name: a}, timeZone: UTC, windows: [` + day + `], holidays: [{name: h, from: "02-30"}]}`, "there is no such day"},
	{`{target: {name: a}, timeZone: UTC, windows: [` + day + `], holidays: [{name: h, from: "12-02", to: 2026-12-03}]}`, "give the year in both from and to"},
	{`{target: {name: a}, timeZone: UTC, windows: [` + day + `], holidays: [{name: h, from: 2026-12-04, to: 2026-12-03}]}`, "from must not be after to"},
	{`{target: {name: a}, timeZone: UTC, windows: [{name: day, from: "08:00", to: "20:00", min: 3, between: {from: 2026-12-04, to: 2026-12-03}}]}`, "from must not be after to"},
}

// TestScheduledScaleAtTheServer sends right and wrong ScheduledScales to a real API server.
func TestScheduledScaleAtTheServer(t *testing.T) {
	conf := apitest.Start(t, nil, apitest.Ours(t)...)
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(conf, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	create := func(t *testing.T, spec string) (*unstructured.Unstructured, error) {
		t.Helper()
		var tree map[string]any
		if err := yaml.UnmarshalStrict([]byte(spec), &tree); err != nil {
			t.Fatal(err)
		}
		o := &unstructured.Unstructured{Object: map[string]any{"spec": tree}}
		o.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("ScheduledScale"))
		o.SetNamespace("default")
		o.SetGenerateName("it-")
		return o, c.Create(t.Context(), o, client.FieldValidation("Strict"))
	}
	for _, w := range wrongSchedules {
		t.Run(w.want, func(t *testing.T) {
			_, err := create(t, w.spec)
			if !apierrors.IsInvalid(err) {
				t.Fatalf("%s: got %v: want it refused", w.spec, err)
			}
			if !strings.Contains(err.Error(), w.want) {
				t.Errorf("%s: got %q: want %q in it", w.spec, err, w.want)
			}
		})
	}
	t.Run("the manual's example", func(t *testing.T) {
		page, err := os.ReadFile("../../docs/operations.md")
		if err != nil {
			t.Fatal(err)
		}
		_, text, _ := strings.Cut(string(page), "```yaml\n")
		text, _, _ = strings.Cut(text, "```")
		o := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict([]byte(text), &o.Object); err != nil {
			t.Fatal(err)
		}
		o.SetNamespace("default")
		if err := c.Create(t.Context(), o, client.FieldValidation("Strict")); err != nil || o.GetKind() != "ScheduledScale" {
			t.Errorf("%s: %v", o.GetKind(), err)
		}
	})
	o, err := create(t, `{target: {name: cart}, timeZone: Asia/Dubai, adopt: true, otherwise: {min: 1, max: 4},
 holidays: [{name: national day, from: "12-02", to: "12-03"}, {name: move, from: 2026-12-10}, {name: new year, from: "12-31", to: "01-01"}],
 windows: [{name: day, days: [Mon, Fri], from: "08:00", to: "24:00", min: 6, max: 40, priority: -1}, {name: salaries, cron: "0 6 25 Jan-Mar Mon-Fri", for: 30h, holidays: Keep, min: 20, between: {from: 2026-12-01, to: 2027-01-01}}]}`)
	if err != nil {
		t.Fatal(err)
	}
	s := &v1alpha1.ScheduledScale{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, s); err != nil {
		t.Fatal(err)
	}
	if s.Spec.Mode != v1alpha1.DryRun || s.Spec.Target.Kind != "Exposure" || s.Spec.Windows[0].Holidays != v1alpha1.HolidaysSkip {
		t.Errorf("got %+v: want every default", s.Spec)
	}
	s.Spec.Target.Name = "user"
	if err := c.Update(t.Context(), s); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "the target can not be changed") {
		t.Errorf("another target: got %v, want it refused", err)
	}
	if _, err := create(t, `{target: {kind: Deployment, name: a}, timeZone: UTC, windows: [{name: night, from: "20:00", to: "06:00", min: 0, max: 0}]}`); err != nil {
		t.Errorf("no pods at night: %v", err)
	}
}
