package double

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// Fault makes what it fits fail. What is empty fits everything.
type Fault struct {
	Account string `json:"account,omitempty"`
	Region  string `json:"region,omitempty"`
	Stack   string `json:"stack,omitempty"`
	Logical string `json:"logical,omitempty"`
	Type    string `json:"type,omitempty"`
	// On is create, update, delete or rollback: an update that is taken back.
	On string `json:"on,omitempty"`
	// Reason is what the event says.
	Reason string `json:"reason,omitempty"`
	// Times is how often it happens; 0 means always.
	Times int `json:"times,omitempty"`

	done int
}

// Refusal makes calls fail with an error of AWS's.
type Refusal struct {
	Account string `json:"account,omitempty"`
	Region  string `json:"region,omitempty"`
	// Action is such as CreateChangeSet; empty: every one.
	Action  string `json:"action,omitempty"`
	Code    string `json:"code"`
	Message string `json:"message,omitempty"`
	// Status is that of HTTP; 0 means 400.
	Status int `json:"status,omitempty"`
	// Times is how often it happens; 0 means always.
	Times int `json:"times,omitempty"`

	done int
}

// Fail makes resources fail from now on.
func (d *Double) Fail(f Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = append(d.faults, &f)
}

// Refuse makes calls fail from now on.
func (d *Double) Refuse(r Refusal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refusals = append(d.refusals, &r)
}

// Heal takes back every Fail, Refuse and Throttle.
func (d *Double) Heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults, d.refusals, d.pace = nil, nil, nil
}

// Throttle lets at most so many calls a second of the wall's clock pass, and burst at
// once; the others are told Throttling. 0 lets all pass.
func (d *Double) Throttle(perSecond float64, burst int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pace = nil
	if perSecond > 0 {
		d.pace = rate.NewLimiter(rate.Limit(perSecond), max(1, burst))
	}
}

// AddAccount adds an account, or replaces the one of its id. Its stacks stay.
func (d *Double) AddAccount(a Account) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.accounts.add(a)
}

// failure is why a resource fails now, if it does.
func (d *Double) failure(r *resource, on string) (string, bool) {
	fits := func(want, have string) bool { return want == "" || want == have }
	for _, f := range d.faults {
		if f.Times > 0 && f.done >= f.Times || !fits(f.Account, r.at.account) || !fits(f.Region, r.at.region) || !fits(f.Stack, r.stackName) || !fits(f.Logical, r.logical) || !fits(f.Type, r.kind) || !fits(f.On, on) {
			continue
		}
		f.done++
		if f.Reason == "" {
			return fmt.Sprintf("Resource handler returned message: \"Internal Failure\" (RequestToken: %s, HandlerErrorCode: InternalFailure)", uuidOf(r.seed(on)...)), true
		}
		return f.Reason, true
	}
	return "", false
}

// refusal is why a call is refused, if it is.
func (d *Double) refusal(s *signed, action string) error {
	if d.pace != nil && !d.pace.Allow() {
		return faultf(400, "Throttling", "Rate exceeded")
	}
	fits := func(want, have string) bool { return want == "" || want == have }
	for _, r := range d.refusals {
		if r.Times > 0 && r.done >= r.Times || !fits(r.Account, s.who.account) || !fits(r.Region, s.region) || !fits(r.Action, action) {
			continue
		}
		r.done++
		status := r.Status
		if status == 0 {
			status = 400
		}
		return faultf(status, r.Code, "%s", r.Message)
	}
	return nil
}

// Resource is a resource that there is.
type Resource struct {
	Account    string         `json:"account"`
	Region     string         `json:"region"`
	Stack      string         `json:"stack"`
	Logical    string         `json:"logical"`
	Type       string         `json:"type"`
	Physical   string         `json:"physical"`
	Status     string         `json:"status"`
	Created    time.Time      `json:"created"`
	Properties map[string]any `json:"properties"`
}

// Resources are all resources that there are, by account, region, stack and name. Their
// properties are as they are, also where they were edited; numbers are json.Number. They
// must not be changed.
func (d *Double) Resources() []Resource {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []Resource
	for _, at := range slices.SortedFunc(maps.Keys(d.stacks), func(a, b place) int { return strings.Compare(a.account+" "+a.region, b.account+" "+b.region) }) {
		for _, s := range d.in(at) {
			for _, r := range s.sorted() {
				if !r.gone {
					all = append(all, r.shown())
				}
			}
		}
	}
	return all
}

// shown is a resource as whoever steers the double sees it.
func (r *resource) shown() Resource {
	properties := r.properties
	if r.actual != nil {
		properties = r.actual
	}
	return Resource{r.at.account, r.at.region, r.stackName, r.logical, r.kind, r.physical, string(r.status), r.created, properties}
}

// endow gives a resource the attributes that Options.Attributes has for it.
func (d *Double) endow(kind *resourceType, r *resource) error {
	if d.attributes == nil {
		return nil
	}
	given := d.attributes(r.shown())
	r.told = make(map[string]any, len(given))
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !kind.hasAttribute(name) {
			return fmt.Errorf("the double was given an attribute %s for %s, and %s has none of that name", name, r.logical, r.kind)
		}
		r.told[name] = normal(given[name])
	}
	return nil
}

// Edit changes a property of a resource behind its stack's back, such as Tags/0/Value; a
// value of nil takes it away. The value is one that JSON could be read into.
func (d *Double) Edit(account, region, stack, logical, path string, value any) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, err := d.resource(account, region, stack, logical)
	if err != nil {
		return err
	}
	now := r.properties
	if r.actual != nil {
		now = r.actual
	}
	made, err := edited(now, strings.Split(strings.Trim(path, "/"), "/"), normal(value))
	if err != nil {
		return fmt.Errorf("edit %s of %s in the stack %s: %w", path, logical, stack, err)
	}
	r.actual = made.(map[string]any)
	return nil
}

