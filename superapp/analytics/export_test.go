package analytics

// What tests reach into.
var (
	Build = build
	Check = check
	Span  = span
)
