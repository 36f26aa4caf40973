package voyage

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// Holder is the command that works on the estate in whichever process of this
// machine, and that process; empty where none does. It is for people: who has to
// be sure takes the lock.
func (v *Voyage) Holder() (what string, pid int) {
	text, err := os.ReadFile(v.path(lockFile))
	if err != nil {
		return "", 0
	}
	before, after, found := strings.Cut(strings.TrimSpace(string(text)), ", process ")
	if !found {
		return "", 0
	}
	if _, err := fmt.Sscan(after, &pid); err != nil || pid <= 0 {
		return "", 0
	}
	// A holder that was killed leaves its name behind.
	if err := syscall.Kill(pid, 0); err != nil && !errors.Is(err, syscall.EPERM) {
		return "", 0
	}
	return strings.TrimPrefix(before, "dhow "), pid
}
