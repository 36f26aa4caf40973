package double

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

func refused(t *testing.T, what string, err error, code, words string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), words) {
		t.Errorf("%s: want %s with %q, got %v", what, code, words, err)
	}
}

// become assumes a role of the other account.
func (s *stand) become(role, externalID string) (aws.Credentials, error) {
	in := &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::" + otherAccount + ":role/" + role), RoleSessionName: aws.String("test")}
	if externalID != "" {
		in.ExternalId = &externalID
	}
	out, err := s.client.AssumeRole(s.t.Context(), in)
	if err != nil {
		return aws.Credentials{}, err
	}
	c := out.Credentials
	return aws.Credentials{AccessKeyID: *c.AccessKeyId, SecretAccessKey: *c.SecretAccessKey, SessionToken: *c.SessionToken}, nil
}

// TestAccounts: who signs is who they are, and sees what is theirs.
func TestAccounts(t *testing.T) {
	s := newStand(t)
	ctx := t.Context()
	me, err := s.client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil || *me.Account != testAccount || *me.Arn != "arn:aws:iam::"+testAccount+":user/deployer" {
		t.Fatal(me, err)
	}
	for _, tt := range []struct{ role, external string }{{"deploy", ""}, {"deploy", "port"}, {"closed", ""}, {"none", ""}} {
		_, err := s.become(tt.role, tt.external)
		refused(t, tt.role+" "+tt.external, err, "AccessDenied", "User: arn:aws:iam::111122223333:user/deployer is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::444455556666:role/"+tt.role)
	}
	other, err := s.become("deploy", "harbour")
	if err != nil {
		t.Fatal(err)
	}
	them, err := s.sts(testRegion, other).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil || *them.Account != otherAccount || *them.Arn != "arn:aws:sts::"+otherAccount+":assumed-role/deploy/test" {
		t.Error(them, err)
	}
	s.create("network", network)
	theirs := s.in(testRegion, other)
	if list, err := theirs.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{}); err != nil || len(list.Stacks) > 0 {
		t.Errorf("the other account sees %v, %v", list, err)
	}
	if list, err := s.in("me-south-1", aws.Credentials{AccessKeyID: "AKIATEST", SecretAccessKey: "secret"}).DescribeStacks(ctx, &cloudformation.DescribeStacksInput{}); err != nil || len(list.Stacks) > 0 {
		t.Errorf("the other region sees %v, %v", list, err)
	}
	if _, err := theirs.CreateStack(ctx, &cloudformation.CreateStackInput{StackName: aws.String("network"), TemplateBody: aws.String(network)}); err != nil {
		t.Fatal(err)
	}
	s.settle()
	accounts := map[string]int{}
	for _, r := range s.Resources() {
		accounts[r.Account]++
	}
	if accounts[testAccount] != 4 || accounts[otherAccount] != 4 {
		t.Errorf("resources are in %v", accounts)
	}

	list := func(region string, c aws.Credentials) error {
		_, err := s.in(region, c).ListStacks(ctx, &cloudformation.ListStacksInput{})
		return err
	}
	refused(t, "a region that is not opted in", list("me-south-1", other), "InvalidClientTokenId", "The security token included in the request is invalid.")
	if err := list("eu-central-1", other); err != nil {
		t.Errorf("a region that needs no opt-in: %v", err)
	}
	refused(t, "another key", list(testRegion, aws.Credentials{AccessKeyID: "AKIAOTHER", SecretAccessKey: "secret"}), "InvalidClientTokenId", "The security token included in the request is invalid.")
	refused(t, "another secret", list(testRegion, aws.Credentials{AccessKeyID: "AKIATEST", SecretAccessKey: "other"}), "SignatureDoesNotMatch", "The request signature we calculated does not match")
	broken := other
	broken.SessionToken = "other"
	refused(t, "another token", list(testRegion, broken), "InvalidClientTokenId", "")
	s.mu.Lock()
	s.accounts.identities[other.AccessKeyID].expires = time.Now().Add(-time.Second)
	s.mu.Unlock()
	refused(t, "a session that has ended", list(testRegion, other), "ExpiredToken", "The security token included in the request is expired")

	limited, err := s.become("limited", "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.in(testRegion, limited).CreateStack(ctx, &cloudformation.CreateStackInput{StackName: aws.String("more"), TemplateBody: aws.String(network)})
	refused(t, "a role without the right", err, "AccessDenied", "User: arn:aws:sts::444455556666:assumed-role/limited/test is not authorized to perform: cloudformation:CreateStack")
	if err := list(testRegion, limited); err != nil {
		t.Error(err)
	}
	resp, err := http.PostForm(s.url, url.Values{"Action": {"ListStacks"}})
	if err != nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("without a signature: %v, %v", resp, err)
	}
	resp.Body.Close()
	for _, bad := range [][]Account{{{ID: "1"}}, {{ID: testAccount, Keys: []Key{{ID: "a"}}}}, {{ID: testAccount, Roles: []Role{{Name: "a b"}}}},
		{{ID: testAccount, Keys: []Key{{ID: "a", Secret: "b"}}}, {ID: otherAccount, Keys: []Key{{ID: "a", Secret: "b"}}}}} {
		if _, err := New(Options{Accounts: bad}); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}

