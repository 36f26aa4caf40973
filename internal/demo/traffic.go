package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"dhow/internal/estate"
	"dhow/superapp/check"
	"dhow/superapp/fleet"
	"dhow/superapp/traffic"
)

// StartTraffic starts the clients; they run until StopTraffic.
func (s *Stage) StartTraffic(rate, connections int, seed uint64) error {
	cmd := exec.Command(s.cfg.Superapp, "traffic", "--url", "http://"+s.Gate, "--rate", strconv.Itoa(rate), "--connections", strconv.Itoa(connections), //nolint:noctx // it lives until StopTraffic
		"--duration", "0", "--accounts", strconv.Itoa(s.cfg.Accounts), "--seed", strconv.FormatUint(seed, 10), "--history", s.History(), "-o", "json")
	if !s.cfg.Whole { // what is not on the stage can not be asked
		shares := traffic.LedgerShares()
		for _, one := range []struct {
			of    string
			share float64
		}{
			{"pay", shares.Pay}, {"transfer", shares.Transfer}, {"request", shares.Request}, {"read", shares.Read}, {"statement", shares.Statement},
			{"split", 0}, {"send", 0}, {"card", 0}, {"insights", 0}, {"rates", 0}, {"corridor", 0},
		} {
			cmd.Args = append(cmd.Args, "--"+one.of+"-share", strconv.FormatFloat(one.share, 'g', -1, 64))
		}
	}
	summary, err := os.OpenFile(s.summary(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("create the traffic's summary: %w", err)
	}
	defer summary.Close() // the child has its own
	cmd.Stdout = summary
	_, err = s.start("traffic", cmd)
	return err
}

// History is the file that the traffic writes, one line an operation.
func (s *Stage) History() string { return filepath.Join(s.Dir, "history.jsonl") }

func (s *Stage) summary() string { return filepath.Join(s.Dir, "traffic.json") }

// StopTraffic lets the operations in flight end and returns what the clients saw.
func (s *Stage) StopTraffic() (traffic.Summary, error) {
	var sum traffic.Summary
	p := s.running["traffic"]
	if p == nil {
		return sum, errors.New("no traffic runs")
	}
	if err := p.StopWithin(2*processStop, syscall.SIGTERM); err != nil {
		return sum, err
	}
	delete(s.running, "traffic")
	if err := p.Err(); err != nil {
		return sum, err
	}
	text, err := os.ReadFile(s.summary())
	if err != nil {
		return sum, fmt.Errorf("read the traffic's summary: %w", err)
	}
	if err := json.Unmarshal(text, &sum); err != nil {
		return sum, fmt.Errorf("read the traffic's summary: %w", err)
	}
	return sum, nil
}

// TrafficDone is closed when the clients have ended by themselves, which they should not.
func (s *Stage) TrafficDone() <-chan struct{} { return s.running["traffic"].Done() }

// Check judges the history against the ledger of the side that serves, and
// audits that the two sides took turns: the serving side changed at most switches times.
func (s *Stage) Check(ctx context.Context, serving estate.Side, switches int) (check.Report, error) {
	env := s.Stores(serving).Checking(s.services())
	for _, db := range s.databases() {
		for _, side := range sides {
			env = append(env, fmt.Sprintf("%s_%s_URL=%s", upper(db), upper(string(side)), s.URL(db, side)))
		}
	}
	var report check.Report
	out, err := fleet.Run(ctx, s.cfg.Superapp, env, "check", "--history", s.History(), "--switches", strconv.Itoa(switches), "-o", "json")
	if len(out) == 0 && err != nil {
		return report, err
	}
	// A check that found something exits with 1 and still prints what.
	if jerr := json.Unmarshal(out, &report); jerr != nil {
		return report, errors.Join(fmt.Errorf("read the checker's report: %w", jerr), err)
	}
	return report, nil
}

func upper(s string) string { return string(bytes.ToUpper([]byte(s))) }
