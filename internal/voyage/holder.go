package voyage

import "dhow/internal/cutover"

// Holder is the command that works on the estate in whichever process of this
// machine, and that process; empty where none does. See cutover.Holder.
func (v *Voyage) Holder() (what string, pid int) { return cutover.Holder(v.path(lockFile)) }
