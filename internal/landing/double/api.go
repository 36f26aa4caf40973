package double

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// Namespaces of the answers, one for each service that is spoken.
const (
	cloudformationNamespace = "http://cloudformation.amazonaws.com/doc/2010-05-15/"
	stsNamespace            = "https://sts.amazonaws.com/doc/2011-06-15/"
	iamNamespace            = "https://iam.amazonaws.com/doc/2010-05-08/"
)

// maxRequest bounds a request's body: a template and its parameters, as a form.
const maxRequest = 4 << 20

// call is one request that was let in.
type call struct {
	ctx    context.Context
	who    *identity
	at     place
	action string
}

// handler answers an action.
type handler func(d *Double, c *call, form url.Values) (any, error)

// answer makes a handler of a method that takes and gives the SDK's own types.
func answer[In, Out any](do func(*Double, *call, *In) (*Out, error)) handler {
	return func(d *Double, c *call, form url.Values) (any, error) {
		in := new(In)
		if err := decodeQuery(form, in); err != nil {
			return nil, invalid("%v", err)
		}
		out, err := do(d, c, in)
		if err != nil || out == nil {
			return nil, err
		}
		return out, nil
	}
}

// stsActions and cloudformationActions are what is answered.
func stsActions() map[string]handler {
	return map[string]handler{
		"AssumeRole":        answer((*Double).assumeRole),
		"GetCallerIdentity": answer((*Double).getCallerIdentity),
	}
}

// ServeHTTP answers AWS's clients, whichever of the services they call.
func (d *Double) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := uuid.NewString()
	w.Header().Set("X-Amzn-Requestid", request)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		d.fail(w, cloudformationNamespace, request, faultf(413, "RequestEntityTooLarge", "a request is at most %d bytes", maxRequest))
		return
	}
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		d.serveJSON(w, r, request, target, body)
		return
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		d.fail(w, cloudformationNamespace, request, faultf(400, "MalformedQueryString", "The query string contains a syntax error"))
		return
	}
	for key, values := range r.URL.Query() {
		form[key] = values
	}
	action := form.Get("Action")
	d.mu.Lock()
	s, err := d.authenticate(r, body)
	d.mu.Unlock()
	namespace, actions := cloudformationNamespace, d.actions
	switch {
	case s == nil:
	case s.service == "sts":
		namespace, actions = stsNamespace, d.stsActions
	case s.service == "iam":
		namespace, actions = iamNamespace, d.iamActions
	case s.service == "ec2":
		d.serveEC2(w, r, request, s, err, form)
		return
	}
	if err != nil {
		d.fail(w, namespace, request, err)
		return
	}
	do := actions[action]
	if do == nil {
		d.fail(w, namespace, request, faultf(400, "InvalidAction", "The action %s is not valid for this endpoint", action))
		return
	}
	var answer []byte
	_, err = d.take(r.Context(), s, action, func(c *call) (any, error) {
		out, err := do(d, c, form)
		if err == nil { // what it points to changes as soon as the double is let go
			answer = encodeQuery(namespace, action, request, out)
		}
		return nil, err
	})
	if err != nil {
		d.fail(w, namespace, request, err)
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	_, _ = w.Write(answer) // who has gone hears nothing
}

// take lets a call in, unless it is refused, and lets what is due happen before it.
func (d *Double) take(ctx context.Context, s *signed, action string, do func(*call) (any, error)) (any, error) {
	if err := d.prepare(ctx); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.refusal(s, action); err != nil {
		return nil, err
	}
	if !d.enabled(s.who.account, s.region) {
		return nil, faultf(403, "InvalidClientTokenId", "The security token included in the request is invalid.")
	}
	full := s.service + ":" + action
	if denied(s.who.denies, full) {
		return nil, faultf(403, "AccessDenied", "User: %s is not authorized to perform: %s", s.who.arn, full)
	}
	d.clock.happen(d.clock.tell())
	return do(&call{ctx: ctx, who: s.who, at: place{s.who.account, s.region}, action: action})
}

// enabled says whether an account can use a region.
func (d *Double) enabled(account, region string) bool {
	r, err := d.regions.Lookup(region)
	if err != nil || r.Name != region {
		return false
	}
	acc := d.accounts.byID[account]
	return !r.OptIn || acc != nil && slices.Contains(acc.Regions, region)
}

// zones are the names of a region's availability zones.
func (d *Double) zones(region string) []string {
	r, err := d.regions.Lookup(region)
	if err != nil {
		return nil
	}
	names := make([]string, len(r.Zones))
	for i := range names {
		names[i] = region + string(rune('a'+i))
	}
	return names
}

func (d *Double) fail(w http.ResponseWriter, namespace, request string, err error) {
	f := d.faultOf(err)
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(f.status)
	_, _ = w.Write(encodeFault(namespace, request, f)) // who has gone hears nothing
}

// faultOf is an error as AWS would tell it: what is the double's own is an internal one.
func (d *Double) faultOf(err error) *fault {
	var f *fault
	if errors.As(err, &f) {
		return f
	}
	d.log.Error("the double failed", "err", err)
	return faultf(500, "InternalFailure", "%s", strings.TrimSpace(fmt.Sprint(err)))
}
