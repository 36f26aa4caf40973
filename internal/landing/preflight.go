package landing

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"dhow/internal/region"
)

// Preflight looks for what would make a deployment fail, and changes nothing: accounts
// that can not be entered, regions that are not opted in to, quotas that are too small,
// rights that are missing, networks that overlap, and templates that were edited where
// they are deployed. The findings come the gravest first.
func (d *Deployer) Preflight(ctx context.Context, meant []*Stack, regions *region.Catalog) ([]Finding, error) {
	var found findings
	found.add(d.graph.overlaps()...)
	if _, err := d.cloud.whoami(ctx); err != nil {
		found.error("credentials", "the environment", "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its kin, as for every AWS tool", "%v", err)
		return found.sorted(), ctx.Err()
	}
	entered := d.enter(ctx, meant, regions, &found)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if Failed(found.list) {
		return found.sorted(), nil // the rest would fail for the same reason
	}
	standing, err := d.survey(ctx, meant)
	if err != nil {
		found.error("stacks", "the stacks that stand", "", "%v", err)
		return found.sorted(), ctx.Err()
	}
	var all sync.WaitGroup
	for _, at := range entered {
		all.Go(func() { d.checkQuotas(ctx, at, meant, standing, &found) })
		all.Go(func() { d.checkRights(ctx, at, meant, &found) })
	}
	all.Go(func() { d.checkEdited(ctx, meant, standing, &found) })
	all.Wait()
	return found.sorted(), ctx.Err()
}

// findings are gathered from several places at once.
type findings struct {
	mu   sync.Mutex
	list []Finding
}

func (f *findings) add(more ...Finding) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, more...)
}

func (f *findings) error(rule, where, fix, format string, args ...any) {
	f.add(Finding{Severity: SeverityError, Rule: rule, Where: where, Text: fmt.Sprintf(format, args...), Fix: fix})
}

func (f *findings) note(rule, where, format string, args ...any) {
	f.add(Finding{Severity: SeverityNote, Rule: rule, Where: where, Text: fmt.Sprintf(format, args...)})
}

func (f *findings) sorted() []Finding {
	f.mu.Lock()
	defer f.mu.Unlock()
	slices.SortFunc(f.list, func(a, b Finding) int {
		return cmp.Or(rank(a.Severity)-rank(b.Severity), strings.Compare(a.Rule, b.Rule), strings.Compare(a.Where, b.Where), strings.Compare(a.Text, b.Text))
	})
	return f.list
}

