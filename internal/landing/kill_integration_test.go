package landing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/dlclark/regexp2"
	"go.uber.org/goleak"

	"dhow/internal/estate"
	"dhow/internal/region"
)

// deployTo names the environment variable that makes this binary a deployer to that
// address, for the tests that kill one.
const deployTo = "DHOW_TEST_DEPLOY_TO"

func TestMain(m *testing.M) {
	if url := os.Getenv(deployTo); url != "" {
		if err := deployAlone(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if !testing.Short() {
		if s, err := schemas(); err == nil {
			_ = s.Close() // it is only read
		}
	}
	if code == 0 {
		// The SDK's cache of credentials goes on asking for a role when whoever wanted it was cut off.
		regexp2.StopTimeoutClock() // it would end by itself, a moment later
		if err := goleak.Find(goleak.IgnoreAnyFunction("github.com/aws/aws-sdk-go-v2/credentials/stscreds.(*AssumeRoleProvider).Retrieve")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// deployAlone deploys the tests' landing zone, and is all that a process does.
func deployAlone(url string) error {
	e, err := estate.Load("testdata/small.yaml")
	if err != nil {
		return err
	}
	library, err := Read("testdata/stacks", nil)
	if err != nil {
		return err
	}
	regions, err := region.Load()
	if err != nil {
		return err
	}
	g, err := New(Options{Estate: e, Library: library, Regions: regions})
	if err != nil {
		return err
	}
	config := aws.Config{Region: "me-central-1", BaseEndpoint: aws.String(url), Credentials: credentials.NewStaticCredentialsProvider(testKey, testSecret, "")}
	_, err = NewDeployer(DeployerOptions{Graph: g, AWS: config, ExternalID: testID, Poll: testPoll}).Apply(context.Background(), g.Stacks)
	return err
}

// TestKilled kills deployers at random moments, with SIGKILL, until one comes to its
// end: then everything stands, once, and nothing is left to do.
func TestKilled(t *testing.T) {
	const (
		kills = 12
		// speed lets a database take a third of a second, so that a deployer that is
		// killed within a second leaves work in all states.
		speed = 3000
	)
	s := newStage(t, speed, accountsOf("me-central-1"))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	start := func() (*exec.Cmd, *bytes.Buffer) {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), deployTo+"="+s.url)
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, &said
	}
	killed := 0
	for range kills {
		cmd, said := start()
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("%v: %s", err, said)
			}
		case <-time.After(time.Duration(100+rand.IntN(600)) * time.Millisecond):
			if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Fatal(err)
			}
			<-ended
			killed++
		}
	}
	t.Logf("%d of %d were killed", killed, kills)
	if cmd, said := start(); cmd.Wait() != nil {
		t.Fatalf("the last one fails: %s", said)
	}
	g := graphOf(t)
	s.stands(t, g)
	for _, r := range s.deploy(t, g) {
		if r.Executed {
			t.Errorf("%s was not done", r.Stack)
		}
	}
}

// cutter lets requests through up to one, with which the process is as good as dead:
// before it is sent, or before its answer is read.
type cutter struct {
	next   http.RoundTripper
	left   atomic.Int64
	answer bool
	kill   context.CancelFunc
}

func (c *cutter) RoundTrip(r *http.Request) (*http.Response, error) {
	n := c.left.Add(-1)
	if n > 0 || n == 0 && c.answer {
		response, err := c.next.RoundTrip(r)
		if n > 0 {
			return response, err
		}
		if err == nil {
			_ = response.Body.Close() // nobody reads it
		}
	}
	c.kill()
	return nil, context.Canceled
}

// TestCut cuts a deployment off at each of its calls in turn, before it and behind it,
// and lets another one bring it to its end.
func TestCut(t *testing.T) {
	g := graphOf(t)
	meant, err := g.Select(Selection{Only: []string{"dev/keys", "dev/network", "dev/postgresql"}})
	if err != nil {
		t.Fatal(err)
	}
	over := false
	for calls := int64(1); !over; calls++ {
		for _, answer := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d-%t", calls, answer), func(t *testing.T) { over = cutAt(t, g, meant, calls, answer) || over })
		}
	}
}

// cutAt cuts a deployment off at a call, lets another one bring it to its end, and says
// whether the first had come there by itself.
func cutAt(t *testing.T, g *Graph, meant []*Stack, calls int64, answer bool) bool {
	s := newStage(t, math.Inf(1), accountsOf("me-central-1"))
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	whole := s.aws.HTTPClient.(*http.Client)
	cut := &cutter{next: whole.Transport, answer: answer, kill: kill}
	cut.left.Store(calls)
	s.aws.HTTPClient = &http.Client{Transport: cut}
	_, interrupted := s.deployer(t, g, func(o *DeployerOptions) { o.Parallel = 1 }).Apply(ctx, meant)
	s.aws.HTTPClient = whole
	if _, err := s.deployer(t, g).Apply(t.Context(), meant); err != nil {
		t.Fatal(err)
	}
	again, err := s.deployer(t, g).Apply(t.Context(), meant)
	if err != nil || slices.ContainsFunc(again, func(r Result) bool { return r.Executed }) {
		t.Fatalf("the third run finds %v, %v", outcomesOf(again), err)
	}
	have := 0
	for _, stack := range meant {
		have += len(stack.resources())
	}
	if n := len(s.double.Resources()); n != have {
		t.Fatalf("there are %d resources, want %d", n, have)
	}
	return interrupted == nil
}

// TestRehearse: a rehearsal tells when which stack is worked on, and what it waits for.
func TestRehearse(t *testing.T) {
	if testing.Short() {
		t.Skip("AWS's resource schemas are read and many stacks deployed: left out under testing.Short")
	}
	const speed = 2000
	g := graphOf(t)
	r, err := Rehearse(t.Context(), g.Stacks, RehearsalOptions{Graph: g, Regions: catalog(t), Speed: speed})
	if err != nil {
		t.Fatal(err)
	}
	if err := Err(r.Results); err != nil || Failed(r.Findings) {
		t.Fatalf("it finds %+v, %v", r.Findings, err)
	}
	if len(r.Timeline.Spans) != len(g.Stacks) || len(r.Timeline.Critical) < 2 || r.Timeline.CriticalTook <= 0 || r.Timeline.Ratio() < 1 {
		t.Errorf("the timeline is %+v", r.Timeline)
	}
	// What the double refuses is told as what would fail.
	broken := small(t)
	wrong, err := Parse("cluster", bytes.Replace(broken["cluster"].Body, []byte("ClusterName: !Sub"), []byte("ClusterNaem: !Sub"), 1))
	if err != nil {
		t.Fatal(err)
	}
	broken["cluster"] = wrong
	if g, err = New(Options{Estate: estateOf(t), Library: broken, Regions: catalog(t)}); err != nil {
		t.Fatal(err)
	}
	if r, err = Rehearse(t.Context(), g.Stacks, RehearsalOptions{Graph: g, Regions: catalog(t), Speed: speed}); err != nil {
		t.Fatal(err)
	}
	if by := outcomesOf(r.Results); len(by[OutcomeFailed]) != 4 || Err(r.Results) == nil {
		t.Errorf("a misspelt property: %v", by)
	}
}
