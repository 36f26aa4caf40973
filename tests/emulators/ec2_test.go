package emulators

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// network is EC2 as its words go over the wire, for the few calls that are made of it:
// the SDK's client has a thousand, and takes minutes to build.
type network struct{ aws.Config }

const mostAnswer = 1 << 20

// ask calls EC2, with keys and values in turn, and reads what it answers into out.
func (n network) ask(t *testing.T, out any, action string, pairs ...string) {
	t.Helper()
	form := url.Values{"Action": {action}, "Version": {"2016-11-15"}}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	body := form.Encode()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, os.Getenv("AWS_ENDPOINT_URL_EC2"), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	who, err := n.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(t.Context(), who, req, hex.EncodeToString(sum[:]), "ec2", n.Region, time.Now()); err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(io.LimitReader(res.Body, mostAnswer))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("it answers %s: %s", res.Status, got)
	}
	if err == nil {
		err = xml.Unmarshal(got, out)
	}
	if err != nil {
		t.Fatalf("EC2, %s: %v", action, err)
	}
}

// vpc is a VPC; the names of what else there is are AWS's too.
type vpc struct {
	ID   string `xml:"vpcId"`
	CIDR string `xml:"cidrBlock"`
}

type endpoint struct {
	ID          string   `xml:"vpcEndpointId"`
	Service     string   `xml:"serviceName"`
	Type        string   `xml:"vpcEndpointType"`
	RouteTables []string `xml:"routeTableIdSet>item"`
	Subnets     []string `xml:"subnetIdSet>item"`
	PrivateDNS  bool     `xml:"privateDnsEnabled"`
}

type routeTable struct {
	ID     string  `xml:"routeTableId"`
	Routes []route `xml:"routeSet>item"`
}

type route struct {
	To      string `xml:"destinationCidrBlock"`
	NAT     string `xml:"natGatewayId"`
	Gateway string `xml:"gatewayId"`
}

// ofVPC is a filter.
func ofVPC(id string) []string { return []string{"Filter.1.Name", "vpc-id", "Filter.1.Value.1", id} }

func (n network) createVPC(t *testing.T, cidr string) string {
	t.Helper()
	var out struct {
		ID string `xml:"vpc>vpcId"`
	}
	n.ask(t, &out, "CreateVpc", "CidrBlock", cidr)
	return out.ID
}

func (n network) createSubnet(t *testing.T, vpc, zone, cidr string) string {
	t.Helper()
	var out struct {
		ID string `xml:"subnet>subnetId"`
	}
	n.ask(t, &out, "CreateSubnet", "VpcId", vpc, "AvailabilityZone", zone, "CidrBlock", cidr)
	return out.ID
}

func (n network) createRouteTable(t *testing.T, vpc string) string {
	t.Helper()
	var out struct {
		ID string `xml:"routeTable>routeTableId"`
	}
	n.ask(t, &out, "CreateRouteTable", "VpcId", vpc)
	return out.ID
}

func (n network) createGroup(t *testing.T, vpc, name string) string {
	t.Helper()
	var out struct {
		ID string `xml:"groupId"`
	}
	n.ask(t, &out, "CreateSecurityGroup", "VpcId", vpc, "GroupName", name, "GroupDescription", "Made by a test")
	return out.ID
}

// entered are the ports of a group that may be entered, and by which group.
func (n network) entered(t *testing.T, group string) map[int]string {
	t.Helper()
	var out struct {
		Rules []struct {
			Port int    `xml:"fromPort"`
			By   string `xml:"groups>item>groupId"`
		} `xml:"securityGroupInfo>item>ipPermissions>item"`
	}
	n.ask(t, &out, "DescribeSecurityGroups", "GroupId.1", group)
	ports := map[int]string{}
	for _, r := range out.Rules {
		ports[r.Port] = r.By
	}
	return ports
}

func (n network) vpc(t *testing.T, id string) vpc {
	t.Helper()
	var out struct {
		VPCs []vpc `xml:"vpcSet>item"`
	}
	n.ask(t, &out, "DescribeVpcs", "VpcId.1", id)
	if len(out.VPCs) != 1 {
		t.Fatalf("of %s there are %v", id, out.VPCs)
	}
	return out.VPCs[0]
}

// zones are the zones of a VPC's subnets, one for each.
func (n network) zones(t *testing.T, vpc string) []string {
	t.Helper()
	var out struct {
		Zones []string `xml:"subnetSet>item>availabilityZone"`
	}
	n.ask(t, &out, "DescribeSubnets", ofVPC(vpc)...)
	return out.Zones
}

func (n network) endpoints(t *testing.T, vpc string) []endpoint {
	t.Helper()
	var out struct {
		Endpoints []endpoint `xml:"vpcEndpointSet>item"`
	}
	n.ask(t, &out, "DescribeVpcEndpoints", ofVPC(vpc)...)
	return out.Endpoints
}

// natGateways are the ids of a VPC's.
func (n network) natGateways(t *testing.T, vpc string) []string {
	t.Helper()
	var out struct {
		IDs []string `xml:"natGatewaySet>item>natGatewayId"`
	}
	n.ask(t, &out, "DescribeNatGateways", ofVPC(vpc)...)
	return out.IDs
}

func (n network) routeTables(t *testing.T, vpc string) []routeTable {
	t.Helper()
	var out struct {
		Tables []routeTable `xml:"routeTableSet>item"`
	}
	n.ask(t, &out, "DescribeRouteTables", ofVPC(vpc)...)
	return out.Tables
}

// logged are the ids of what has flow logs.
func (n network) logged(t *testing.T) []string {
	t.Helper()
	var out struct {
		IDs []string `xml:"flowLogSet>item>resourceId"`
	}
	n.ask(t, &out, "DescribeFlowLogs")
	return out.IDs
}