// enter looks whether each account can be entered, and each of its regions used. It
// returns those that can.
func (d *Deployer) enter(ctx context.Context, meant []*Stack, regions *region.Catalog, found *findings) []spot {
	spots := map[string]spot{}
	for _, s := range meant {
		at := spot{account: s.Account, number: d.number(s.Account), region: s.Region}
		if at.number == "" {
			found.note("account", string(s.Account), "the account is made by this run, so nothing is known of it yet")
			continue
		}
		spots[at.key()] = at
	}
	var mu sync.Mutex
	var entered []spot
	var all sync.WaitGroup
	for _, key := range slices.Sorted(maps.Keys(spots)) {
		at := spots[key]
		all.Go(func() {
			if finding := d.enterOne(ctx, at, regions); finding != nil {
				found.add(*finding)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			entered = append(entered, at)
		})
	}
	all.Wait()
	slices.SortFunc(entered, func(a, b spot) int { return strings.Compare(a.key(), b.key()) })
	return entered
}

// notOptedIn are the codes with which a region that is not opted in to refuses
// credentials that are good elsewhere.
var notOptedIn = []string{"OptInRequired", "InvalidClientTokenId", "UnrecognizedClientException", "AuthFailure"}

func (d *Deployer) enterOne(ctx context.Context, at spot, regions *region.Catalog) *Finding {
	where := fmt.Sprintf("%s (%s) in %s", at.account, at.number, at.region)
	refuse := func(rule, fix, format string, args ...any) *Finding {
		return &Finding{Severity: SeverityError, Rule: rule, Where: where, Text: fmt.Sprintf(format, args...), Fix: fix}
	}
	p, err := d.cloud.at(ctx, at.number, at.region)
	if err != nil {
		return refuse("credentials", "", "%v", err)
	}
	call, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	who, err := p.sts.GetCallerIdentity(call, &sts.GetCallerIdentityInput{})
	role := d.graph.landing.Role.Name
	switch {
	case err != nil && strings.Contains(err.Error(), "AssumeRole"):
		fix := "create the role there, and let " + aws.ToString(d.cloud.caller.Arn) + " assume it"
		if d.cloud.externalID == "" {
			fix += "; if its trust policy asks for an external id, say where it is kept under landing.role.external_id"
		} else {
			fix += " with the external id of landing.role.external_id"
		}
		return refuse("assume-role", fix, "the role %s can not be assumed: %v", role, err)
	case err != nil && slices.Contains(notOptedIn, code(err)):
		if r, lookup := regions.Lookup(at.region); lookup == nil && !r.OptIn {
			return refuse("credentials", "", "the region refuses the credentials: %v", err)
		}
		return refuse("region-opt-in", fmt.Sprintf("enable %s in the account, under Account, AWS Regions, or with `aws account enable-region --region-name %[1]s`; that takes minutes to hours", at.region),
			"the account has not opted in to the region: %v", err)
	case err != nil:
		return refuse("credentials", "", "%v", err)
	case aws.ToString(who.Account) != at.number && role == "":
		return refuse("account", "name the role that is assumed in each account, under landing.role", "the credentials of the environment are of the account %s", aws.ToString(who.Account))
	case aws.ToString(who.Account) != at.number:
		return refuse("account", "", "the role leads to the account %s", aws.ToString(who.Account))
	}
	return nil
}

// quota is a bound of AWS on how many of some types an account may have in a region.
type quota struct {
	service, code, name string
	types               []string
}

// quotas are those that a landing zone comes near to.
var quotas = []quota{
	{"vpc", "L-F678F1CE", "VPCs", []string{"AWS::EC2::VPC"}},
	{"vpc", "L-A4707A72", "internet gateways", []string{"AWS::EC2::InternetGateway"}},
	{"ec2", "L-0263D0A3", "Elastic IP addresses", []string{"AWS::EC2::EIP"}},
	{"rds", "L-7B6409FD", "database instances", []string{"AWS::RDS::DBInstance"}},
	{"eks", "L-1194D53C", "EKS clusters", []string{"AWS::EKS::Cluster"}},
	{"elasticloadbalancing", "L-53DA6B97", "application load balancers", []string{"AWS::ElasticLoadBalancingV2::LoadBalancer"}},
	{"cloudformation", "L-0485CB21", "stacks", nil},
}

// checkQuotas compares what an account's region would have of this landing zone with
// what it may have. What else stands there is not known, so that enough here may still
// be too little.
func (d *Deployer) checkQuotas(ctx context.Context, at spot, meant []*Stack, standing map[string]*types.Stack, found *findings) {
	p, err := d.cloud.at(ctx, at.number, at.region)
	if err != nil {
		return
	}
	where := fmt.Sprintf("%s (%s) in %s", at.account, at.number, at.region)
	for _, q := range quotas {
		wanted, more := 0, false
		for _, s := range meant {
			if d.number(s.Account) != at.number || s.Region != at.region {
				continue
			}
			n := 1
			if q.types != nil {
				n = 0
				for _, r := range s.resources() {
					if slices.Contains(q.types, r.Type) {
						n++
					}
				}
			}
			wanted += n
			more = more || n > 0 && standing[s.ID] == nil
		}
		if !more {
			continue
		}
		call, cancel := context.WithTimeout(ctx, callTime)
		out, err := p.quotas.GetServiceQuota(call, &servicequotas.GetServiceQuotaInput{ServiceCode: aws.String(q.service), QuotaCode: aws.String(q.code)})
		cancel()
		if err != nil || out.Quota == nil || out.Quota.Value == nil {
			found.note("quota", where, "how many %s it may have is not known: %s", q.name, cmp.Or(code(err), "Service Quotas does not tell"))
			continue
		}
		if may := *out.Quota.Value; float64(wanted) > may {
			found.error("quota", where, fmt.Sprintf("ask for more: `aws service-quotas request-service-quota-increase --service-code %s --quota-code %s --desired-value %d --region %s`; or take fewer, by parameters of the templates", q.service, q.code, wanted, at.region),
				"it may have %.0f %s, and this landing zone has %d there", may, q.name, wanted)
		}
	}
}

// simulated is how many actions one question to IAM has.
const simulated = 50

// checkRights asks IAM whether the role may do what the deployment needs.
func (d *Deployer) checkRights(ctx context.Context, at spot, meant []*Stack, found *findings) {
	p, err := d.cloud.at(ctx, at.number, at.region)
	if err != nil {
		return
	}
	where := fmt.Sprintf("%s (%s) in %s", at.account, at.number, at.region)
	principal, err := d.principal(ctx, at)
	if err != nil || principal == "" {
		found.note("rights", where, "whose rights are to be looked at is not known: %v", err)
		return
	}
	var here []*Stack
	for _, s := range meant {
		if d.number(s.Account) == at.number && s.Region == at.region {
			here = append(here, s)
		}
	}
	actions, _, err := actionsOf(here)
	if err != nil {
		found.note("rights", where, "%v", err)
		return
	}
	var denied []string
	for batch := range slices.Chunk(actions, simulated) {
		in := &iam.SimulatePrincipalPolicyInput{PolicySourceArn: aws.String(principal), ActionNames: batch}
		for {
			call, cancel := context.WithTimeout(ctx, callTime)
			out, err := p.iam.SimulatePrincipalPolicy(call, in)
			cancel()
			if err != nil {
				found.note("rights", where, "whether the role may do all that is needed is not known: %s", cmp.Or(code(err), err.Error()))
				return
			}
			for _, r := range out.EvaluationResults {
				if r.EvalDecision != iamtypes.PolicyEvaluationDecisionTypeAllowed {
					denied = append(denied, aws.ToString(r.EvalActionName))
				}
			}
			if !out.IsTruncated || out.Marker == nil {
				break
			}
			in.Marker = out.Marker
		}
	}
	if len(denied) > 0 {
		slices.Sort(denied)
		found.error("rights", where, "give the role the policy that `dhow deploy --policy` prints", "%s may not %s", principal, strings.Join(slices.Compact(denied), ", "))
	}
}

// principal is the role, or the user, that works in an account.
func (d *Deployer) principal(ctx context.Context, at spot) (string, error) {
	caller, err := d.cloud.whoami(ctx)
	if err != nil {
		return "", err
	}
	own, err := arn.Parse(aws.ToString(caller.Arn))
	if err != nil {
		return "", fmt.Errorf("read our own ARN: %w", err)
	}
	if role := d.graph.landing.Role.Name; role != "" {
		return roleARN(own.Partition, at.number, role), nil
	}
	if name, ok := strings.CutPrefix(own.Resource, "assumed-role/"); ok { // of a session only the role has rights
		name, _, _ = strings.Cut(name, "/")
		return roleARN(own.Partition, own.AccountID, name), nil
	}
	return own.String(), nil
}

// checkEdited finds stacks whose template somebody has changed since dhow deployed it.
func (d *Deployer) checkEdited(ctx context.Context, meant []*Stack, standing map[string]*types.Stack, found *findings) {
	_ = d.walkQuietly(ctx, meant, func(ctx context.Context, s *Stack) error {
		st := standing[s.ID]
		if st == nil || !settled(st.StackStatus) || slices.Contains(d.o.Overwrite, s.ID) {
			return nil
		}
		p, err := d.place(ctx, s)
		if err != nil {
			return err
		}
		call, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		out, err := p.cfn.GetTemplate(call, &cloudformation.GetTemplateInput{StackName: aws.String(s.Name), TemplateStage: types.TemplateStageOriginal})
		if err != nil {
			found.note("edited-template", s.ID, "its template can not be read: %v", err)
			return nil
		}
		if !untouched(aws.ToString(out.TemplateBody)) {
			found.error("edited-template", s.ID, fmt.Sprintf("take the edit over into a folder of templates and name it with --stacks, or replace it with --overwrite %s", s.ID),
				"the template of the stack %s is not the one that dhow deployed: somebody has edited it", s.Name)
		}
		return nil
	})
}

// overlaps are networks of the graph that overlap, with each other or with the source's.
func (g *Graph) overlaps() []Finding {
	type network struct {
		prefix netip.Prefix
		what   string
	}
	var known []network
	var found []Finding
	for _, s := range g.Stacks {
		for _, in := range s.Inputs {
			ours := s.template.gives("VpcId") && in.Parameter == "VpcCidr"
			source := strings.HasPrefix(in.Parameter, "Source") && strings.Contains(in.Parameter, "Cidr")
			if in.Kind == FromOutput || in.Kind == FromDefault || !ours && !source {
				continue
			}
			for _, text := range strings.Split(in.Value, ",") {
				prefix, err := netip.ParsePrefix(strings.TrimSpace(text))
				if err != nil {
					continue // CloudFormation refuses it with the template's own words
				}
				one := network{prefix, s.ID + "'s " + in.Parameter}
				for _, other := range known {
					// The source's own networks are told to each environment.
					if other.prefix.Overlaps(prefix) && !strings.HasSuffix(other.what, in.Parameter) || other.prefix.Overlaps(prefix) && in.Parameter == "VpcCidr" {
						found = append(found, Finding{Severity: SeverityError, Rule: "networks", Where: s.ID, Fix: "give each a range of its own, under landing.environments",
							Text: fmt.Sprintf("%s, %s, overlaps %s, %s", one.what, prefix, other.what, other.prefix)})
					}
				}
				known = append(known, one)
			}
		}
	}
	return found
}
