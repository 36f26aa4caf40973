package double

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// What a deployer asks of other services before it deploys: which actions a role may do,
// which regions are opted in, how much of a thing there may be.

func iamActions() map[string]handler {
	return map[string]handler{"SimulatePrincipalPolicy": answer((*Double).simulatePrincipalPolicy)}
}

type simulateInput struct {
	PolicySourceArn *string
	ActionNames     []string
}

type evaluation struct {
	EvalActionName, EvalDecision, EvalResourceName string
}

type simulateOutput struct {
	EvaluationResults []evaluation
	IsTruncated       bool
}

var principalARN = regexp.MustCompile(`^arn:aws[a-z-]*:iam::(\d{12}):(role|user)/(?:.*/)?([^/]+)$`)

// simulatePrincipalPolicy says which actions a role or a user is refused.
func (d *Double) simulatePrincipalPolicy(c *call, in *simulateInput) (*simulateOutput, error) {
	source := ""
	if in.PolicySourceArn != nil {
		source = *in.PolicySourceArn
	}
	m := principalARN.FindStringSubmatch(source)
	var denies []string
	switch {
	case source == "arn:aws:iam::"+c.at.account+":root":
	case m == nil || m[1] != c.at.account:
		return nil, faultf(400, "InvalidInput", "Invalid Entity Arn: %s does not clearly define entity type and name.", source)
	case m[2] == "role":
		r := d.accounts.role(m[1], m[3])
		if r == nil {
			return nil, faultf(404, "NoSuchEntity", "Role %s does not exist.", m[3])
		}
		denies = r.Denies
	default:
		found := false
		for _, k := range d.accounts.byID[m[1]].Keys {
			if k.User == m[3] {
				denies, found = k.Denies, true
			}
		}
		if !found {
			return nil, faultf(404, "NoSuchEntity", "User %s does not exist.", m[3])
		}
	}
	out := &simulateOutput{}
	for _, a := range in.ActionNames {
		decision := "allowed"
		if denied(denies, a) {
			decision = "explicitDeny"
		}
		out.EvaluationResults = append(out.EvaluationResults, evaluation{a, decision, "*"})
	}
	return out, nil
}

// quota is how many of a type an account may have in a region.
type quota struct {
	service, code, name, kind string
	value                     float64
	refusal                   string // what AWS says once they are used up
}

// quotas are AWS's defaults of those that a landing zone comes near to; an account's own
// values are in Account.Quotas. They are from AWS's pages of each service's quotas.
var quotas = []quota{
	{"cloudformation", "L-0485CB21", "Stack count", "", maxStacks, ""},
	{"ec2", "L-0263D0A3", "EC2-VPC Elastic IPs", "AWS::EC2::EIP", 5, "The maximum number of addresses has been reached."},
	{"eks", "L-1194D53C", "Clusters", "AWS::EKS::Cluster", 100, "Cluster limit exceeded."},
	{"elasticloadbalancing", "L-53DA6B97", "Application Load Balancers per Region", "AWS::ElasticLoadBalancingV2::LoadBalancer", 50, "The maximum number of load balancers has been reached"},
	{"rds", "L-7B6409FD", "DB instances", "AWS::RDS::DBInstance", 40, "Cannot create more than 40 instances"},
	{"vpc", "L-A4707A72", "Internet gateways per Region", "AWS::EC2::InternetGateway", 5, "The maximum number of internet gateways has been reached."},
	{"vpc", "L-F678F1CE", "VPCs per Region", "AWS::EC2::VPC", 5, "The maximum number of VPCs has been reached."},
}

// allowance is what a quota is in an account.
func (d *Double) allowance(account string, q quota) float64 {
	if acc := d.accounts.byID[account]; acc != nil {
		if v, ok := acc.Quotas[q.service+"/"+q.code]; ok {
			return v
		}
	}
	return q.value
}

// exhausted says whether a place has as many of a resource's type as it may, without it.
func (d *Double) exhausted(r *resource) (string, bool) {
	for _, q := range quotas {
		if q.kind != r.kind {
			continue
		}
		n := 0.0
		for _, s := range d.stacks[r.at] {
			for _, other := range s.resources {
				if other != r && other.kind == r.kind && other.physical != "" && !other.gone {
					n++
				}
			}
		}
		if n >= d.allowance(r.at.account, q) {
			return fmt.Sprintf("Resource handler returned message: \"%s\" (RequestToken: %s, HandlerErrorCode: ServiceLimitExceeded)", q.refusal, uuidOf(r.seed("quota")...)), true
		}
	}
	return "", false
}