// TestMadeAccount: an account that a stack makes can be entered by the role in it.
func TestMadeAccount(t *testing.T) {
	s := newStand(t)
	made := s.create("organization", "Resources:\n  A: {Type: AWS::Organizations::Account, Properties: {AccountName: a, Email: a@example.org, RoleName: deploy}}\nOutputs:\n  Id: {Value: !Ref A}\n  Arn: {Value: !GetAtt A.Arn}\n")
	if made.StackStatus != types.StackStatusCreateComplete {
		t.Fatal(s.story("organization"))
	}
	id := outputs(made)["Id"]
	out, err := s.client.AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::" + id + ":role/deploy"), RoleSessionName: aws.String("test")})
	if err != nil || !strings.HasPrefix(*out.AssumedRoleUser.Arn, "arn:aws:sts::"+id+":") {
		t.Errorf("%s: %v, %v", id, out, err)
	}
}

// TestQuotas: what there may be no more of is not made, and is told before.
func TestQuotas(t *testing.T) {
	accounts := someAccounts()
	accounts[0].Quotas = map[string]float64{"vpc/L-F678F1CE": 1, "cloudformation/L-0485CB21": 2}
	s := newStand(t, func(o *Options) { o.Accounts = accounts })
	ctx := t.Context()
	config := servicequotas.Options{Region: testRegion, BaseEndpoint: &s.url, Credentials: credentials.NewStaticCredentialsProvider("AKIATEST", "secret", ""), Retryer: onlyConnections()}
	ask := servicequotas.New(config)
	q, err := ask.GetServiceQuota(ctx, &servicequotas.GetServiceQuotaInput{ServiceCode: aws.String("vpc"), QuotaCode: aws.String("L-F678F1CE")})
	if err != nil || *q.Quota.Value != 1 || *q.Quota.QuotaName != "VPCs per Region" {
		t.Fatal(q, err)
	}
	list, err := ask.ListServiceQuotas(ctx, &servicequotas.ListServiceQuotasInput{ServiceCode: aws.String("vpc")})
	if err != nil || len(list.Quotas) != 2 || *list.Quotas[0].Value != 5 {
		t.Error(list, err)
	}
	_, err = ask.GetServiceQuota(ctx, &servicequotas.GetServiceQuotaInput{ServiceCode: aws.String("vpc"), QuotaCode: aws.String("L-0")})
	refused(t, "a quota that is none", err, "NoSuchResourceException", "")
	s.create("network", network)
	if second := s.create("second", network); second.StackStatus != types.StackStatusRollbackComplete || !strings.Contains(s.story("second"), "Vpc CREATE_FAILED: Resource handler returned message: \"The maximum number of VPCs has been reached.\"") {
		t.Error(s.story("second"))
	}
	_, err = s.cfn.CreateStack(ctx, &cloudformation.CreateStackInput{StackName: aws.String("third"), TemplateBody: aws.String(network)})
	refused(t, "a stack too many", err, "LimitExceededException", "Limit for stack has been exceeded")
}

