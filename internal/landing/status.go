package landing

import (
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// inProgress says that CloudFormation is at work on a stack. One that is under review
// is not: it waits for a change set to be executed.
func inProgress(s types.StackStatus) bool {
	return strings.HasSuffix(string(s), "_IN_PROGRESS") && s != types.StackStatusReviewInProgress
}

// settled are the states in which a stack can be updated.
func settled(s types.StackStatus) bool {
	return slices.Contains([]types.StackStatus{types.StackStatusCreateComplete, types.StackStatusUpdateComplete, types.StackStatusUpdateRollbackComplete, types.StackStatusImportComplete, types.StackStatusImportRollbackComplete}, s)
}

// stillborn are the states of a stack that was never whole, and that can only be deleted.
func stillborn(s types.StackStatus) bool {
	return slices.Contains([]types.StackStatus{types.StackStatusRollbackComplete, types.StackStatusRollbackFailed, types.StackStatusCreateFailed}, s)
}

// succeeded are the states in which what was begun has been done.
func succeeded(s types.StackStatus) bool {
	return slices.Contains([]types.StackStatus{types.StackStatusCreateComplete, types.StackStatusUpdateComplete, types.StackStatusDeleteComplete}, s)
}
