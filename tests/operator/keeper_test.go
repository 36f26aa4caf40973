package operator

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"dhow/internal/process"
)

const (
	// startAgain is between a program's end and its next start.
	startAgain = 500 * time.Millisecond
	// endTime bounds the end of a program.
	endTime = 30 * time.Second
	// logBytes is how many bytes of the last log a failed test shows.
	logBytes = 3000
)

// keeper runs dhow, and starts it again when it has ended, as a kubelet does.
type keeper struct {
	dir, name string
	args      []string
	stop      chan struct{}

	mu      sync.Mutex
	current *process.Process // nil while none runs
	lives   int
}

// keep runs dhow until the test ends.
func keep(t *testing.T, dir, name string, args ...string) *keeper {
	t.Helper()
	k := &keeper{dir: dir, name: name, args: args, stop: make(chan struct{})}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			p, err := k.start(self)
			if err != nil {
				t.Error(err)
				return
			}
			select {
			case <-p.Done():
			case <-k.stop:
				_ = p.StopWithin(endTime, syscall.SIGTERM) // killed in any case
				return
			}
			select {
			case <-time.After(startAgain):
			case <-k.stop:
				return
			}
		}
	})
	t.Cleanup(func() {
		close(k.stop)
		running.Wait()
		if t.Failed() {
			k.tell(t)
		}
	})
	return k
}

func (k *keeper) start(self string) (*process.Process, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lives++
	cmd := exec.Command(self, k.args...)
	cmd.Env = append(os.Environ(), asDhow+"=1")
	p, err := process.Start(cmd, process.Options{Name: k.name, Log: k.log(k.lives), DeathSignal: syscall.SIGKILL})
	k.current = p
	return p, err
}

func (k *keeper) log(life int) string {
	return filepath.Join(k.dir, fmt.Sprintf("%s-%d.log", k.name, life))
}

// kill ends the program at once.
func (k *keeper) kill() {
	k.mu.Lock()
	p := k.current
	k.mu.Unlock()
	if p != nil {
		p.Kill()
	}
}

// lived is how often it was started.
func (k *keeper) lived() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lives
}

// tell shows the end of what the last two lives said.
func (k *keeper) tell(t *testing.T) {
	for life := max(1, k.lived()-1); life <= k.lived(); life++ {
		text, _ := os.ReadFile(k.log(life))
		t.Logf("%s, life %d: %s", k.name, life, text[max(0, len(text)-logBytes):])
	}
}
