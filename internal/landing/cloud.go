package landing

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

const (
	// maxAttempts is how often a call is tried: with the pause below, AWS may be busy for
	// two minutes before a stack is given up.
	maxAttempts = 12
	// maxBackoff bounds the pause before a call is tried again; it grows and has jitter.
	maxBackoff = 20 * time.Second
	// callTime bounds a call with all its tries.
	callTime = 3 * time.Minute
	// sessionName is what an account's trail shows of who came.
	sessionName = "dhow-deploy"
)

// cloud is AWS: who we are, and the clients of each account and region.
type cloud struct {
	config     aws.Config
	home       string
	role       string
	externalID string

	mu     sync.Mutex
	caller *sts.GetCallerIdentityOutput
	places map[string]*place
}

// place is one account and region.
type place struct {
	number, region string
	config         aws.Config
	cfn            *cloudformation.Client
	sts            *sts.Client
	quotas         *servicequotas.Client
	iam            *iam.Client
}

func newCloud(config aws.Config, home, role, externalID string) *cloud {
	return &cloud{config: config, home: home, role: role, externalID: externalID, places: map[string]*place{}}
}

// in is the configuration of a region, with its own pace: what one place is told to
// slow down does not slow the others.
func (c *cloud) in(region string) aws.Config {
	config := c.config.Copy()
	config.Region = region
	retryer := retry.NewAdaptiveMode(func(o *retry.AdaptiveModeOptions) {
		o.StandardOptions = append(o.StandardOptions, func(s *retry.StandardOptions) {
			s.MaxAttempts, s.MaxBackoff = maxAttempts, maxBackoff
			s.RateLimiter = ratelimit.None // a budget of tries would run out while AWS says to slow down
		})
	})
	config.Retryer = func() aws.Retryer { return retryer }
	return config
}

// whoami is whose the credentials of the environment are.
func (c *cloud) whoami(ctx context.Context) (*sts.GetCallerIdentityOutput, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.caller != nil {
		return c.caller, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	caller, err := sts.NewFromConfig(c.in(c.home)).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return nil, fmt.Errorf("ask AWS who we are: %w: set credentials in the environment, as for every AWS tool", err)
	}
	c.caller = caller
	return caller, nil
}

// at are the clients of an account and a region. The role is assumed when the first
// of them is used, and again before its credentials end.
func (c *cloud) at(ctx context.Context, number, region string) (*place, error) {
	caller, err := c.whoami(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key := number + " " + region
	if p := c.places[key]; p != nil {
		return p, nil
	}
	config := c.in(region)
	if c.role != "" {
		own, err := arn.Parse(aws.ToString(caller.Arn))
		if err != nil {
			return nil, fmt.Errorf("read our own ARN: %w", err)
		}
		// A token of a regional endpoint is taken in every region, one of the global endpoint is not.
		assume := stscreds.NewAssumeRoleProvider(sts.NewFromConfig(c.in(c.home)), roleARN(own.Partition, number, c.role), func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName = sessionName
			if c.externalID != "" {
				o.ExternalID = aws.String(c.externalID)
			}
		})
		config.Credentials = aws.NewCredentialsCache(assume)
	}
	p := &place{number: number, region: region, config: config, cfn: cloudformation.NewFromConfig(config), sts: sts.NewFromConfig(config), quotas: servicequotas.NewFromConfig(config), iam: iam.NewFromConfig(config)}
	c.places[key] = p
	return p, nil
}

func roleARN(partition, number, role string) string {
	return "arn:" + partition + ":iam::" + number + ":role/" + role
}

// code is the code of AWS's error; empty for another.
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// says tells whether AWS's error is of a code and has words in it.
func says(err error, wanted, words string) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == wanted && strings.Contains(api.ErrorMessage(), words)
}

// isMissing says that there is no such stack.
func isMissing(err error) bool { return says(err, "ValidationError", "does not exist") }
