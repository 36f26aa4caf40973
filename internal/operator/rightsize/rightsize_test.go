package rightsize

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"

	"dhow/internal/sizing"
)

//nolint:gochecknoglobals // a constant
var start = time.Date(2026, 12, 7, 0, 0, 0, 0, time.UTC)

func container(request, limit corev1.ResourceList) *corev1.Container {
	return &corev1.Container{Name: "app", Resources: corev1.ResourceRequirements{Requests: request, Limits: limit}}
}

func list(cpu, memory string) corev1.ResourceList {
	l := corev1.ResourceList{}
	if cpu != "" {
		l[corev1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		l[corev1.ResourceMemory] = resource.MustParse(memory)
	}
	return l
}

// TestQuantile: a percentile is never below the true one, and at most a twentieth above it.
func TestQuantile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float64Range(1, 1e11), 1, 200).Draw(t, "values")
		h := &Histogram{}
		for _, v := range values {
			h.Add(v)
		}
		slices.Sort(values)
		q := rapid.SampledFrom([]float64{0, .5, .9, .95, .99, 1}).Draw(t, "q")
		want := values[max(0, int(math.Ceil(q*float64(len(values))-1e-9))-1)]
		if got := h.Quantile(q); got < want*(1-1e-6) || got > want*growth*(1+1e-6) {
			t.Fatalf("the quantile %g of %v is %g: want %g, or up to a twentieth more", q, values, got, want)
		}
		text, err := h.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back Histogram
		if err := back.UnmarshalText(text); err != nil || back != *h {
			t.Fatalf("written and read again it is another, %v", err)
		}
	})
}

// FuzzHistogram: whatever is read is refused, or is written as it was meant.
func FuzzHistogram(f *testing.F) {
	f.Add("")
	f.Add("AQI")
	f.Add("////////////////")
	f.Fuzz(func(t *testing.T, text string) {
		var h, again Histogram
		if h.UnmarshalText([]byte(text)) != nil {
			return
		}
		out, err := h.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		if err := again.UnmarshalText(out); err != nil || again != h {
			t.Errorf("%q became %q: %v", text, out, err)
		}
	})
}

// week fills a record with a day's rhythm for some days: 200 and, at noon, 800 thousandths.
func week(days int) *Record {
	r := &Record{}
	for m := range days * 24 * 60 {
		cores, memory := .2, 100.*(1<<20)
		if h := m / 60 % 24; h >= 11 && h < 14 {
			cores, memory = .8, 180*(1<<20)
		}
		r.Sample(start.Add(time.Duration(m)*time.Minute), cores, memory)
	}
	return r
}

func TestSize(t *testing.T) {
	r := week(3)
	size := r.Size(container(list("100m", "64Mi"), list("", "256Mi")))
	if size.CPU < 950 || size.CPU > 1250 || size.Memory < 225<<20 || size.Memory > 256<<20 {
		t.Errorf("got %s and %s: want the 95th percentile and 20%%, and the highest and 25%%", size.CPU, size.Memory)
	}
	if !strings.Contains(size.CPUWhy.Reason, "95th percentile") || !strings.Contains(size.CPUWhy.Reason, "over 3 days by metrics API") {
		t.Errorf("got %q", size.CPUWhy.Reason)
	}
	if assumed := (&Record{}).Size(container(list("100m", "64Mi"), nil)); !assumed.CPUWhy.Assumed || !assumed.MemoryWhy.Assumed || assumed.CPU != 100 {
		t.Errorf("got %+v: want that an assumption is told to be one", assumed)
	}
}

// TestForgets: what has not been seen for weeks counts no more, and the record stays small.
func TestForgets(t *testing.T) {
	r := &Record{}
	r.Sample(start, 8, 8<<30)
	for m := range 21 * 24 * 60 {
		r.Sample(start.Add(time.Duration(m)*time.Minute), .1, 100<<20)
	}
	if peak := r.CPU.Quantile(1); peak > 120 {
		t.Errorf("got %g thousandths: want the old peak to be forgotten", peak)
	}
	if span := r.Span(); span > 3*halfLife || span < halfLife {
		t.Errorf("got a span of %s", span)
	}
	out, err := r.MarshalText()
	if err != nil || len(out) > 400 {
		t.Errorf("%d characters, %v: want few", len(out), err)
	}
	var back Record
	if err := back.UnmarshalText(out); err != nil || back.CPU != r.CPU || back.Memory != r.Memory || !back.From.Equal(r.From) || !back.Halved.Equal(r.Halved) {
		t.Errorf("written and read again: %v", err)
	}
	for _, wrong := range []string{"", "{", `{"cpu":"%"}`, `{"ooms":-1}`, `{"from":"2026-12-07T00:00:00Z","to":"2026-12-06T00:00:00Z"}`} {
		if err := back.UnmarshalText([]byte(wrong)); err == nil {
			t.Errorf("%q was read", wrong)
		}
	}
}

