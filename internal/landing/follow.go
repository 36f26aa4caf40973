package landing

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// endedError says that what CloudFormation did to a stack ended otherwise than wanted.
type endedError struct {
	stack, status, resource, kind, reason string
}

func (e *endedError) Error() string {
	if e.resource == "" {
		return fmt.Sprintf("the stack %s ended in %s: %s", e.stack, e.status, e.reason)
	}
	return fmt.Sprintf("the stack %s ended in %s: %s (%s) failed first: %s", e.stack, e.status, e.resource, e.kind, e.reason)
}

// newestEvent is the id of a stack's newest event; empty where it has none.
func newestEvent(ctx context.Context, p *place, id string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	out, err := p.cfn.DescribeStackEvents(ctx, &cloudformation.DescribeStackEventsInput{StackName: aws.String(id)})
	if isMissing(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the stack's events: %w", err)
	}
	if len(out.StackEvents) == 0 {
		return "", nil
	}
	return aws.ToString(out.StackEvents[0].EventId), nil
}

// follow tells what happens to a stack since an event until CloudFormation is done
// with it. Without an event it begins where the work began that is under way. An end
// that was not wanted is an *endedError with the first resource that failed.
func (d *Deployer) follow(ctx context.Context, p *place, s *Stack, id, mark string, r *Result) error {
	var happened []types.StackEvent
	for {
		news, err := eventsSince(ctx, p, id, mark)
		if err != nil {
			return err
		}
		for _, e := range news {
			d.tell(eventOf(s, id, e))
		}
		if len(news) > 0 {
			mark = aws.ToString(news[len(news)-1].EventId)
			happened = append(happened, news...)
			if last, over := ended(id, happened); over {
				r.Began, r.Ended = aws.ToTime(began(id, happened).Timestamp), aws.ToTime(last.Timestamp)
				if succeeded(types.StackStatus(last.ResourceStatus)) {
					return nil
				}
				return firstFailure(s, id, happened)
			}
		}
		if err := sleep(ctx, d.o.Poll); err != nil {
			return fmt.Errorf("%w: CloudFormation goes on with %s by itself; run it again to follow", err, s.Name)
		}
	}
}

// eventsSince are a stack's events behind one, the oldest first; without one, those of
// the work that is under way.
func eventsSince(ctx context.Context, p *place, id, mark string) ([]types.StackEvent, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var events []types.StackEvent
	in := &cloudformation.DescribeStackEventsInput{StackName: aws.String(id)}
	for range eventBacklog {
		out, err := p.cfn.DescribeStackEvents(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("read the stack's events: %w", err)
		}
		for _, e := range out.StackEvents {
			if aws.ToString(e.EventId) == mark {
				slices.Reverse(events)
				return events, nil
			}
			events = append(events, e)
			if mark == "" && begins(id, e) {
				slices.Reverse(events)
				return events, nil
			}
		}
		if out.NextToken == nil {
			break
		}
		in.NextToken = out.NextToken
	}
	slices.Reverse(events)
	return events, nil
}

// own says that an event is of the stack itself.
func own(id string, e types.StackEvent) bool { return aws.ToString(e.PhysicalResourceId) == id }

// begins says that an event is the beginning of work on a stack.
func begins(id string, e types.StackEvent) bool {
	return own(id, e) && slices.Contains([]string{"CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS"}, string(e.ResourceStatus))
}

// began is the event with which the work began.
func began(id string, events []types.StackEvent) types.StackEvent {
	for _, e := range events {
		if begins(id, e) {
			return e
		}
	}
	return events[0]
}

// ended is the event with which CloudFormation was done with a stack.
func ended(id string, events []types.StackEvent) (types.StackEvent, bool) {
	for _, e := range slices.Backward(events) {
		if own(id, e) {
			return e, !strings.HasSuffix(string(e.ResourceStatus), "_IN_PROGRESS")
		}
	}
	return types.StackEvent{}, false
}

func eventOf(s *Stack, id string, e types.StackEvent) Event {
	event := Event{At: aws.ToTime(e.Timestamp), Stack: s.ID, Status: string(e.ResourceStatus), Reason: aws.ToString(e.ResourceStatusReason)}
	if !own(id, e) {
		event.Resource, event.Type = aws.ToString(e.LogicalResourceId), aws.ToString(e.ResourceType)
	}
	return event
}

// firstFailure is the error about how work on a stack ended: what failed first is why
// the rest did. Where no resource failed, but an output, it stands where the stack turned.
func firstFailure(s *Stack, id string, events []types.StackEvent) error {
	last, _ := ended(id, events)
	err := &endedError{stack: s.Name, status: string(last.ResourceStatus), reason: aws.ToString(last.ResourceStatusReason)}
	for _, e := range events {
		reason := aws.ToString(e.ResourceStatusReason)
		if own(id, e) && strings.HasSuffix(string(e.ResourceStatus), "ROLLBACK_IN_PROGRESS") && reason != "" {
			err.reason = reason
		}
		if own(id, e) || !strings.HasSuffix(string(e.ResourceStatus), "_FAILED") || strings.Contains(strings.ToLower(reason), "cancelled") {
			continue
		}
		err.resource, err.kind, err.reason = aws.ToString(e.LogicalResourceId), aws.ToString(e.ResourceType), reason
		break
	}
	return err
}

// delete deletes a stack, and waits until it is gone.
func (d *Deployer) delete(ctx context.Context, p *place, s *Stack, st *types.Stack, r *Result) error {
	id := aws.ToString(st.StackId)
	mark, err := newestEvent(ctx, p, id)
	if err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	if aws.ToBool(st.EnableTerminationProtection) {
		if _, err := p.cfn.UpdateTerminationProtection(call, &cloudformation.UpdateTerminationProtectionInput{StackName: aws.String(s.Name), EnableTerminationProtection: aws.Bool(false)}); err != nil {
			return fmt.Errorf("let the stack be deleted: %w", err)
		}
	}
	if _, err := p.cfn.DeleteStack(call, &cloudformation.DeleteStackInput{StackName: aws.String(id), ClientRequestToken: aws.String(fmt.Sprintf("dhow-%d", time.Now().UnixNano()))}); err != nil {
		return fmt.Errorf("delete the stack: %w", err)
	}
	return d.follow(ctx, p, s, id, mark, r)
}
