package dr

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	rdstypes "github.com/aws/aws-sdk-go-v2/service/rds/types"
)

const (
	// groupTime bounds the making of a security group.
	groupTime = 10 * time.Minute
	// eventWindow is how far back a database's events are read: longer than a change of it
	// is waited for. eventPages bounds in how many pages.
	eventWindow = 2 * changeTime
	eventPages  = 20
	// restartedWords are what RDS tells when a database runs again.
	restartedWords = "restarted"
	rebooting      = "rebooting" // what RDS says of a database that is not down yet, or not up
)

// fence lets a database take no connection: it gets a security group that lets nobody
// in, and is rebooted, for a group does not cut the connections that there are. Its
// replication goes on, for RDS has a way of its own for that. It may be called again.
func (d *DR) fence(ctx context.Context, c Clients, environment, name string) error {
	instance, err := describeDatabase(ctx, c.Databases, name)
	if err != nil {
		return err
	}
	if instance == nil {
		return fmt.Errorf("the database %s is gone", name)
	}
	if instance.DBSubnetGroup == nil || aws.ToString(instance.DBSubnetGroup.VpcId) == "" {
		return fmt.Errorf("the database %s tells no network, so there is no group that could lock it: lock it by hand", name)
	}
	group, err := d.closedGroup(ctx, c.Groups, environment, aws.ToString(instance.DBSubnetGroup.VpcId))
	if err != nil {
		return err
	}
	record := d.state.fence(environment, name)
	if record == nil {
		d.state.Fences = append(d.state.Fences, Fence{Environment: environment, Database: name})
		record = d.state.fence(environment, name)
	}
	had := groupsOf(instance)
	others := slices.DeleteFunc(slices.Clone(had), func(g string) bool { return g == group })
	record.Group = group
	if len(others) > 0 {
		// Where the change was cut off half way, what is kept is from before it.
		if len(record.Groups) == 0 || len(others) == len(had) {
			record.Groups = others
		}
		record.At, record.CaughtUp = time.Time{}, false
		if err := d.state.save(); err != nil {
			return err
		}
		if err := d.regroup(ctx, c.Databases, name, []string{group}); err != nil {
			return fmt.Errorf("lock the database %s: %w", name, err)
		}
	}
	if !record.At.IsZero() {
		return nil
	}
	if record.At, err = d.cut(ctx, c.Databases, name); err != nil {
		return err
	}
	return d.state.save()
}

// cut ends the connections of a database by a reboot, and returns when it was over, by
// AWS's clock: whoever wrote did so before. Its event tells that; RDS promises none, so
// a database that was seen to reboot and to work again has told it too. Right after the
// call it may look as before, which tells nothing.
func (d *DR) cut(ctx context.Context, c Databases, name string) (time.Time, error) {
	before, _, err := events(ctx, c, name)
	if err != nil {
		return time.Time{}, err
	}
	if err := d.insist(ctx, "cut the connections of the database "+name, func(ctx context.Context) error {
		_, err := c.RebootDBInstance(ctx, &rds.RebootDBInstanceInput{DBInstanceIdentifier: aws.String(name)})
		return err
	}); err != nil {
		return time.Time{}, err
	}
	waiting, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	for seen := false; ; {
		_, restarted, err := events(waiting, c, name)
		if err != nil {
			return time.Time{}, err
		}
		if restarted.After(before) {
			return restarted, nil
		}
		instance, at, err := d.describeAt(waiting, c, name)
		switch {
		case err != nil:
			return time.Time{}, err
		case instance == nil:
			return time.Time{}, fmt.Errorf("the database %s is gone", name)
		case aws.ToString(instance.DBInstanceStatus) == rebooting:
			seen = true
		case seen && works(instance):
			return at, nil
		}
		if err := d.pause(waiting); err != nil {
			return time.Time{}, tooLong(ctx, err, "the database "+name+" to tell that it was restarted")
		}
	}
}

// events are when the newest event of a database was, and when the newest restart; zero
// where there was none lately.
func events(ctx context.Context, c Databases, name string) (newest, restarted time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	in := &rds.DescribeEventsInput{SourceIdentifier: aws.String(name), SourceType: rdstypes.SourceTypeDbInstance, Duration: aws.Int32(int32(eventWindow / time.Minute))}
	for range eventPages {
		page, err := c.DescribeEvents(ctx, in)
		if err != nil {
			return newest, restarted, fmt.Errorf("read the events of the database %s: %w", name, err)
		}
		for _, e := range page.Events {
			at := aws.ToTime(e.Date)
			if at.After(newest) {
				newest = at
			}
			if strings.Contains(aws.ToString(e.Message), restartedWords) && at.After(restarted) {
				restarted = at
			}
		}
		if in.Marker = page.Marker; aws.ToString(in.Marker) == "" {
			break
		}
	}
	return newest, restarted, nil
}

// unfence gives the databases of an environment the groups that they had. It may be
// called again, and where nothing is locked.
func (d *DR) unfence(ctx context.Context, c Clients, environment string) error {
	var wrong []error
	for _, f := range slices.Clone(d.state.Fences) {
		if f.Environment != environment {
			continue
		}
		if err := d.unfenceOne(ctx, c.Databases, f); err != nil {
			wrong = append(wrong, err)
		}
	}
	return errors.Join(wrong...)
}

