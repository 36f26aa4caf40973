package inventory

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// masker replaces secrets and keeps what they were like. One is for one document; the
// key is for a whole reading, and thrown away with it.
type masker struct {
	key   []byte
	found []PlainSecret
}

func newMaskKey() []byte {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails
	return key
}

// add keeps that a secret stood in a field, its path such as data.PASSWORD.
func (m *masker) add(path, name string, what What, secret string) {
	h := hmac.New(sha256.New, m.key)
	h.Write([]byte(secret))
	m.found = append(m.found, PlainSecret{Path: path, Name: name, What: what, Same: hex.EncodeToString(h.Sum(nil)[:16])})
}

// object masks all secrets of an object in place.
func (m *masker) object(n *node, kind string) {
	if meta := n.get("metadata"); meta != nil {
		meta.remove("managedFields")
		m.lastApplied(meta, kind)
	}
	switch kind {
	case "Secret":
		m.secret(n)
	case "ConfigMap":
		for _, field := range []string{"data", "binaryData"} {
			data := n.get(field)
			if data == nil || data.form != mapping {
				continue
			}
			for i, k := range data.keys {
				if v := data.kids[i]; field == "binaryData" {
					data.kids[i] = &node{form: text, line: v.line} // nothing here reads it
				} else if v.form == text {
					v.text = m.setting(KeyPath(field, k), k, v.text)
				}
			}
		}
	}
	typed := kind != ""
	m.walk(n, "", "", typed, kind == "ConfigMap" || kind == "Secret")
}

// lastApplied removes the copy of the object that `kubectl apply` keeps in an annotation:
// it is the object's again, with all secrets.
func (m *masker) lastApplied(meta *node, kind string) {
	const last = "kubectl.kubernetes.io/last-applied-configuration"
	annotations := meta.get("annotations")
	v := annotations.get(last)
	if v == nil {
		return
	}
	if kind == "Secret" && (strings.Contains(v.text, `"data":{"`) || strings.Contains(v.text, `"stringData":{"`)) {
		m.add(KeyPath("metadata.annotations", last), "", SecretInHistory, v.text)
	}
	annotations.remove(last)
}

func (m *masker) secret(n *node) {
	for _, field := range []string{"data", "stringData"} {
		data := n.get(field)
		if data == nil || data.form != mapping {
			continue
		}
		for i, k := range data.keys {
			v := data.kids[i]
			if v.scalar() != "" && !reference(v.scalar()) {
				m.add(KeyPath(field, k), k, SecretInFile, v.scalar())
			}
			data.kids[i] = &node{form: text, line: v.line}
		}
	}
}

// walk masks what stands in an object beside the data of ConfigMaps and Secrets.
func (m *masker) walk(n *node, path, name string, typed, data bool) {
	switch n.form {
	case mapping:
		// A variable of an environment, wherever it stands.
		if v, k := n.get("value"), n.get("name"); v != nil && k.string() != "" && v.form == text {
			v.text = m.setting(path+".value", k.text, v.text)
		}
		for i, k := range n.keys {
			if path == "" && data && (k == "data" || k == "stringData" || k == "binaryData") {
				continue
			}
			kid := n.kids[i]
			if kid.form == text && (kid.text == "" || !suspicious(kid.text) && (typed || !secretWord(k))) {
				continue
			}
			if kid.form == null || kid.form == literal {
				continue
			}
			at := k
			if path != "" || strings.ContainsAny(k, `.[]"`) {
				at = strings.TrimPrefix(KeyPath(path, k), ".")
			}
			m.walk(kid, at, k, typed, data)
		}
	case sequence:
		if name == "args" || name == "command" {
			m.arguments(n, path)
			return
		}
		for i, kid := range n.kids {
			if kid.form != null && kid.form != literal {
				m.walk(kid, path+"["+strconv.Itoa(i)+"]", "", typed, data)
			}
		}
	case text:
		if !typed && bareSecretName(name) {
			n.text = m.setting(path, name, n.text)
			return
		}
		if suspicious(n.text) {
			n.text = m.text(path, name, n.text)
		}
	case null, literal:
	}
}

// bareSecretName is stricter than secretName: fields of unknown kinds often name a Secret.
func bareSecretName(name string) bool {
	switch strings.ToLower(name) {
	case "password", "passwd", "apikey", "api_key", "privatekey", "private_key", "secretkey", "secret_key", "accesskey", "clientsecret", "client_secret", "token":
		return true
	}
	return false
}

