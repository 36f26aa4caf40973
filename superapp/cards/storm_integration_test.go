package cards_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"dhow/superapp/cards"
	"dhow/superapp/service"
	"dhow/superapp/servicetest"
)

// The variables that make this binary a service of its own, to be killed.
const childVariable, childListen, childFile, childBank = "CARDS_TEST_CHILD", "CARDS_TEST_LISTEN", "CARDS_TEST_FILE", "CARDS_TEST_BANK"

// child is what the binary does as a service.
func child(what string) {
	o := service.Options{Listen: os.Getenv(childListen), AddressFile: os.Getenv(childFile), Instance: what, Pool: 16, LogLevel: "error"}
	var err error
	switch what {
	case "accounts":
		err = runAccounts(context.Background(), o)
	case cards.Name:
		var u *url.URL
		if u, err = url.Parse(os.Getenv(childBank)); err == nil {
			err = cards.Run(context.Background(), o, u, nil)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// process is a service that can be killed and started again at the same address.
type process struct {
	t       *testing.T
	name    string
	env     []string
	address string
	cmd     *exec.Cmd
}

func (p *process) start() {
	p.t.Helper()
	file := filepath.Join(p.t.TempDir(), "address")
	listen := p.address
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), append(p.env, childVariable+"="+p.name, childListen+"="+listen, childFile+"="+file)...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	servicetest.Await(p.t, p.name, func() bool {
		address, err := service.ReadAddress(file)
		p.address = address
		return err == nil
	})
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// shopper buys with its own card until the storm is over, and asks again under the
// same key until there is an outcome.
type shopper struct {
	*town
	url  string
	n    int
	card int64
	http *http.Client
}

// insist sends a request until it is answered for good.
func (s *shopper) insist(what, key, body string) servicetest.Reply {
	var a servicetest.Reply
	servicetest.Await(s.t, "an answer to "+what, func() bool {
		a = s.ask(what, key, body)
		return a.Err == nil && a.Status != http.StatusServiceUnavailable
	})
	return a
}

// shop is one purchase and what becomes of it.
func (s *shopper) shop(i int) error {
	key := fmt.Sprintf("storm-%d-%d", s.n, i)
	a := s.insist(fmt.Sprintf("POST /cards/%d/authorisations", s.card), key, `{"amount":100,"currency":"AED","merchant":"m","category":"c"}`)
	if a.Status != http.StatusCreated {
		return fmt.Errorf("%s: %d %s", key, a.Status, a.Text)
	}
	path := fmt.Sprintf("POST /authorisations/%d/", a.ID)
	if i%3 == 0 {
		a = s.insist(path+"reverse", key+"-r", "")
	} else {
		a = s.insist(path+"capture", key+"-c", fmt.Sprintf(`{"amount":%d}`, 100-i%2*40))
	}
	if a.Status == http.StatusOK && i%3 == 1 {
		a = s.insist(path+"refund", key+"-b", `{"amount":20}`)
	}
	if a.Status != http.StatusOK {
		return fmt.Errorf("%s: %d %s", key, a.Status, a.Text)
	}
	return nil
}

// ask sends one request to the service that is killed.
func (s *shopper) ask(what, key, body string) servicetest.Reply {
	method, path, _ := strings.Cut(what, " ")
	r, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		return servicetest.Reply{Err: err}
	}
	r.Header.Set("Idempotency-Key", key)
	res, err := s.http.Do(r)
	if err != nil {
		return servicetest.Reply{Err: err}
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return servicetest.Reply{Err: err}
	}
	a := servicetest.Reply{Status: res.StatusCode, Text: string(text)}
	a.Err = json.Unmarshal(text, &a)
	return a
}

// In a storm of purchases each of the services and the database is killed, and
// started again. No answer is lost, nothing is moved twice.
func storm(p *town) {
	const shoppers, rounds = 8, 2
	bank := &process{t: p.t, name: "accounts", env: []string{"DATABASE_URL=" + p.bankURL}}
	bank.start()
	p.t.Cleanup(bank.kill)
	desk := &process{t: p.t, name: cards.Name, env: []string{childBank + "=http://" + bank.address}}
	desk.start()
	p.t.Cleanup(desk.kill)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: shoppers}, Timeout: servicetest.Patience}
	p.t.Cleanup(client.CloseIdleConnections)
	before := p.number("SELECT count(*) FROM authorisations")
	over := make(chan struct{})
	failed := make(chan error, shoppers)
	done := make([]int, shoppers)
	var all sync.WaitGroup
	for n := range shoppers {
		card, _ := p.card(1_000_000)
		p.limit(card, 100, 1_000_000)
		s := &shopper{town: p, url: "http://" + desk.address, n: n, card: card, http: client}
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-over:
					return
				default:
				}
				if err := s.shop(i); err != nil {
					failed <- err
					return
				}
				done[n]++
			}
		})
	}
	progress := func() {
		from := p.number("SELECT count(*) FROM authorisations")
		servicetest.Await(p.t, "purchases", func() bool { return p.number("SELECT count(*) FROM authorisations") >= from+3*shoppers })
	}
	for range rounds {
		progress()
		bank.kill()
		bank.start()
		progress()
		desk.kill()
		desk.start()
		progress()
		p.mariadb.Kill()
		if err := p.mariadb.Restart(p.t.Context()); err != nil {
			p.t.Error(err)
		}
	}
	progress()
	close(over)
	all.Wait()
	select {
	case err := <-failed:
		p.t.Fatal(err)
	default:
	}
	// The rest of a partial capture may still be on its way; the next run ends it.
	desk.kill()
	desk.start()
	servicetest.Await(p.t, "the settler", func() bool { return p.number("SELECT count(*) FROM ledger_outbox") == 0 })
	want := 0
	for _, n := range done {
		want += n
	}
	if n := p.number("SELECT count(*) FROM authorisations") - before; n != int64(want) {
		p.t.Errorf("%d purchases were answered, and there are %d", want, n)
	}
	p.t.Logf("%d purchases through %d kills", want, 3*rounds)
}
