package orphan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

const (
	// mostEntries bounds each list of a report, and with the others keeps it below the 1 MiB of an object.
	mostEntries = 200
	// mostDeleted is how many of those are told that were deleted last.
	mostDeleted = 50
	// mostDeletions is how many are deleted at one look, so that who sees a mistake has time.
	mostDeletions = 5
	// mostText bounds what is told of an error, in bytes.
	mostText = 300
	// longestGap may be between two looks. After a longer one nobody knows whether an orphan had
	// an owner meanwhile, and its time begins anew.
	longestGap = time.Hour
)

// Settings say what is done with orphans.
type Settings struct {
	Cluster string
	// Delete deletes; without it it is only told what would be.
	Delete bool
	// After is for how long something must have been an orphan at every look.
	After time.Duration
}

// Report is what is known of a cluster's orphans: for people to read, and for the next look.
type Report struct {
	Cluster string    `json:"cluster"`
	Mode    string    `json:"mode"`
	Looked  time.Time `json:"looked"`
	// Refused says why nothing is deleted.
	Refused       string  `json:"refused,omitempty"`
	Orphans       []Entry `json:"orphans,omitempty"`
	Kept          []Entry `json:"kept,omitempty"`
	NotUnderstood []Entry `json:"notUnderstood,omitempty"`
	// LeftOut is how many more there are of the lists above.
	LeftOut int     `json:"leftOut,omitempty"`
	Deleted []Entry `json:"deleted,omitempty"`
}

// Entry is a resource in a report.
type Entry struct {
	Kind  string `json:"kind"`
	Name  string `json:"name"`
	ARN   string `json:"arn"`
	Owner string `json:"owner,omitempty"`
	Why   string `json:"why,omitempty"`
	// Since is from when on it was an orphan at every look.
	Since *time.Time `json:"since,omitempty"`
	// Then is what becomes of it.
	Then string `json:"then,omitempty"`
	// Deleting says that it was about to be deleted when this was written, At when it was.
	Deleting bool       `json:"deleting,omitempty"`
	At       *time.Time `json:"at,omitempty"`
}

// Read reads a report; an empty one is that of somebody who has not looked yet.
func Read(text string) (Report, error) {
	var r Report
	if err := yaml.Unmarshal([]byte(text), &r); err != nil {
		return Report{}, fmt.Errorf("read the report of orphans: %w", err)
	}
	return r, nil
}

// Text is what Read reads.
func (r Report) Text() (string, error) {
	text, err := yaml.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("write the report of orphans: %w", err)
	}
	return string(text), nil
}

// Next is the report of a look after r, and the ARNs that are to be deleted then, load
// balancers before target groups.
func (r Report) Next(s Settings, now time.Time, j Judgement) (Report, []string) {
	now = now.UTC().Truncate(time.Second)
	next := Report{Cluster: s.Cluster, Mode: "DryRun", Looked: now, Refused: j.Refusal, Deleted: slices.Clone(r.Deleted)}
	if s.Delete {
		next.Mode = "Delete"
	}
	since := map[string]time.Time{}
	if gap := now.Sub(r.Looked); r.Cluster == s.Cluster && gap >= 0 && gap <= longestGap {
		for _, e := range r.Orphans {
			if e.Since != nil && !e.Since.After(now) {
				since[e.ARN] = *e.Since
			}
		}
	}
	there, leads := map[string]bool{}, map[string]bool{}
	for _, f := range j.Findings {
		there[f.ARN], leads[f.ARN] = true, len(f.LoadBalancers) > 0
		e := Entry{Kind: f.Kind, Name: f.Name, ARN: f.ARN, Owner: f.Owner, Why: f.Why}
		switch f.State {
		case Orphan:
			first, ok := since[f.ARN]
			if !ok {
				first = now
			}
			e.Since = &first
			next.Orphans = append(next.Orphans, e)
		case Kept:
			next.Kept = append(next.Kept, e)
		case NotUnderstood:
			next.NotUnderstood = append(next.NotUnderstood, e)
		}
	}
	// What an operator was about to delete that ended before it could say so.
	for _, e := range r.Orphans {
		if e.Deleting && !there[e.ARN] {
			next.deleted(e, now)
		}
	}
	slices.SortStableFunc(next.Orphans, func(a, b Entry) int {
		return cmp.Or(a.Since.Compare(*b.Since), cmp.Compare(a.Kind, b.Kind))
	})
	for _, list := range []*[]Entry{&next.Orphans, &next.Kept, &next.NotUnderstood} {
		next.LeftOut += max(0, len(*list)-mostEntries)
		*list = (*list)[:min(len(*list), mostEntries)]
	}
	var due []string
	for i := range next.Orphans {
		e := &next.Orphans[i]
		from := e.Since.Add(s.After)
		when := "from " + from.Format(time.RFC3339) + " on"
		switch {
		case j.Refusal != "":
			e.Then = "nothing: see refused"
		case !s.Delete:
			e.Then = "nothing, for this is a dry run; else it would be deleted " + when
		case now.Before(from):
			e.Then = "deleted " + when
		case leads[e.ARN]:
			e.Then = "deleted once its load balancer is gone"
		case len(due) == mostDeletions:
			e.Then = "deleted at one of the next looks"
		default:
			e.Then, e.Deleting = "deleted now", true
			due = append(due, e.ARN)
		}
	}
	return next, due
}

// Settle takes down what became of an orphan that was to be deleted, as err says.
func (r *Report) Settle(arn string, now time.Time, err error) {
	i := slices.IndexFunc(r.Orphans, func(e Entry) bool { return e.ARN == arn })
	if i < 0 {
		return
	}
	e := r.Orphans[i]
	if err == nil {
		r.Orphans = slices.Delete(r.Orphans, i, i+1)
		r.deleted(e, now.UTC().Truncate(time.Second))
		return
	}
	text := err.Error()
	if len(text) > mostText {
		text = strings.ToValidUTF8(text[:mostText], "") + "..."
	}
	r.Orphans[i].Deleting, r.Orphans[i].Then = false, "tried again at the next look: "+text
}

func (r *Report) deleted(e Entry, at time.Time) {
	e.Deleting, e.Then, e.At = false, "", &at
	r.Deleted = append(r.Deleted, e)
	r.Deleted = r.Deleted[max(0, len(r.Deleted)-mostDeleted):]
}