// TestRights: IAM tells what a role may not do.
func TestRights(t *testing.T) {
	s := newStand(t)
	ctx := t.Context()
	other, err := s.become("open", "")
	if err != nil {
		t.Fatal(err)
	}
	client := iam.New(iam.Options{Region: testRegion, BaseEndpoint: &s.url, Credentials: credentials.NewStaticCredentialsProvider(other.AccessKeyID, other.SecretAccessKey, other.SessionToken), Retryer: onlyConnections()})
	out, err := client.SimulatePrincipalPolicy(ctx, &iam.SimulatePrincipalPolicyInput{PolicySourceArn: aws.String("arn:aws:iam::" + otherAccount + ":role/limited"), ActionNames: []string{"cloudformation:CreateStack", "cloudformation:DeleteStack"}})
	if err != nil || len(out.EvaluationResults) != 2 || out.EvaluationResults[0].EvalDecision != "explicitDeny" || out.EvaluationResults[1].EvalDecision != "allowed" {
		t.Errorf("%+v, %v", out, err)
	}
	_, err = client.SimulatePrincipalPolicy(ctx, &iam.SimulatePrincipalPolicyInput{PolicySourceArn: aws.String("arn:aws:iam::" + otherAccount + ":role/none"), ActionNames: []string{"a:B"}})
	refused(t, "a role that is not there", err, "NoSuchEntity", "Role none does not exist.")
}

// TestRegions: EC2 tells which regions an account can use, and their zones.
func TestRegions(t *testing.T) {
	s := newStand(t)
	ask := func(form url.Values, c aws.Credentials) (int, string) {
		t.Helper()
		body := form.Encode()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		sum := sha256.Sum256([]byte(body))
		if err := v4.NewSigner().SignHTTP(t.Context(), c, r, hex.EncodeToString(sum[:]), "ec2", "eu-central-1", time.Now()); err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	mine := aws.Credentials{AccessKeyID: "AKIATEST", SecretAccessKey: "secret"}
	_, some := ask(url.Values{"Action": {"DescribeRegions"}}, mine)
	_, all := ask(url.Values{"Action": {"DescribeRegions"}, "AllRegions": {"true"}, "RegionName.1": {"me-central-1"}, "RegionName.2": {"af-south-1"}}, mine)
	if strings.Contains(some, "af-south-1") || !strings.Contains(some, "<regionName>me-south-1</regionName>") || !strings.Contains(some, "<optInStatus>opt-in-not-required</optInStatus>") {
		t.Errorf("it can use %s", some)
	}
	if !strings.Contains(all, "<optInStatus>not-opted-in</optInStatus>") || !strings.Contains(all, "<optInStatus>opted-in</optInStatus>") || strings.Contains(all, "eu-central-1<") {
		t.Errorf("of two it tells %s", all)
	}
	if _, zones := ask(url.Values{"Action": {"DescribeAvailabilityZones"}}, mine); strings.Count(zones, "<zoneName>eu-central-1") != 3 {
		t.Errorf("zones are %s", zones)
	}
	for action, c := range map[string]aws.Credentials{"DescribeVpcs": mine, "DescribeRegions": {AccessKeyID: "AKIANONE", SecretAccessKey: "x"}} {
		if code, text := ask(url.Values{"Action": {action}}, c); code < 400 || !strings.Contains(text, "<Code>") {
			t.Errorf("%s gives %d, %s", action, code, text)
		}
	}
}
