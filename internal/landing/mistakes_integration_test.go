package landing

import (
	"math"
	"strings"
	"testing"
)

// TestMistakes seeds the program's own templates with one mistake each. What a graph can
// not be made with is told by dhow; all else is deployed, and fails with AWS's own words
// before anything of its stack is made, or with all of it taken back. All of it is in
// main's account and region.
func TestMistakes(t *testing.T) {
	const (
		vpc     = "    Type: AWS::EC2::VPC\n    Properties:\n"
		gateway = "  InternetGateway:\n    Type: AWS::EC2::InternetGateway\n"
	)
	for name, c := range map[string]struct {
		template, old, new string
		// want is what is said; by whom says whether before AWS is asked.
		want   string
		byDhow bool
	}{
		"misspelt property":              {template: "network", old: "CidrBlock: !Ref VpcCidr", new: "CidrBlok: !Ref VpcCidr", want: "Vpc (AWS::EC2::VPC): #: extraneous key [CidrBlok] is not permitted"},
		"misspelt property deep inside":  {template: "network", old: "Tags: [{Key: Name,", new: "Tags: [{Kee: Name,", want: "#/Tags/0: extraneous key [Kee] is not permitted"},
		"missing property":               {template: "network", old: "Properties: {VpcId: !Ref Vpc, InternetGatewayId: !Ref InternetGateway}", new: "Properties: {InternetGatewayId: !Ref InternetGateway}", want: "InternetGatewayAttachment (AWS::EC2::VPCGatewayAttachment): #: required key [VpcId] not found"},
		"wrong type of value":            {template: "network", old: "EnableDnsSupport: true", new: "EnableDnsSupport: maybe", want: "#/EnableDnsSupport: expected type: Boolean, found: String"},
		"a list for a text":              {template: "network", old: "CidrBlock: !Ref VpcCidr", new: "CidrBlock: [!Ref VpcCidr]", want: "#/CidrBlock: expected type: String, found: JSONArray"},
		"value that is none of the list": {template: "registry", old: "AppliedFor: [CREATE_ON_PUSH, REPLICATION]", new: "AppliedFor: [CREATE_ON_PULL]", want: "CREATE_ON_PULL is not a valid enum value"},
		"number too large":               {template: "keys", old: "PendingWindowInDays: !Ref DeletionDays", new: "PendingWindowInDays: 90", want: "#/PendingWindowInDays: 90 is not less or equal to 30"},
		"value of another form":          {template: "registry", old: "AliasName: !Sub 'alias/${Application}-images'", new: "AliasName: !Sub '${Application}-images'", want: "#/AliasName: failed validation constraint for keyword [pattern]"},
		"property that is only read":     {template: "network", old: vpc, new: vpc + "      VpcId: vpc-0123456789abcdef0\n", want: "extraneous key [VpcId] is not permitted: it is a read-only property"},
		"misspelt type":                  {template: "network", old: "AWS::EC2::InternetGateway\n", new: "AWS::EC2::InternetGatewy\n", want: "Unrecognized resource types: [AWS::EC2::InternetGatewy]"},
		"type that the region lacks":     {template: "network", old: gateway, new: "  Mover:\n    Type: AWS::DMS::ReplicationInstance\n    Properties: {ReplicationInstanceClass: dms.t3.medium}\n" + gateway, want: "Unrecognized resource types: [AWS::DMS::ReplicationInstance]"},
		"circular reference":             {template: "network", old: gateway + "    Properties:\n", new: "  InternetGateway:\n    Type: AWS::EC2::InternetGateway\n    DependsOn: InternetGatewayAttachment\n    Properties:\n", want: "Circular dependency between resources: ["},
		"reference to nothing":           {template: "network", old: "InternetGatewayId: !Ref InternetGateway}", new: "InternetGatewayId: !Ref Gateway}", want: "Template format error: Unresolved resource dependencies [Gateway] in the Resources block of the template"},
		"dependency on nothing":          {template: "network", old: gateway, new: gateway + "    DependsOn: Gateway\n", want: "Template format error: Unresolved resource dependencies [Gateway] in the Resources block of the template"},
		"attribute that is none":         {template: "network", old: "Value: !GetAtt Vpc.CidrBlock", new: "Value: !GetAtt Vpc.Cidr", want: "Requested attribute Cidr does not exist in schema for AWS::EC2::VPC"},
		"function that is none":          {template: "network", old: "CidrBlock: !Ref VpcCidr", new: "CidrBlock: {'Fn::Concat': [a, b]}", want: "Encountered unsupported function: Fn::Concat"},
		"key that a map lacks":           {template: "network", old: "!FindInMap [Bits, !Ref VpcPrefixLength, Edge]", new: "!FindInMap [Bits, !Ref VpcPrefixLength, Edges]", want: "Template error: Unable to get mapping for Bits::16::Edges"},
		"selection of nothing":           {template: "network", old: "!Select [48, !Cidr", new: "!Select [64, !Cidr", want: "Template error: Fn::Select cannot select nonexistent value at index 64"},
		"deletion policy that is none":   {template: "keys", old: "DeletionPolicy: Retain", new: "DeletionPolicy: Keep", want: "Unrecognized DeletionPolicy Keep for resource DataKey"},
		"snapshot of what has none":      {template: "keys", old: "DeletionPolicy: Retain", new: "DeletionPolicy: Snapshot", want: "does not support deletion policy Snapshot"},
		"list as an output":              {template: "network", old: "Value: !Ref ZoneCount", new: "Value: !GetAZs ''", want: "must evaluate to a String and not a List"},
		"null":                           {template: "network", old: "EnableDnsHostnames: true", new: "EnableDnsHostnames:", want: "'null' values are not allowed in templates"},
		"missing output":                 {template: "network", old: "  VpcId: {Description: The network., Value", new: "  Vpc: {Description: The network., Value", want: "lacks a value for its parameter VpcId (", byDhow: true},
		"condition that is not there":    {template: "network", old: "Condition: ThreeZones", new: "Condition: FourZones", want: `has the condition "FourZones", which the template does not define`, byDhow: true},
		"parameter of a wrong value":     {template: "keys", old: "Default: 365", new: "Default: always", want: "Parameter 'RotationDays' must be a number."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := superapp(t)
			library, err := Embedded()
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(library[c.template].Body), c.old) {
				t.Fatalf("the template %s has no %q to replace", c.template, c.old)
			}
			var g *Graph
			if library[c.template], err = Parse(c.template, []byte(strings.Replace(string(library[c.template].Body), c.old, c.new, 1))); err == nil {
				g, err = New(Options{Estate: e, Library: library, Regions: catalog(t)})
			}
			if c.byDhow || err != nil {
				if err == nil || !c.byDhow || !strings.Contains(err.Error(), c.want) {
					t.Errorf("before AWS is asked: got %v, want %s", err, c.want)
				}
				return
			}
			id := "main/" + c.template
			if c.template == "registry" {
				id = "production/registry"
			}
			wrong := g.Stack(id)
			s := newStage(t, math.Inf(1), accountsOf(g.regions()...))
			_, err = s.deployer(t, g).Apply(t.Context(), g.Needed([]*Stack{wrong}))
			if err == nil || !strings.Contains(err.Error(), id+": ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			for _, r := range s.double.Resources() {
				if r.Account == wrong.Number && r.Region == wrong.Region && r.Stack == wrong.Name {
					t.Errorf("it has made %s", r.Logical)
				}
			}
		})
	}
}
