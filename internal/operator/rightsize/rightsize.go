// Package rightsize remembers what containers take, in as much memory as a container has
// had from the first day on, and says what they should ask for, and what of that can be given
// to a pod that runs. It knows nothing of a cluster, and asks no clock. The figures are those
// of package sizing, as for a plan.
package rightsize

import (
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"dhow/internal/inventory"
	"dhow/internal/sizing"
)

const (
	// halfLife is after which what was seen counts half as much: so a new release shows within
	// a week or two, and a quiet Sunday takes nothing away.
	halfLife = 7 * 24 * time.Hour
	// memoryUnit is the smallest bucket of memory, in bytes.
	memoryUnit = 1 << 10
	// milli is thousandths of a core in a core.
	milli = 1000
	// different is by how many percent a pod must be off before it is resized: below it, the
	// step of a figure, or a quiet day, would resize all pods again and again.
	different = 20
	percent   = 100
)

// source is where usage comes from, as a reason names it.
const source = "metrics API"

// Record is what one container of a workload took, over all its pods. Its size does not grow.
type Record struct {
	CPU    Histogram `json:"cpu"`
	Memory Histogram `json:"memory"`
	// From and To are the times of the first and the last measurement that counts.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Halved is when older measurements lost half of their weight last.
	Halved time.Time `json:"halved"`
	// OOMs is how often the kernel ended it for want of memory, OOMAt the highest limit at
	// which it did, in bytes, and OOMLast when it did last.
	OOMs    int       `json:"ooms,omitempty"`
	OOMAt   int64     `json:"oomAt,omitempty"`
	OOMLast time.Time `json:"oomLast,omitzero"`
}

// Sample counts what one container took, in cores and bytes.
func (r *Record) Sample(t time.Time, cores, bytes float64) {
	if r.From.IsZero() {
		r.From, r.Halved = t, t
	}
	if t.After(r.To) {
		r.To = t
	}
	for t.Sub(r.Halved) >= halfLife {
		r.CPU.Halve()
		r.Memory.Halve()
		r.Halved = r.Halved.Add(halfLife)
		if from := r.Halved.Add(-halfLife); from.After(r.From) {
			r.From = from
		}
		if r.Halved.Sub(r.OOMLast) > 2*halfLife {
			r.OOMs, r.OOMAt = 0, 0
		}
	}
	r.CPU.Add(cores * milli)
	r.Memory.Add(bytes / memoryUnit)
}

// Ended counts that the kernel ended one for want of memory, at a limit in bytes, 0 for none.
// It says whether that is news.
func (r *Record) Ended(t time.Time, limit int64) bool {
	if !t.After(r.OOMLast) {
		return false
	}
	r.OOMs, r.OOMAt, r.OOMLast = r.OOMs+1, max(r.OOMAt, limit), t
	return true
}

// Span is for how long it was measured.
func (r *Record) Span() time.Duration { return r.To.Sub(r.From) }

// Size says what a container should ask for that asks now for what it does.
func (r *Record) Size(c *corev1.Container) sizing.ContainerSize {
	in := sizing.Container{Name: c.Name, Requests: resources(c.Resources.Requests), Limits: resources(c.Resources.Limits)}
	if r.CPU.Count() > 0 {
		quantiles := func(h *Histogram, unit float64) inventory.Quantiles {
			return inventory.Quantiles{P50: h.Quantile(.5) * unit, P90: h.Quantile(.9) * unit, P95: h.Quantile(.95) * unit, P99: h.Quantile(.99) * unit, Max: h.Quantile(1) * unit}
		}
		in.Usage = &inventory.Usage{Container: c.Name, CPU: quantiles(&r.CPU, 1./milli), Memory: quantiles(&r.Memory, memoryUnit), Samples: r.CPU.Count(), From: r.From, To: r.To, Source: source}
	}
	if r.OOMs > 0 && int64(in.Limits.Memory) <= r.OOMAt {
		in.OOMKills = r.OOMs
	}
	size := sizing.For(sizing.Workload{Containers: []sizing.Container{in}}, sizing.Policy{}).Containers[0]
	if r.OOMs > 0 && in.OOMKills == 0 {
		// It has been given more since: not less than what the end at the old limit asked for.
		in.OOMKills, in.Limits.Memory, in.Requests.Memory = r.OOMs, sizing.Bytes(r.OOMAt), 0
		in.Usage = nil
		if old := sizing.For(sizing.Workload{Containers: []sizing.Container{in}}, sizing.Policy{}).Containers[0]; old.Memory > size.Memory {
			size.Memory, size.MemoryWhy = old.Memory, old.MemoryWhy
		}
	}
	return size
}

