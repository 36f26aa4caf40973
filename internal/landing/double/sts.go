package double

import (
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"
)

var roleARN = regexp.MustCompile(`^arn:aws[a-z-]*:iam::(\d{12}):role/(.+)$`)

func (d *Double) getCallerIdentity(c *call, _ *sts.GetCallerIdentityInput) (*sts.GetCallerIdentityOutput, error) {
	return &sts.GetCallerIdentityOutput{Account: &c.who.account, Arn: &c.who.arn, UserId: &c.who.userID}, nil
}

func (d *Double) assumeRole(c *call, in *sts.AssumeRoleInput) (*sts.AssumeRoleOutput, error) {
	arn, session := aws.ToString(in.RoleArn), aws.ToString(in.RoleSessionName)
	m := roleARN.FindStringSubmatch(arn)
	if m == nil {
		return nil, invalid("%s is invalid", arn)
	}
	if !entityName.MatchString(session) || len(session) < 2 {
		return nil, invalid("1 validation error detected: Value '%s' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]*", session)
	}
	length := sessionTime
	if in.DurationSeconds != nil {
		length = time.Duration(*in.DurationSeconds) * time.Second
	}
	if length < minSessionTime || length > maxSessionTime {
		return nil, invalid("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	d.accounts.forget(time.Now())
	// Sessions last by the wall's clock, as those who sign look at it.
	expires := time.Now().Add(length).UTC().Truncate(time.Second)
	key, who, err := d.accounts.assume(c.who, m[1], m[2], session, aws.ToString(in.ExternalId), expires)
	if err != nil {
		return nil, faultf(403, "AccessDenied", "User: %s is not authorized to perform: sts:AssumeRole on resource: %s", c.who.arn, arn)
	}
	return &sts.AssumeRoleOutput{
		AssumedRoleUser: &ststypes.AssumedRoleUser{Arn: &who.arn, AssumedRoleId: &who.userID},
		Credentials:     &ststypes.Credentials{AccessKeyId: &key, SecretAccessKey: &who.secret, SessionToken: &who.token, Expiration: &expires},
	}, nil
}
