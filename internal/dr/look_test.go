package dr

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	rdstypes "github.com/aws/aws-sdk-go-v2/service/rds/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// TestSilent: only who does not answer, or says that it is broken, is silent.
func TestSilent(t *testing.T) {
	answer := func(status int, err error) error {
		return fmt.Errorf("operation error: %w", &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}}, Err: err})
	}
	refused := &smithy.GenericAPIError{Code: "AccessDenied"}
	for name, tt := range map[string]struct {
		err  error
		want bool
	}{
		"no route":              {unsent, true},
		"no route, in a shell":  {answer(0, unsent), true},
		"no answer in time":     {answer(0, context.DeadlineExceeded), true},
		"broken":                {answer(503, &smithy.GenericAPIError{Code: "ServiceUnavailable"}), true},
		"refused":               {answer(403, refused), false},
		"slow down":             {answer(400, &smithy.GenericAPIError{Code: "Throttling"}), false},
		"refused, without more": {refused, false},
		"no credentials":        {errors.New("get identity: get credentials"), false},
		"interrupted":           {context.Canceled, false},
	} {
		if got := silent(tt.err); got != tt.want {
			t.Errorf("%s is silent: %v", name, got)
		}
	}
}

// TestHas: a replica has all when it has shown so thrice in a row.
func TestHas(t *testing.T) {
	locked := time.Date(2026, 11, 30, 12, 0, 30, 0, time.UTC)
	minute := func(n int, lag time.Duration) point {
		return point{locked.Truncate(time.Minute).Add(time.Duration(n) * time.Minute), lag}
	}
	for name, tt := range map[string]struct {
		points []point
		want   bool
	}{
		"nothing is known": {nil, false},
		"twice":            {[]point{minute(2, 0), minute(1, 0)}, false},
		"thrice":           {[]point{minute(3, 0), minute(2, 0), minute(1, 0)}, true},
		"with a lag that is younger than the lock": {[]point{minute(5, time.Minute), minute(4, 0), minute(3, time.Second)}, true},
		"with a lag that is older":                 {[]point{minute(3, 0), minute(2, 0), minute(1, time.Minute)}, false},
		"in the minute of the lock":                {[]point{minute(2, 0), minute(1, 0), minute(0, 0)}, false},
		"it did not follow":                        {[]point{minute(4, 0), minute(3, -time.Second), minute(2, 0), minute(1, 0)}, false},
		"it did not follow before":                 {[]point{minute(4, 0), minute(3, 0), minute(2, 0), minute(1, -time.Second)}, true},
	} {
		if got := (&database{points: tt.points}).has(locked); got != tt.want {
			t.Errorf("%s: it has all: %v", name, got)
		}
	}
}

// TestShuts: who was served before must be out; who was let in since may be in.
func TestShuts(t *testing.T) {
	of := func(groups ...string) *rdstypes.DBInstance {
		i := &rdstypes.DBInstance{}
		for _, g := range groups {
			i.VpcSecurityGroups = append(i.VpcSecurityGroups, rdstypes.VpcSecurityGroupMembership{VpcSecurityGroupId: aws.String(g)})
		}
		return i
	}
	f := &Fence{Group: "locked", Groups: []string{"own"}}
	for _, tt := range []struct {
		fence  *Fence
		groups []string
		want   bool
	}{
		{f, []string{"locked"}, true}, {f, []string{"locked", "movers"}, true}, {f, []string{"own", "locked"}, false}, {f, []string{"own"}, false}, {f, []string{"movers"}, false},
		{&Fence{}, []string{"own"}, false}, {&Fence{Group: "locked"}, []string{"locked"}, true},
	} {
		if got := tt.fence.shuts(of(tt.groups...)); got != tt.want {
			t.Errorf("%+v shuts %v: %v", tt.fence, tt.groups, got)
		}
	}
}
