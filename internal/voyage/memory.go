package voyage

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// PeakRSS is the most memory that this process had, in bytes, since it began or since
// ForgetPeakRSS; 0 where the system does not say.
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

// ForgetPeakRSS lets PeakRSS begin anew, for what this process does from now on. Where
// the system does not let it, PeakRSS goes on as before.
func ForgetPeakRSS() {
	if runtime.GOOS != "linux" {
		return
	}
	const peak = "5" // proc(5): set the high water mark to what is there now
	_ = os.WriteFile("/proc/self/clear_refs", []byte(peak), 0)
}
