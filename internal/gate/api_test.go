package gate_test

import (
	"dhow/internal/cutover"
	"dhow/internal/gate"
)

// The cutover steers a gate through a client.
var _ cutover.Gate = (*gate.Client)(nil)
