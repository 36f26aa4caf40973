package web

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"dhow/superapp/service"
	"dhow/superapp/web/look"
)

const (
	// sessionIdle ends a session in which nothing was asked for so long.
	sessionIdle = 30 * time.Minute
	// sessionLife ends every session: a stolen one too.
	sessionLife = 12 * time.Hour
	// sessionKey and attemptKey begin the names of what is kept in Redis.
	sessionKey = "web:session:"
	attemptKey = "web:attempts:"
	// sessionCookie holds the session's id, languageCookie the chosen language.
	sessionCookie  = "sambuk_session"
	languageCookie = "sambuk_language"
	languageLife   = 365 * 24 * time.Hour

	// attemptWindow is the time in which attempts to sign in are counted: of one
	// email, so that a PIN is not guessed, and of one address, so that not one PIN
	// is tried with every email. Many customers may share an address.
	attemptWindow      = 15 * time.Minute
	attemptsPerEmail   = 10
	attemptsPerAddress = 200
)

// session is who is signed in.
type session struct {
	Customer int64     `json:"customer"`
	Name     string    `json:"name"`
	Began    time.Time `json:"began"`
	id       string
}

// csrf is the token that forms of this session carry. It follows from the id,
// which only the browser holds and no script can read.
func (s *session) csrf() string { return digest("csrf:" + s.id) }

// owns checks a form's token.
func (s *session) owns(token string) bool {
	return subtle.ConstantTimeCompare([]byte(token), []byte(s.csrf())) == 1
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// sessions keeps them in Redis. A key holds the hash of the id: who reads Redis
// can not sign in with what is there.
type sessions struct{ redis *redis.Client }

// begin signs in, under a new id.
func (s *sessions) begin(ctx context.Context, w http.ResponseWriter, r *http.Request, who session) error {
	var id [32]byte
	_, _ = rand.Read(id[:]) // it never fails: the program would end
	who.id, who.Began = hex.EncodeToString(id[:]), time.Now().UTC()
	text, err := json.Marshal(who)
	if err != nil {
		return fmt.Errorf("write a session: %w", err)
	}
	if err := s.redis.Set(ctx, sessionKey+digest(who.id), text, sessionIdle).Err(); err != nil {
		return service.Unavailable(fmt.Errorf("keep a session: %w", err))
	}
	setCookie(w, r, sessionCookie, who.id, sessionLife)
	return nil
}

// find is the session of a request, nil when there is none. It lives on from now.
func (s *sessions) find(r *http.Request) (*session, error) {
	cookies := r.CookiesNamed(sessionCookie)
	if len(cookies) == 0 {
		return nil, nil //nolint:nilnil // nobody is signed in, and that is no error
	}
	id := cookies[0].Value
	text, err := s.redis.GetEx(r.Context(), sessionKey+digest(id), sessionIdle).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil //nolint:nilnil // as above
	}
	if err != nil {
		return nil, service.Unavailable(fmt.Errorf("look for a session: %w", err))
	}
	found := &session{id: id}
	if err := json.Unmarshal(text, found); err != nil {
		return nil, fmt.Errorf("read a session: %w", err)
	}
	if time.Since(found.Began) > sessionLife {
		return nil, s.forget(r.Context(), found.id)
	}
	return found, nil
}

// end signs out.
func (s *sessions) end(w http.ResponseWriter, r *http.Request, who *session) error {
	setCookie(w, r, sessionCookie, "", -time.Second)
	return s.forget(r.Context(), who.id)
}

func (s *sessions) forget(ctx context.Context, id string) error {
	if err := s.redis.Del(ctx, sessionKey+digest(id)).Err(); err != nil {
		return service.Unavailable(fmt.Errorf("end a session: %w", err))
	}
	return nil
}

// attempt counts an attempt to sign in or up; false says that there were too many.
func (s *sessions) attempt(r *http.Request, email string) (bool, error) {
	ctx, byEmail, byAddress := r.Context(), emailAttempts(email), attemptKey+"address:"+digest(address(r))
	var emails, addresses *redis.IntCmd
	_, err := s.redis.TxPipelined(ctx, func(p redis.Pipeliner) error {
		emails, addresses = p.Incr(ctx, byEmail), p.Incr(ctx, byAddress)
		// NX: a window ends although attempts go on.
		p.ExpireNX(ctx, byEmail, attemptWindow)
		p.ExpireNX(ctx, byAddress, attemptWindow)
		return nil
	})
	if err != nil {
		return false, service.Unavailable(fmt.Errorf("count the attempts to sign in: %w", err))
	}
	return emails.Val() <= attemptsPerEmail && addresses.Val() <= attemptsPerAddress, nil
}

// succeeded forgets the attempts of an email whose PIN was right.
func (s *sessions) succeeded(ctx context.Context, email string) error {
	if err := s.redis.Del(ctx, emailAttempts(email)).Err(); err != nil {
		return service.Unavailable(fmt.Errorf("forget the attempts to sign in: %w", err))
	}
	return nil
}

func emailAttempts(email string) string { return attemptKey + "email:" + digest(normal(email)) }

// normal is how one email is written, whoever types it.
func normal(email string) string { return strings.ToLower(strings.TrimSpace(email)) }

// address is the client's, as the nearest proxy saw it. Without a proxy a client
// can pretend to be any; the attempts of one email are bounded all the same.
func address(r *http.Request) string {
	if chain := r.Header.Values("X-Forwarded-For"); len(chain) > 0 {
		last := chain[len(chain)-1]
		return strings.TrimSpace(last[strings.LastIndex(last, ",")+1:])
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func setCookie(w http.ResponseWriter, r *http.Request, name, value string, life time.Duration) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure where the connection is
		Name: name, Value: value, Path: "/app", MaxAge: int(life.Seconds()), HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: look.Secure(r),
	})
}
