package redis

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestParseACL(t *testing.T) {
	users, err := parseACL([]string{
		"user default on nopass ~* &* +@all",
		"user app on #2d71 ~a:* %R~b:* resetchannels &ch* -@all +@read +config|get (~z:* resetchannels -@all +set) (%R~q:* resetchannels +@all -del)",
	})
	must(t, err)
	text := func(args []any) string { return strings.TrimSuffix(fmt.Sprintln(args...), "\n") }
	for i, want := range []struct{ name, rules, closing string }{
		{"default", "-@all +@all", "-@write"},
		{
			"app", "-@all -@all +@read +config|get clearselectors (~z:* resetchannels -@all +set) (%R~q:* resetchannels +@all -del)",
			"-@write clearselectors (~z:* resetchannels -@all +set -@write) (%R~q:* resetchannels +@all -del -@write)",
		},
	} {
		u := users[i]
		if u.name != want.name || text(u.rules()) != want.rules || text(u.closing()) != want.closing {
			t.Errorf("user %s: %s / %s", u.name, text(u.rules()), text(u.closing()))
		}
	}
	for _, odd := range []string{"", "user", "usr a on", "user a on (~x +get"} {
		if _, err := parseACL([]string{odd}); err == nil {
			t.Errorf("%q was read", odd)
		}
	}
}

// answered is an error that a server answers.
type answered string

func (a answered) Error() string { return string(a) }
func (answered) RedisError()     {}

func TestConnectErrorsTellWhatToDo(t *testing.T) {
	o := &redis.Options{Addr: "redis.example:6379", Username: "mover", Password: "very secret"}
	for text, want := range map[string]string{
		"WRONGPASS invalid username-password pair or user is disabled.": "databases[].source.user",
		"NOAUTH Authentication required.":                               "databases[].source.password",
		"DENIED Redis is running in protected mode":                     "requirepass",
		"ERR max number of clients reached":                             "maxclients",
		"LOADING Redis is loading the dataset in memory":                "wait until it is up",
	} {
		err := explainConnect(t.Context(), o, source, answered(text))
		if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "connect to the source, redis.example:6379 as mover") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", text, err)
		}
		if !errors.Is(err, answered(text)) {
			t.Errorf("%s: the cause is lost", text)
		}
	}
	if !refusal(answered("EXECABORT Transaction discarded because of previous errors.")) || !refusal(answered("NOPERM this user")) || refusal(answered("ERR syntax error")) || refusal(errors.New("NOPERM")) {
		t.Error("a refusal is taken for something else, or something else for one")
	}
}
