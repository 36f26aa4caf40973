package emulators

// reasons are why emulators say otherwise than the double. The first that fits tells.
var reasons = []reason{
	{moto, "a condition and functions", "(create|update) Two", "its change sets show what a condition leaves out too"},
	{moto, "a role", "update (executed|status|output Ref)|at once: update .*", "it looks for a role of the new name in its own IAM, where CloudFormation makes that role and deletes the old one"},
	{moto, "a network|a subnet that is replaced", "at once: update output Id", "it can not update the type, and forgets the resource"},
	{moto, "a subnet that is replaced", "(at once: )?(deleted|gone)", "it has forgotten the subnet, and then can not delete the network around it"},
	{moto, ".*", "(create|update) output .*", "it loses the outputs of a stack that a change set makes"},
	{moto, ".*", "update \\w+( details)?", "its change sets say neither what is replaced nor which properties change"},
	{moto, "a log group", "at once: create output Arn", "it leaves away :*, in which the ARN of a log group ends"},
	{moto, "an attribute of a parameter", "at once: create output Value", "it knows no attribute of a parameter"},
	{moto, "ranges", "at once: .*|create .*", "it knows no Fn::Cidr"},
	{moto, "no change", "at once: update .*", "it updates a stack of which nothing changes, which CloudFormation refuses"},
	{moto, "no resources", "create refused", "it answers HTTP 500"},
	{moto, "an import of nothing|a key that a map lacks", ".*", "it finds out where the value is wanted, and then refuses, or never; CloudFormation fails the change set, and takes back a stack that is made without one"},
	{moto, "an attribute that is none", ".*", "it refuses the template, but not in a change set; CloudFormation tells when it asks the resource, and takes it back"},
	{moto, "(a|an) .* (nothing|there|none|lacks|missing|allowed)|a circle|a misspelt section", "(at once: )?create .*", "it looks at nothing of a template before it makes the resources, and then at little; CloudFormation refuses the template"},

	{ministack, "a condition and functions", "(create|update) Two", "its change sets show what a condition leaves out too"},
	{ministack, "a log group", "(at once: )?create output (Arn|Ref)", "it names a log group otherwise than CloudFormation, which takes the stack, the resource and a random end"},
	{ministack, "a key", "update Name( details)?", "it shows the alias of a changed key too; to CloudFormation a Ref changes only if what it names is replaced"},
	{ministack, "a network|a subnet that is replaced|a log group|a key|a bucket", "update \\w+( details)?", "of a property it says only that it may replace the resource; the schemas say whether it does"},
	{ministack, "an attribute of a network", ".*", "it lacks an attribute of a VPC, CidrBlock, that AWS's reference has"},
	{ministack, "no resources", ".*", "it takes a template without resources, which CloudFormation refuses"},
	{ministack, "a map that is not there", ".*", "it refuses the template at once, in the words for a key that a map lacks"},
	{ministack, "a key that a map lacks", ".*", "it refuses the template at once; CloudFormation fails the change set, and takes back a stack that is made without one"},
	{ministack, "a value that is (missing|not allowed)", "(at once: )?create refused", "it refuses the same in words of its own"},
	{ministack, "an attribute that is none", "(at once: )?create failed", "of an output it says the same in an event that CloudFormation does not have"},
	{ministack, "an import of nothing", ".*", "it finds out where the resource is made; CloudFormation before it makes any"},
	{ministack, "a circle", ".*", "it finds out when it makes the stack; CloudFormation refuses the template"},
	{ministack, "(a|an) .* (nothing|there)|a misspelt section", "(at once: )?create .*", "it makes what it can of the template; CloudFormation refuses it"},
}