// Delete deletes a resource behind its stack's back.
func (d *Double) Delete(account, region, stack, logical string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, err := d.resource(account, region, stack, logical)
	if err != nil {
		return err
	}
	r.gone = true
	return nil
}

func (d *Double) resource(account, region, stack, logical string) (*resource, error) {
	s := d.find(place{account, region}, stack)
	if s == nil {
		return nil, fmt.Errorf("account %s has no stack %s in %s", account, stack, region)
	}
	r := s.resources[logical]
	if r == nil {
		return nil, fmt.Errorf("the stack %s of account %s in %s has no resource %s", stack, account, region, logical)
	}
	return r, nil
}

// normal is a value with numbers as templates have them.
func normal(v any) any {
	switch v := v.(type) {
	case int:
		return json.Number(fmt.Sprint(v))
	case float64:
		if v == math.Trunc(v) {
			return json.Number(fmt.Sprintf("%.0f", v))
		}
		return json.Number(fmt.Sprint(v))
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = normal(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for key := range v {
			out[key] = normal(v[key])
		}
		return out
	}
	return v
}

// edited is a copy of a value with one part changed.
func edited(v any, path []string, to any) (any, error) {
	if len(path) == 0 || path[0] == "" {
		return to, nil
	}
	switch v := v.(type) {
	case nil:
		inner, err := edited(nil, path[1:], to)
		return map[string]any{path[0]: inner}, err
	case map[string]any:
		out := maps.Clone(v)
		if len(path) == 1 && to == nil {
			delete(out, path[0])
			return out, nil
		}
		inner, err := edited(v[path[0]], path[1:], to)
		out[path[0]] = inner
		return out, err
	case []any:
		for i := range v {
			if fmt.Sprint(i) == path[0] {
				out := slices.Clone(v)
				inner, err := edited(v[i], path[1:], to)
				out[i] = inner
				return out, err
			}
		}
	}
	return nil, fmt.Errorf("there is no %s", path[0])
}

// controlPath is where the double is steered.
const controlPath = "/_double/"

// Control steers the double over HTTP, without credentials: serve it to nobody else.
//
//	GET    /_double/resources                 what Resources gives
//	GET    /_double/time                      the clock
//	POST   /_double/faults                    a Fault
//	POST   /_double/refusals                  a Refusal
//	POST   /_double/throttle                  {"per_second": 5, "burst": 10}
//	DELETE /_double/faults                    Heal
//	POST   /_double/accounts                  an Account
//	PATCH  /_double/resources/ACCOUNT/REGION/STACK/LOGICAL   {"path": "CidrBlock", "value": "10.0.0.0/8"}
//	DELETE /_double/resources/ACCOUNT/REGION/STACK/LOGICAL
func (d *Double) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+controlPath+"resources", func(w http.ResponseWriter, _ *http.Request) {
		tell(w, map[string]any{"resources": d.Resources()})
	})
	mux.HandleFunc("GET "+controlPath+"time", func(w http.ResponseWriter, _ *http.Request) { tell(w, map[string]any{"now": d.Now()}) })
	steer(mux, "POST "+controlPath+"faults", func(_ *http.Request, f *Fault) error {
		if !slices.Contains([]string{"", "create", "update", "delete", "rollback"}, f.On) {
			return fmt.Errorf("on is %q: want create, update, delete or rollback", f.On)
		}
		d.Fail(*f)
		return nil
	})
	steer(mux, "POST "+controlPath+"refusals", func(_ *http.Request, r *Refusal) error {
		if r.Code == "" {
			return fmt.Errorf("code is missing: want one of AWS's, such as OptInRequired")
		}
		d.Refuse(*r)
		return nil
	})
	steer(mux, "POST "+controlPath+"throttle", func(_ *http.Request, t *struct {
		PerSecond float64 `json:"per_second"`
		Burst     int     `json:"burst"`
	}) error {
		d.Throttle(t.PerSecond, t.Burst)
		return nil
	})
	mux.HandleFunc("DELETE "+controlPath+"faults", func(w http.ResponseWriter, _ *http.Request) {
		d.Heal()
		w.WriteHeader(http.StatusNoContent)
	})
	steer(mux, "POST "+controlPath+"accounts", func(_ *http.Request, a *Account) error { return d.AddAccount(*a) })
	const one = controlPath + "resources/{account}/{region}/{stack}/{logical}"
	steer(mux, "PATCH "+one, func(r *http.Request, e *struct {
		Path  string `json:"path"`
		Value any    `json:"value"`
	}) error {
		return d.Edit(r.PathValue("account"), r.PathValue("region"), r.PathValue("stack"), r.PathValue("logical"), e.Path, e.Value)
	})
	mux.HandleFunc("DELETE "+one, func(w http.ResponseWriter, r *http.Request) {
		if err := d.Delete(r.PathValue("account"), r.PathValue("region"), r.PathValue("stack"), r.PathValue("logical")); err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

// steer takes a JSON body.
func steer[T any](mux *http.ServeMux, pattern string, do func(r *http.Request, body *T) error) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		body := new(T)
		dec := json.NewDecoder(io.LimitReader(r.Body, maxRequest))
		dec.DisallowUnknownFields()
		err := dec.Decode(body)
		if err == nil {
			err = do(r, body)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

func tell(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // who has gone hears nothing
}
