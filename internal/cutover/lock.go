package cutover

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrLocked says that another process holds the estate.
var ErrLocked = errors.New("another dhow works on this estate")

// Lock makes sure that one process at a time works on an estate. The kernel
// gives it back when its holder dies, however it dies.
type Lock struct{ file *os.File }

// TakeLock takes the lock, or fails with ErrLocked and who holds it.
func TakeLock(path, what string) (*Lock, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("create the lock's folder: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the estate's lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(path)
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w (%s): wait for it, or stop it", ErrLocked, strings.TrimSpace(string(holder)))
		}
		return nil, fmt.Errorf("take the estate's lock %s: %w", path, err)
	}
	// Who holds it is for people; the lock itself is the kernel's.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt(fmt.Appendf(nil, "dhow %s%s%d\n", what, beforeProcess, os.Getpid()), 0)
	}
	return &Lock{file: f}, nil
}

// beforeProcess stands between what holds a lock and its process.
const beforeProcess = ", process "

// Holder is the command that holds a lock in whichever process of this machine,
// and that process; empty where none does. It is for people: who has to be sure
// takes the lock.
func Holder(path string) (what string, pid int) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", 0
	}
	before, after, found := strings.Cut(strings.TrimSpace(string(text)), beforeProcess)
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

// Release gives the lock back.
func (l *Lock) Release() {
	_ = l.file.Truncate(0)
	_ = l.file.Close()
}
