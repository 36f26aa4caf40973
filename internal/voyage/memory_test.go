package voyage

import (
	"os"
	"runtime"
	"runtime/debug"
	"testing"
)

// TestForgetPeakRSS: what was taken and given back before is none of the peak.
func TestForgetPeakRSS(t *testing.T) {
	if f, err := os.OpenFile("/proc/self/clear_refs", os.O_WRONLY, 0); err != nil {
		t.Skipf("the system does not let the peak begin anew: %v", err)
	} else {
		_ = f.Close()
	}
	const much = 256 << 20 // bytes
	before := func() int64 {
		taken := make([]byte, much)
		for i := 0; i < much; i += os.Getpagesize() {
			taken[i] = 1
		}
		peak := PeakRSS()
		runtime.KeepAlive(taken)
		return peak
	}()
	if before < much {
		t.Errorf("with %d bytes the peak is %d", much, before)
	}
	debug.FreeOSMemory()
	ForgetPeakRSS()
	if after := PeakRSS(); after > before-much/2 {
		t.Errorf("the peak is %d before and %d after %d bytes were given back", before, after, much)
	}
}