func resources(l corev1.ResourceList) sizing.Resources {
	return sizing.Resources{CPU: sizing.Milli(l.Cpu().MilliValue()), Memory: sizing.Bytes(l.Memory().Value())}
}

// text is a record in few characters: all of it that a restart must not lose.
type text Record

// MarshalText writes it.
func (r *Record) MarshalText() ([]byte, error) {
	out, err := json.Marshal((*text)(r))
	if err != nil {
		return nil, fmt.Errorf("write what a container took: %w", err)
	}
	return out, nil
}

// UnmarshalText reads what MarshalText wrote.
func (r *Record) UnmarshalText(in []byte) error {
	*r = Record{}
	if err := json.Unmarshal(in, (*text)(r)); err != nil {
		*r = Record{}
		return fmt.Errorf("read what a container took: %w", err)
	}
	if r.OOMs < 0 || r.OOMAt < 0 || r.To.Before(r.From) || r.Halved.Before(r.From) {
		*r = Record{}
		return errBroken
	}
	return nil
}

// Held says what of a pod's resources is left as it is.
type Held struct {
	// CPU says that an autoscaler goes by percents of the request.
	CPU bool
}

// Resize says which resources a container that runs should have, and whether those are
// others than it has. It never makes it another class of quality of service by itself, never
// restarts it, and never takes memory away that it may be using: a limit comes down by a
// rollout alone.
func Resize(c *corev1.Container, size sizing.ContainerSize, held Held) (corev1.ResourceRequirements, bool) {
	now := *c.Resources.DeepCopy()
	changed := false
	restarts := func(name corev1.ResourceName) bool {
		for _, p := range c.ResizePolicy {
			if p.ResourceName == name && p.RestartPolicy == corev1.RestartContainer {
				return true
			}
		}
		return false
	}
	set := func(list corev1.ResourceList, name corev1.ResourceName, q resource.Quantity) {
		if old := list[name]; old.Cmp(q) != 0 {
			list[name] = q
			changed = true
		}
	}
	if request, ok := now.Requests[corev1.ResourceCPU]; ok && !held.CPU && !restarts(corev1.ResourceCPU) && off(request.MilliValue(), int64(size.CPU)) {
		want := *resource.NewMilliQuantity(int64(size.CPU), resource.DecimalSI)
		limit, limited := now.Limits[corev1.ResourceCPU]
		switch {
		case limited && limit.Cmp(request) == 0:
			set(now.Limits, corev1.ResourceCPU, want)
		case limited && want.Cmp(limit) >= 0:
			want = *resource.NewMilliQuantity(max(limit.MilliValue()-1, request.MilliValue()), resource.DecimalSI)
		}
		set(now.Requests, corev1.ResourceCPU, want)
	}
	if request, ok := now.Requests[corev1.ResourceMemory]; ok && !restarts(corev1.ResourceMemory) && off(request.Value(), int64(size.Memory)) {
		want := *resource.NewQuantity(int64(size.Memory), resource.BinarySI)
		limit, limited := now.Limits[corev1.ResourceMemory]
		switch {
		case limited && limit.Cmp(request) == 0 && want.Cmp(limit) < 0:
			return now, changed
		case limited && (limit.Cmp(request) == 0 || limit.Cmp(want) < 0):
			set(now.Limits, corev1.ResourceMemory, want)
		}
		set(now.Requests, corev1.ResourceMemory, want)
	}
	return now, changed
}

// off says whether a number is far enough from another.
func off(have, want int64) bool {
	d := have - want
	if d < 0 {
		d = -d
	}
	return d*percent > have*different
}