func TestOOM(t *testing.T) {
	r := week(2)
	limit := int64(200 << 20)
	if !r.Ended(start, limit) || r.Ended(start, limit) {
		t.Error("want the end counted once")
	}
	c := container(list("100m", "200Mi"), list("", "200Mi"))
	if size := r.Size(c); size.Memory != 320<<20 || !strings.Contains(size.MemoryWhy.Reason, "the kernel ended it once for want of memory") {
		t.Errorf("got %s, %q: want the limit and half of it", size.Memory, size.MemoryWhy.Reason)
	}
	// Given more, it gets neither more and more, nor less than that.
	for _, given := range []string{"320Mi", "1Gi"} {
		if size := r.Size(container(list("100m", given), list("", given))); size.Memory != 320<<20 {
			t.Errorf("with %s: got %s, want what the old limit asked for", given, size.Memory)
		}
	}
	for m := range 40 * 24 {
		r.Sample(start.Add(time.Duration(48+m)*time.Hour), .1, 100<<20)
	}
	if r.OOMs != 0 {
		t.Error("want it forgotten after weeks")
	}
}

func TestResize(t *testing.T) {
	for name, x := range map[string]struct {
		request, limit corev1.ResourceList
		cpu            sizing.Milli
		memory         sizing.Bytes
		held           bool
		want           string // requests, then limits; "" is no change
	}{
		"both grow":                         {list("100m", "64Mi"), list("", "128Mi"), 250, 256 * sizing.MiB, false, "250m 256Mi, 0 256Mi"},
		"near enough":                       {list("100m", "64Mi"), list("", "128Mi"), 115, 70 * sizing.MiB, false, ""},
		"the autoscaler goes by CPU":        {list("100m", "64Mi"), nil, 250, 256 * sizing.MiB, true, "100m 256Mi, 0 0"},
		"no limits":                         {list("1", "1Gi"), nil, 250, 256 * sizing.MiB, false, "250m 256Mi, 0 0"},
		"a limit of memory stays":           {list("100m", "512Mi"), list("", "1Gi"), 100, 128 * sizing.MiB, false, "100m 128Mi, 0 1Gi"},
		"guaranteed grows":                  {list("100m", "64Mi"), list("100m", "64Mi"), 250, 128 * sizing.MiB, false, "250m 128Mi, 250m 128Mi"},
		"guaranteed keeps its memory":       {list("100m", "512Mi"), list("100m", "512Mi"), 250, 128 * sizing.MiB, false, "250m 512Mi, 250m 512Mi"},
		"a limit of CPU is not reached":     {list("100m", "64Mi"), list("200m", "128Mi"), 500, 64 * sizing.MiB, false, "199m 64Mi, 200m 128Mi"},
		"nothing is asked for":              {nil, nil, 250, 128 * sizing.MiB, false, ""},
		"what is not asked for is not made": {list("100m", ""), nil, 250, 128 * sizing.MiB, false, "250m 0, 0 0"},
	} {
		t.Run(name, func(t *testing.T) {
			c := container(x.request, x.limit)
			before := c.DeepCopy()
			got, changed := Resize(c, sizing.ContainerSize{CPU: x.cpu, Memory: x.memory}, Held{CPU: x.held})
			text := got.Requests.Cpu().String() + " " + got.Requests.Memory().String() + ", " + got.Limits.Cpu().String() + " " + got.Limits.Memory().String()
			if changed != (x.want != "") || changed && text != x.want {
				t.Errorf("got %s, %v: want %q", text, changed, x.want)
			}
			if c.Resources.String() != before.Resources.String() {
				t.Error("the container itself was changed")
			}
		})
	}
	restarting := container(list("100m", "64Mi"), nil)
	restarting.ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceMemory, RestartPolicy: corev1.RestartContainer}}
	if got, changed := Resize(restarting, sizing.ContainerSize{CPU: 100, Memory: 256 * sizing.MiB}, Held{}); changed {
		t.Errorf("got %v: want nothing that restarts it", got)
	}
}
