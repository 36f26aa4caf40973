package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"dhow/internal/operator/apitest"
	"dhow/internal/process"
)

const (
	// stopTime bounds the end of the operator, askTime one question for its metrics.
	stopTime, askTime = 30 * time.Second, 10 * time.Second
	// controllerName is that of the controller of Exposures in its metrics.
	controllerName = "exposure"
)

// life is one run of the operator's process.
type life struct {
	process *process.Process
	metrics *process.Port
}

// startOperator starts the operator and returns when its controllers work.
func (b *bench) startOperator(ctx context.Context) error {
	kubeconfig, err := b.plane.Kubeconfig(apitest.Operator, "")
	if err != nil {
		return err
	}
	file := filepath.Join(b.dir, "policy.yaml")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		return fmt.Errorf("write the operator's policy: %w", err)
	}
	l := &life{}
	if l.metrics, err = process.ReservePort(); err != nil {
		return err
	}
	b.lives++
	cmd := exec.Command(b.dhow, "operator", "--kubeconfig", kubeconfig, "--policy", file, "--metrics", l.metrics.On("127.0.0.1"), "-v") //nolint:noctx // it lives until endOperator
	if l.process, err = process.Start(cmd, process.Options{Name: "the operator", Log: filepath.Join(b.dir, fmt.Sprintf("operator-%d.log", b.lives)), DeathSignal: syscall.SIGKILL}); err != nil {
		l.metrics.Release()
		return err
	}
	b.life = l
	return b.wait(ctx, "the operator to start", func() (string, error) {
		workers, err := l.metric(ctx, "controller_runtime_max_concurrent_reconciles", "controller")
		if err != nil || workers == 0 {
			return fmt.Sprintf("it does not work yet (%v)", err), nil // it does not listen yet
		}
		return "", nil
	})
}

// ended is how the operator's process ended, with its last words.
func (l *life) ended() error {
	if err := l.process.Err(); err != nil {
		return err
	}
	return fmt.Errorf("with code 0: %s", l.process.LogTail())
}

// endOperator ends the operator, after it has noted how much memory it took.
func (b *bench) endOperator() error {
	l := b.life
	b.peak = max(b.peak, l.peakMiB())
	b.life = nil
	defer l.metrics.Release()
	if err := l.process.StopWithin(stopTime, syscall.SIGTERM); err != nil {
		return err
	}
	return l.process.Err()
}

// peakMiB is the most memory that the process ever had, as the kernel counts it.
func (l *life) peakMiB() float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.process.Pid()))
	if err != nil {
		return 0 // no Linux: the report shows zero
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64) // the kernel wrote it
			return kib / 1024
		}
	}
	return 0
}

// looked is how many looks the controller of Exposures has taken.
func (l *life) looked(ctx context.Context) (int, error) {
	n, err := l.metric(ctx, "controller_runtime_reconcile_total", "controller")
	return int(n), err
}

// busy says that the controller of Exposures has something to do.
func (l *life) busy(ctx context.Context) (bool, error) {
	waiting, err := l.metric(ctx, "workqueue_depth", "name")
	if err != nil {
		return false, err
	}
	working, err := l.metric(ctx, "controller_runtime_active_workers", "controller")
	return waiting+working > 0, err
}

// metric is the sum of a metric's series that have the controller's name in a label.
func (l *life) metric(ctx context.Context, name, label string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.metrics.On("127.0.0.1")+"/metrics", nil)
	if err != nil {
		return 0, fmt.Errorf("ask for the operator's metrics: %w", err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("ask for the operator's metrics: %w", err)
	}
	defer answer.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(answer.Body)
	if err != nil {
		return 0, fmt.Errorf("read the operator's metrics: %w", err)
	}
	sum := 0.0
	for _, m := range families[name].GetMetric() {
		for _, pair := range m.GetLabel() {
			if pair.GetName() == label && pair.GetValue() == controllerName {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum, nil
}

// serverVersion asks the API server for its version.
func serverVersion(conf *rest.Config) (string, error) {
	d, err := discovery.NewDiscoveryClientForConfig(conf)
	if err != nil {
		return "", fmt.Errorf("reach the API server: %w", err)
	}
	v, err := d.ServerVersion()
	if err != nil {
		return "", fmt.Errorf("ask the API server for its version: %w", err)
	}
	return v.GitVersion, nil
}