// arguments masks a program's: --password=x, --password x, and what stands in a script.
func (m *masker) arguments(n *node, path string) {
	expect := ""
	for i, kid := range n.kids {
		if kid.form != text {
			expect = ""
			continue
		}
		at := path + "[" + strconv.Itoa(i) + "]"
		if expect != "" && !strings.HasPrefix(kid.text, "-") {
			kid.text = m.setting(at, expect, kid.text)
			expect = ""
			continue
		}
		expect = ""
		name, value, has := strings.Cut(kid.text, "=")
		switch {
		case strings.ContainsAny(kid.text, " \n"):
			kid.text = m.file(at, kid.text)
		case has && strings.HasPrefix(name, "-"), has && !strings.Contains(name, "://"):
			kid.text = name + "=" + m.setting(at, name, value)
		case strings.HasPrefix(kid.text, "-"):
			expect = kid.text
		default:
			kid.text = m.text(at, "", kid.text)
		}
	}
}

// setting masks the value of a named setting.
func (m *masker) setting(path, name, value string) string {
	if value == "" {
		return value
	}
	if strings.ContainsRune(value, '\n') && strings.IndexByte(strings.TrimSpace(value), '\n') >= 0 {
		return m.file(path, value)
	}
	masked := m.text(path, name, value)
	if masked == value && secretName(name) && secretValue(value) {
		m.add(path, name, SecretByName, value)
		return Masked
	}
	if strings.ContainsAny(masked, "=:") {
		masked = m.named(path, masked)
	}
	return masked
}

// suspicious is a quick look whether a text may hold what masker.text masks.
func suspicious(s string) bool {
	if len(s) < 8 {
		return false
	}
	return strings.Contains(s, "://") || strings.Contains(s, "-----BEGIN") || strings.Contains(s, "@tcp(") || strings.Contains(s, "jdbc:") ||
		len(s) >= 20 && tokenStart(s) || strings.IndexByte(s, '=') >= 0
}

func tokenStart(s string) bool {
	for _, prefix := range tokenPrefixes() {
		if strings.Contains(s, prefix) {
			return true
		}
	}
	return false
}