func (d *DR) unfenceOne(ctx context.Context, c Databases, f Fence) error {
	instance, err := describeDatabase(ctx, c, f.Database)
	if err != nil {
		return err
	}
	// One that is gone is open to nobody; one that was made anew, or opened by hand, is open.
	if instance != nil && (f.Group == "" || slices.Contains(groupsOf(instance), f.Group)) {
		if len(f.Groups) == 0 {
			return fmt.Errorf("nobody kept which security groups the database %s had: set them by hand, as its stack says, and run it again", f.Database)
		}
		// From here on it may take writes, whether this process lives to see it or not.
		d.state.fence(f.Environment, f.Database).At = time.Time{}
		if err := d.state.save(); err != nil {
			return err
		}
		if err := d.regroup(ctx, c, f.Database, f.Groups); err != nil {
			return fmt.Errorf("open the database %s: %w", f.Database, err)
		}
	}
	d.state.Fences = slices.DeleteFunc(d.state.Fences, func(one Fence) bool { return one.Environment == f.Environment && one.Database == f.Database })
	return d.state.save()
}

// regroup gives a database other security groups, and waits until they hold.
func (d *DR) regroup(ctx context.Context, c Databases, name string, groups []string) error {
	if err := d.insist(ctx, "change its security groups", func(ctx context.Context) error {
		_, err := c.ModifyDBInstance(ctx, &rds.ModifyDBInstanceInput{DBInstanceIdentifier: aws.String(name), VpcSecurityGroupIds: groups, ApplyImmediately: aws.Bool(true)})
		return err
	}); err != nil {
		return err
	}
	want := slices.Sorted(slices.Values(groups))
	return d.await(ctx, c, name, "in its new security groups", func(i *rdstypes.DBInstance) bool {
		return slices.Equal(groupsOf(i), want) && !slices.ContainsFunc(i.VpcSecurityGroups, func(g rdstypes.VpcSecurityGroupMembership) bool { return aws.ToString(g.Status) != "active" })
	})
}

// groupsOf are the security groups of a database, sorted.
func groupsOf(i *rdstypes.DBInstance) []string {
	var groups []string
	for _, g := range i.VpcSecurityGroups {
		groups = append(groups, aws.ToString(g.VpcSecurityGroupId))
	}
	slices.Sort(groups)
	return groups
}

// shuts says whether a database is locked as it was: whom people let in since, such as a
// mover, does not count, but those whom it served before do.
func (f *Fence) shuts(i *rdstypes.DBInstance) bool {
	groups := groupsOf(i)
	if f.Group == "" || !slices.Contains(groups, f.Group) {
		return false
	}
	return !slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(f.Groups, g) })
}

// lockTemplate makes a security group that lets nobody in.
const lockTemplate = `AWSTemplateFormatVersion: '2010-09-09'
Description: A security group that lets nobody into databases that gave their place up.
Parameters:
  VpcId: {Type: String}
Resources:
  Locked:
    Type: AWS::EC2::SecurityGroup
    Properties:
      GroupDescription: Lets nobody into databases that gave their place up
      VpcId: !Ref VpcId
      SecurityGroupEgress:
        - {IpProtocol: icmp, FromPort: -1, ToPort: -1, CidrIp: 127.0.0.1/32, Description: Nothing}
Outputs:
  LockedGroupId: {Value: !GetAtt Locked.GroupId}
`

// closedGroup is the security group of an environment's network that lets nobody in. A
// stack of its own makes it where it is missing; it stays for the next time.
func (d *DR) closedGroup(ctx context.Context, c Groups, environment, vpc string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, groupTime)
	defer cancel()
	name := d.o.Graph.Application + "-" + environment + "-locked"
	for made := false; ; {
		out, err := c.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: &name})
		missing := err != nil && codeOf(err) == "ValidationError" && strings.Contains(err.Error(), "does not exist")
		switch {
		case missing && made: // it is not told yet
		case missing:
			made = true
			if err := d.makeGroup(ctx, c, name, environment, vpc); err != nil {
				return "", err
			}
		case err != nil:
			return "", fmt.Errorf("ask for the stack %s: %w", name, err)
		case len(out.Stacks) == 0:
			return "", fmt.Errorf("CloudFormation tells nothing of the stack %s: run it again", name)
		case out.Stacks[0].StackStatus == types.StackStatusCreateInProgress:
		case out.Stacks[0].StackStatus != types.StackStatusCreateComplete:
			return "", fmt.Errorf("the stack %s, which makes the security group that locks databases, is in %s (%s): delete it and run it again", name, out.Stacks[0].StackStatus, aws.ToString(out.Stacks[0].StackStatusReason))
		default:
			for _, o := range out.Stacks[0].Outputs {
				if aws.ToString(o.OutputKey) == "LockedGroupId" && aws.ToString(o.OutputValue) != "" {
					return aws.ToString(o.OutputValue), nil
				}
			}
			return "", fmt.Errorf("the stack %s gives no security group: delete it and run it again", name)
		}
		if err := d.pause(ctx); err != nil {
			return "", fmt.Errorf("wait for the stack %s: %w", name, err)
		}
	}
}

func (d *DR) makeGroup(ctx context.Context, c Groups, name, environment, vpc string) error {
	_, err := c.CreateStack(ctx, &cloudformation.CreateStackInput{StackName: &name, TemplateBody: aws.String(lockTemplate),
		Parameters: []types.Parameter{{ParameterKey: aws.String("VpcId"), ParameterValue: &vpc}},
		Tags:       []types.Tag{{Key: aws.String("Application"), Value: aws.String(d.o.Graph.Application)}, {Key: aws.String("Environment"), Value: &environment}, {Key: aws.String("dhow:stack"), Value: aws.String("locked")}}})
	if err != nil && codeOf(err) != "AlreadyExistsException" {
		return fmt.Errorf("make the stack %s, which locks databases: %w", name, err)
	}
	return nil
}

func list(all []string) string { return strings.Join(all, ", ") }
