// Package hack embeds the lock files that lie beside it, so that a binary far from its
// sources still fetches the very releases that they name.
package hack

import "embed"

// Locks are the files that lock releases of Python packages, with their hashes.
//
//go:embed requirements-*.txt
var Locks embed.FS