// tokenPrefixes are how tokens of well-known issuers begin.
func tokenPrefixes() []string {
	return []string{"AKIA", "ASIA", "ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "xoxb-", "xoxp-", "sk_live_", "rk_live_", "AIzaSy", "eyJhbGciOi", "SG.", "npm_"}
}

var (
	tokenForm = regexp.MustCompile(`\b((?:AKIA|ASIA)[A-Z0-9]{16}|gh[pos]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,}|glpat-[A-Za-z0-9_-]{20,}|xox[bp]-[A-Za-z0-9-]{20,}|[sr]k_live_[A-Za-z0-9]{20,}|` +
		`AIzaSy[A-Za-z0-9_-]{33}|eyJhbGciOi[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{32,}|npm_[A-Za-z0-9]{36})`)
	privateKey = regexp.MustCompile(`(?s)-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)`)
)

// text masks passwords in connection strings, private keys and known tokens.
func (m *masker) text(path, name, s string) string {
	if len(s) < 8 {
		return s
	}
	var spans [][2]int
	for _, c := range connections(s) {
		spans = append(spans, c.secrets...)
	}
	slices.SortFunc(spans, func(a, b [2]int) int { return a[0] - b[0] })
	var kept [][2]int
	for _, at := range spans {
		if last := len(kept) - 1; last >= 0 && at[0] < kept[last][1] {
			kept[last][1] = max(kept[last][1], at[1])
			continue
		}
		kept = append(kept, at)
	}
	for _, at := range slices.Backward(kept) {
		if s[at[0]:at[1]] == Masked {
			continue
		}
		m.add(path, name, PasswordInURL, s[at[0]:at[1]])
		s = s[:at[0]] + Masked + s[at[1]:]
	}
	if strings.Contains(s, "PRIVATE KEY-----") {
		s = privateKey.ReplaceAllStringFunc(s, func(key string) string {
			m.add(path, name, KeyMaterial, key)
			return Masked + strings.Repeat("\n", strings.Count(key, "\n"))
		})
	}
	if len(s) >= 20 && tokenStart(s) {
		s = tokenForm.ReplaceAllStringFunc(s, func(token string) string {
			m.add(path, name, TokenByForm, token)
			return Masked
		})
	}
	return s
}

// named is a setting in a file: password = x, "password": "x", password: x, <password>x</password>.
var named = regexp.MustCompile(`(?im)((?:"|')?(?:[A-Za-z0-9_.-]*(?:passw(?:or)?d|secret|token|api[_-]?key|private[_-]?key|access[_-]?key|_key|\bpwd))(?:"|')?\s*[:=]>?[ \t]*)("[^"\n]+"|'[^'\n]+'|[^\s"',;}]+)`)

// file masks a text of several lines: what text masks, and settings named like secrets.
func (m *masker) file(path, s string) string {
	return m.named(path, m.text(path, "", s))
}

// named masks the settings within a text that are named like secrets.
func (m *masker) named(path, s string) string {
	if !secretWord(s) {
		return s
	}
	return named.ReplaceAllStringFunc(s, func(whole string) string {
		at := named.FindStringSubmatchIndex(whole)
		name, value := strings.Trim(whole[at[2]:at[3]], "\"' \t:=>"), whole[at[4]:at[5]]
		bare := strings.Trim(value, `"'`)
		if !secretName(name) || !secretValue(bare) {
			return whole
		}
		m.add(path, name, SecretByName, bare)
		return whole[at[2]:at[3]] + strings.Replace(value, bare, Masked, 1)
	})
}

// secretWord is a quick look for words that secrets are named by.
func secretWord(s string) bool {
	for i := 0; i+2 < len(s); i++ {
		switch s[i] | 0x20 {
		case 'p':
			if foldPrefix(s[i:], "pass") || foldPrefix(s[i:], "pwd") || foldPrefix(s[i:], "private") {
				return true
			}
		case 's':
			if foldPrefix(s[i:], "secret") {
				return true
			}
		case 't':
			if foldPrefix(s[i:], "token") {
				return true
			}
		case 'k':
			if foldPrefix(s[i:], "key") {
				return true
			}
		case 'c':
			if foldPrefix(s[i:], "credential") {
				return true
			}
		}
	}
	return false
}

func foldPrefix(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

var (
	// secretNames are words that a secret's name ends in, or nearly so.
	secretNames = regexp.MustCompile(`(?i)(passw(or)?d|passphrase|passwd|(^|[_.-])pwd|secret|token|credentials?|(api|private|access|secret|encryption|signing|session|master|auth|account|shared)[_.-]?key|[_.-]key)([_.-]?(value|string|[0-9]+|base|seed|raw))?$`)
	// notSecret are names that speak of a secret without being one.
	notSecret = regexp.MustCompile(`(?i)((public|foreign|primary|partition|sort|cache|routing|message|host|dedup\w*|idempotency|row|object|bucket|registry)[_.-]?key|(file|path|dir|name|ref|url|uri|id|ttl|expiry|expiration|type|length|header|algorithm|enabled|issuer|endpoint|max_?tokens?|tokens)$)`)
)

// secretName says that a setting is named like a secret.
func secretName(name string) bool {
	name = strings.Trim(name, `-"' `)
	return secretWord(name) && secretNames.MatchString(name) && !notSecret.MatchString(name)
}

// secretValue says that a value can be a secret, and not a reference, a switch, a number of
// seconds, a path or an address.
func secretValue(v string) bool {
	v = strings.TrimSpace(v)
	if len(v) < 3 || reference(v) {
		return false
	}
	switch strings.ToLower(v) {
	case "true", "false", "yes", "none", "null", "nil", "disabled", "enabled", "optional", "required", "default":
		return false
	}
	if strings.HasPrefix(v, "/") && !strings.HasSuffix(v, "=") && strings.Count(v, "/") > 1 || strings.Contains(v, "://") || strings.HasPrefix(v, "./") ||
		strings.Contains(v, "$(") || strings.Contains(v, "${") || strings.Contains(v, "{{") {
		return false
	}
	return strings.ContainsFunc(v, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) })
}

// shorten cuts a text for an error or as evidence, at a rune's end.
func shorten(s string, bytes int) string {
	if len(s) <= bytes {
		return s
	}
	for bytes > 0 && s[bytes]&0xc0 == 0x80 {
		bytes--
	}
	return s[:bytes] + "..."
}
