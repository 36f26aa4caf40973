package double

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Account is an AWS account.
type Account struct {
	// ID has 12 digits.
	ID string `json:"id"`
	// Keys are long-lived credentials of its users.
	Keys []Key `json:"keys,omitempty"`
	// Roles can be assumed by those that they trust.
	Roles []Role `json:"roles,omitempty"`
	// Regions are those that were opted in; the ones that need no opt-in are always there.
	Regions []string `json:"regions,omitempty"`
	// Existing are ids of things that no stack of the double made, such as an image or a
	// VPC, which a parameter may name.
	Existing []string `json:"existing,omitempty"`
	// Parameters are those of Systems Manager, by region and name.
	Parameters map[string]map[string]string `json:"parameters,omitempty"`
	// Quotas are values of Service Quotas by service and quota code, such as vpc/L-F678F1CE.
	Quotas map[string]float64 `json:"quotas,omitempty"`
}

// Key is an access key and its secret.
type Key struct {
	ID     string `json:"id"`
	Secret string `json:"secret"`
	// User is whose it is; empty: the account's root.
	User string `json:"user,omitempty"`
	// Denies are actions that are refused, such as cloudformation:* or sts:AssumeRole.
	Denies []string `json:"denies,omitempty"`
}

// Role is a role that can be assumed.
type Role struct {
	Name string `json:"name"`
	// ExternalID must be told by whoever assumes it; empty: none is wanted.
	ExternalID string `json:"external_id,omitempty"`
	// Trusts are accounts or ARNs of who may assume it; none: everybody.
	Trusts []string `json:"trusts,omitempty"`
	// Denies are actions that are refused to it.
	Denies []string `json:"denies,omitempty"`
}

// accounts are all accounts, and who holds credentials of them.
type accounts struct {
	byID       map[string]*Account
	identities map[string]*identity // by access key
}

// identity is somebody who signs requests.
type identity struct {
	account, arn, userID string
	secret, token        string
	expires              time.Time // zero: never
	denies               []string
}

const (
	// sessionTime is how long an assumed role lasts where nothing is said, and its bounds.
	sessionTime    = time.Hour
	minSessionTime = 15 * time.Minute
	maxSessionTime = 12 * time.Hour
)

var (
	accountID  = regexp.MustCompile(`^\d{12}$`)
	entityName = regexp.MustCompile(`^[\w+=,.@-]{1,64}$`)
)

func newAccounts(list []Account) (*accounts, error) {
	a := &accounts{byID: map[string]*Account{}, identities: map[string]*identity{}}
	for i := range list {
		if err := a.add(list[i]); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// add adds an account, or replaces the one of its id.
func (a *accounts) add(account Account) error {
	if !accountID.MatchString(account.ID) {
		return fmt.Errorf("an account's id is %q: want 12 digits", account.ID)
	}
	for _, r := range account.Roles {
		if name := r.Name[strings.LastIndexByte(r.Name, '/')+1:]; !entityName.MatchString(name) {
			return fmt.Errorf("account %s: a role is named %q: want letters, digits and +=,.@-", account.ID, r.Name)
		}
	}
	for _, k := range account.Keys {
		if k.ID == "" || k.Secret == "" {
			return fmt.Errorf("account %s: a key lacks its id or secret", account.ID)
		}
		if other := a.identities[k.ID]; other != nil && other.account != account.ID {
			return fmt.Errorf("the access key %s is of two accounts, %s and %s", k.ID, other.account, account.ID)
		}
	}
	for id, who := range a.identities {
		if who.account == account.ID && who.token == "" {
			delete(a.identities, id)
		}
	}
	for _, k := range account.Keys {
		who := &identity{account: account.ID, arn: "arn:aws:iam::" + account.ID + ":root", userID: account.ID, secret: k.Secret, denies: k.Denies}
		if k.User != "" {
			who.arn, who.userID = "arn:aws:iam::"+account.ID+":user/"+k.User, "AIDA"+strings.ToUpper(hashed(account.ID, k.User)[:17])
		}
		a.identities[k.ID] = who
	}
	a.byID[account.ID] = &account
	return nil
}

func (a *accounts) role(account, name string) *Role {
	acc := a.byID[account]
	if acc == nil {
		return nil
	}
	for i := range acc.Roles {
		if strings.TrimPrefix(acc.Roles[i].Name, "/") == name {
			return &acc.Roles[i]
		}
	}
	return nil
}

// parameter is the value of a parameter of Systems Manager. Those that AWS publishes
// are there in every region; the value of one that names an image is an image's id.
func (a *accounts) parameter(at place, name string) (string, bool) {
	if acc := a.byID[at.account]; acc != nil {
		if v, ok := acc.Parameters[at.region][name]; ok {
			return v, true
		}
	}
	if strings.HasPrefix(name, "/aws/service/") && strings.Contains(name, "ami") {
		return "ami-" + hashed(at.region, name)[:17], true
	}
	return "", false
}

var errNoRole = errors.New("no such role")

// assume gives credentials of a role.
func (a *accounts) assume(by *identity, account, name, session, externalID string, expires time.Time) (key string, who *identity, err error) {
	r := a.role(account, name)
	if r == nil || r.ExternalID != externalID && r.ExternalID != "" || denied(by.denies, "sts:AssumeRole") {
		return "", nil, errNoRole
	}
	if len(r.Trusts) > 0 && !slices.ContainsFunc(r.Trusts, func(t string) bool {
		return t == by.account || t == by.arn || t == "arn:aws:iam::"+by.account+":root"
	}) {
		return "", nil, errNoRole
	}
	base := r.Name[strings.LastIndexByte(r.Name, '/')+1:]
	id := "AROA" + strings.ToUpper(hashed(account, r.Name)[:17])
	who = &identity{account: account, arn: fmt.Sprintf("arn:aws:sts::%s:assumed-role/%s/%s", account, base, session), userID: id + ":" + session,
		secret: secretText(30), token: secretText(120), expires: expires, denies: r.Denies}
	key = "ASIA" + strings.ToUpper(hashed(secretText(12))[:16])
	a.identities[key] = who
	return key, who, nil
}

// forget drops sessions that have ended.
func (a *accounts) forget(now time.Time) {
	for key, who := range a.identities {
		if !who.expires.IsZero() && now.Sub(who.expires) > maxSessionTime {
			delete(a.identities, key)
		}
	}
}

func secretText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it does not fail
	return base64.StdEncoding.EncodeToString(b)
}

// denied says whether an action is among those that are refused.
func denied(denies []string, action string) bool {
	return slices.ContainsFunc(denies, func(d string) bool {
		prefix, many := strings.CutSuffix(strings.ToLower(d), "*")
		low := strings.ToLower(action)
		return low == prefix || many && strings.HasPrefix(low, prefix)
	})
}

// openAccount lets an account be used that a stack has made: by the role that Organizations
// puts into it, for the account that made it.
func (d *Double) openAccount(r *resource) {
	if r.kind != "AWS::Organizations::Account" || d.accounts.byID[r.physical] != nil {
		return
	}
	role := text(r.properties["RoleName"])
	if role == "" {
		role = "OrganizationAccountAccessRole"
	}
	if err := d.accounts.add(Account{ID: r.physical, Roles: []Role{{Name: role, Trusts: []string{r.at.account}}}}); err != nil {
		d.log.Error("an account that a stack made can not be used", "account", r.physical, "err", err)
	}
}