func (d *Double) serveJSON(w http.ResponseWriter, r *http.Request, request, target string, body []byte) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	d.mu.Lock()
	s, err := d.authenticate(r, body)
	d.mu.Unlock()
	_, action, _ := strings.Cut(target, ".")
	var in struct{ ServiceCode, QuotaCode, NextToken string }
	var out any
	if err == nil {
		err = json.Unmarshal(body, &in)
	}
	if err == nil {
		out, err = d.take(r.Context(), s, action, func(c *call) (any, error) {
			switch action {
			case "GetServiceQuota", "GetAWSDefaultServiceQuota":
				for _, q := range quotas {
					if q.service == in.ServiceCode && q.code == in.QuotaCode {
						return map[string]any{"Quota": d.quotaShown(c.at, q)}, nil
					}
				}
				return nil, faultf(400, "NoSuchResourceException", "The request failed because the specified resource does not exist.")
			case "ListServiceQuotas", "ListAWSDefaultServiceQuotas":
				list := []any{}
				for _, q := range quotas {
					if q.service == in.ServiceCode {
						list = append(list, d.quotaShown(c.at, q))
					}
				}
				return map[string]any{"Quotas": list}, nil
			}
			return nil, faultf(400, "UnknownOperationException", "The operation %s is not known", action)
		})
	}
	if err != nil {
		f := d.faultOf(err)
		w.Header().Set("X-Amzn-Errortype", f.code)
		w.WriteHeader(f.status)
		out = map[string]string{"__type": f.code, "message": f.message, "requestId": request}
	}
	_ = json.NewEncoder(w).Encode(out) // who has gone hears nothing
}

func (d *Double) quotaShown(at place, q quota) any {
	return map[string]any{"ServiceCode": q.service, "QuotaCode": q.code, "QuotaName": q.name, "Value": d.allowance(at.account, q), "Adjustable": true, "GlobalQuota": false, "Unit": "None",
		"QuotaArn": "arn:" + partitionOf(at.region) + ":servicequotas:" + at.region + ":" + at.account + ":" + q.service + "/" + q.code}
}

const ec2Namespace = "http://ec2.amazonaws.com/doc/2016-11-15/"

// serveEC2 tells which regions an account can use.
func (d *Double) serveEC2(w http.ResponseWriter, r *http.Request, request string, s *signed, err error, form url.Values) {
	action := form.Get("Action")
	var answer strings.Builder
	if err == nil {
		_, err = d.take(r.Context(), s, action, func(c *call) (any, error) {
			switch action {
			case "DescribeRegions":
				d.writeRegions(&answer, c.at.account, form)
			case "DescribeAvailabilityZones":
				answer.WriteString("<availabilityZoneInfo>")
				for _, z := range d.zones(c.at.region) {
					fmt.Fprintf(&answer, "<item><zoneName>%s</zoneName><zoneState>available</zoneState><regionName>%s</regionName></item>", z, c.at.region)
				}
				answer.WriteString("</availabilityZoneInfo>")
			default:
				return nil, faultf(400, "InvalidAction", "The action %s is not valid for this web service.", action)
			}
			return nil, nil
		})
	}
	w.Header().Set("Content-Type", "text/xml")
	if err != nil {
		f := d.faultOf(err)
		if f.code == "InvalidClientTokenId" {
			f = faultf(401, "AuthFailure", "AWS was not able to validate the provided access credentials")
		}
		w.WriteHeader(f.status)
		var text strings.Builder
		_ = xml.EscapeText(&text, []byte(f.message)) // a strings.Builder does not fail
		_, _ = fmt.Fprintf(w, "<Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors><RequestID>%s</RequestID></Response>", f.code, text.String(), request)
		return
	}
	_, _ = fmt.Fprintf(w, "<%sResponse xmlns=%q><requestId>%s</requestId>%s</%[1]sResponse>", action, ec2Namespace, request, answer.String())
}

func (d *Double) writeRegions(b *strings.Builder, account string, form url.Values) {
	var wanted []string
	for key, values := range form {
		if strings.HasPrefix(key, "RegionName.") && len(values) > 0 {
			wanted = append(wanted, values[0])
		}
	}
	acc := d.accounts.byID[account]
	status := map[string]string{}
	for _, r := range d.regions.Regions() {
		switch {
		case !r.OptIn:
			status[r.Name] = "opt-in-not-required"
		case acc != nil && slices.Contains(acc.Regions, r.Name):
			status[r.Name] = "opted-in"
		case form.Get("AllRegions") == "true":
			status[r.Name] = "not-opted-in"
		}
	}
	b.WriteString("<regionInfo>")
	for _, name := range slices.Sorted(maps.Keys(status)) {
		if len(wanted) == 0 || slices.Contains(wanted, name) {
			fmt.Fprintf(b, "<item><regionName>%s</regionName><regionEndpoint>ec2.%[1]s.amazonaws.com</regionEndpoint><optInStatus>%s</optInStatus></item>", name, status[name])
		}
	}
	b.WriteString("</regionInfo>")
}
