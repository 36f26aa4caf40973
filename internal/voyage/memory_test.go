package voyage

import (
	"os"
	"runtime"
	"runtime/debug"
	"testing"
)

// TestForgetPeakRSS: what was taken and given back before is none of the peak.
func TestForgetPeakRSS(t *testing.T) {
	f, unable := os.OpenFile("/proc/self/clear_refs", os.O_WRONLY, 0)
	if unable == nil {
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
	after := PeakRSS()
	if unable != nil { // where the system does not let it begin anew, it stays
		if after < before {
			t.Errorf("the peak is %d before and %d after, though %v", before, after, unable)
		}
		return
	}
	if after > before-much/2 {
		t.Errorf("the peak is %d before and %d after %d bytes were given back", before, after, much)
	}
}
