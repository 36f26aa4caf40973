package cli_test

import (
	"strings"
	"testing"

	"dhow/internal/cutover"
)

// TestReplicateForever takes the estate up again after each command that has had it:
// it streams back after a cutover, there after a rollback, also after a dry run, and
// waits to be told to end once the move is finished.
func TestReplicateForever(t *testing.T) {
	t.Parallel()
	s := newStage(t, 15, 15)
	s.create(t, "accounts")
	p := s.estateOf(t, roomy, nil, "accounts")
	r := p.begin(t, "replicate", "--forever", "-o", "json")
	p.streamsTo(t, cutover.Target)
	p.run(t, 0, "cutover", "--dry-run")
	for _, leg := range []struct {
		command string
		to      cutover.Side
	}{{"cutover", cutover.Target}, {"rollback", cutover.Source}, {"cutover", cutover.Target}} {
		p.streamsTo(t, leg.to)
		p.run(t, 0, leg.command, "--yes")
	}
	p.streamsTo(t, cutover.Source)
	p.run(t, 0, "finish", "--yes")
	eventually(t, "it knows that the move is finished", func() bool { return strings.Contains(r.out.String(), `{"event":"finished"}`) })
	if n := strings.Count(r.out.String(), `"reason":"yielded"`); n != 5 {
		t.Errorf("it handed the estate over %d times, want 5", n)
	}
	r.stop()
	r.wait(t).ends(t, 0)
}

// streamsTo waits until a process streams towards a side.
func (p *place) streamsTo(t *testing.T, to cutover.Side) {
	t.Helper()
	eventually(t, "it streams to the "+string(to), func() bool {
		s := p.begin(t, "status", "-o", "json").wait(t).object(t)
		replicate, runs := s["replicate"].(map[string]any)
		progress, heard := at(t, s, "databases", 0).(map[string]any)["progress"].(map[string]any)
		return runs && heard && replicate["to"] == string(to) && progress["phase"] == "stream"
	})
}
