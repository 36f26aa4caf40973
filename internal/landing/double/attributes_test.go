package double

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

const servers = `
Parameters:
  Days: {Type: Number, Default: 7}
Resources:
  Server:
    Type: AWS::RDS::DBInstance
    Properties: {Engine: postgres, DBInstanceClass: db.m7g.large, AllocatedStorage: "100", MasterUsername: a, MasterUserPassword: abcdefgh, BackupRetentionPeriod: !Ref Days}
  Cache:
    Type: AWS::ElastiCache::ReplicationGroup
    Properties: {ReplicationGroupDescription: a, Engine: valkey, CacheNodeType: cache.m7g.large}
  Repository: {Type: AWS::ECR::Repository, Properties: {RepositoryName: pay/dhow}}
  Endpoint:
    Type: AWS::SSM::Parameter
    Properties: {Type: String, Value: !Sub "${Server.Endpoint.Address}:${Server.Endpoint.Port}"}
Outputs:
  Server: {Value: !GetAtt Server.Endpoint.Address}
  Port: {Value: !GetAtt Server.Endpoint.Port}
  Zone: {Value: !GetAtt Server.Endpoint.HostedZoneId}
  Cache: {Value: !Sub "${Cache.PrimaryEndPoint.Address}:${Cache.PrimaryEndPoint.Port}"}
  Reader: {Value: !GetAtt Cache.ReaderEndPoint.Address}
  Registry: {Value: !Select [0, !Split ["/", !GetAtt Repository.RepositoryUri]]}
  Name: {Value: !Ref Repository}
`

// TestAttributes: a resource has the attributes that it is given, in outputs and in what
// is made of it; all others follow from its schema, also after a change.
func TestAttributes(t *testing.T) {
	var seen []string
	s := newStand(t, func(o *Options) {
		o.Attributes = func(r Resource) map[string]any {
			seen = append(seen, fmt.Sprintf("%s %s %s %s %s %v", r.Account, r.Region, r.Stack, r.Logical, r.Type, r.Physical != ""))
			switch r.Type {
			case "AWS::RDS::DBInstance":
				return map[string]any{"Endpoint.Address": "127.0.0.1", "Endpoint.Port": 40001}
			case "AWS::ElastiCache::ReplicationGroup":
				return map[string]any{"PrimaryEndPoint.Address": "127.0.0.2", "PrimaryEndPoint.Port": "40002"}
			case "AWS::ECR::Repository":
				return map[string]any{"RepositoryUri": fmt.Sprintf("127.0.0.3:40003/%s", r.Properties["RepositoryName"])}
			}
			return nil
		}
	})
	made := s.create("servers", servers)
	if made.StackStatus != types.StackStatusCreateComplete {
		t.Fatal(s.story("servers"))
	}
	is := func(made *types.Stack) {
		t.Helper()
		o := outputs(made)
		for output, want := range map[string]string{"Server": "127.0.0.1", "Port": "40001", "Cache": "127.0.0.2:40002", "Registry": "127.0.0.3:40003", "Name": "pay/dhow"} {
			if o[output] != want {
				t.Errorf("the output %s is %q, want %q", output, o[output], want)
			}
		}
		if !strings.HasPrefix(o["Zone"], "Z") || !strings.Contains(o["Reader"], ".cache.amazonaws.com") {
			t.Errorf("what was not given is %q and %q", o["Zone"], o["Reader"])
		}
	}
	is(made)
	for _, r := range s.Resources() {
		if r.Logical == "Endpoint" && r.Properties["Value"] != "127.0.0.1:40001" {
			t.Errorf("a resource that is made of it is %v", r.Properties)
		}
	}
	if len(seen) != 4 || seen[0] != testAccount+" "+testRegion+" servers Cache AWS::ElastiCache::ReplicationGroup true" {
		t.Errorf("it was asked for %q", seen)
	}
	if changed := s.propose("servers", "longer", servers, types.ChangeSetTypeUpdate, "Days", "14"); changed.Status != types.ChangeSetStatusCreateComplete {
		t.Errorf("to change it gives %+v", changed)
	}
	is(s.execute("servers", "longer"))
	if len(seen) != 4 {
		t.Errorf("for a change it was asked for %q", seen[4:])
	}
}

// TestAttributesUnknown: an attribute that the type does not have is not given.
func TestAttributesUnknown(t *testing.T) {
	s := newStand(t, func(o *Options) {
		o.Attributes = func(r Resource) map[string]any {
			if r.Logical == "Vpc" {
				return map[string]any{"VpcId": "vpc-1", "Endpoint.Address": "127.0.0.1"}
			}
			return nil
		}
	})
	if made := s.create("network", network); made.StackStatus != types.StackStatusRollbackComplete {
		t.Errorf("it ends in %s", made.StackStatus)
	}
	wants(t, s.story("network"), "Vpc CREATE_FAILED: the double was given an attribute Endpoint.Address for Vpc, and AWS::EC2::VPC has none of that name", "network ROLLBACK_COMPLETE")
}
