package voyage

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// PeakRSS is the most memory that this process had, in bytes; 0 where the system
// does not say.
func PeakRSS() int64 {
	if runtime.GOOS != "linux" {
		return 0
	}
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		var kib int64
		if n, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 && err == nil {
			return kib << 10
		}
	}
	return 0
}
