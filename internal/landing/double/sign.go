package double

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

var authorization = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^/,\s]+)/(\d{8})/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$`)

// signed is who signed a request, for which region and service.
type signed struct {
	who             *identity
	region, service string
}

// authenticate finds out who signed a request, and whether they did. The lock is held.
func (d *Double) authenticate(r *http.Request, body []byte) (*signed, error) {
	m := authorization.FindStringSubmatch(r.Header.Get("Authorization"))
	if m == nil {
		return nil, faultf(403, "MissingAuthenticationToken", "Request is missing Authentication Token")
	}
	key, region, service, headers, signature := m[1], m[3], m[4], strings.Split(m[5], ";"), m[6]
	s := &signed{region: region, service: service}
	who := d.accounts.identities[key]
	if who == nil || who.token != r.Header.Get("X-Amz-Security-Token") {
		return s, faultf(403, "InvalidClientTokenId", "The security token included in the request is invalid.")
	}
	if !who.expires.IsZero() && time.Now().After(who.expires) {
		return s, faultf(403, "ExpiredToken", "The security token included in the request is expired")
	}
	s.who = who
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		return s, faultf(400, "IncompleteSignature", "Date must be in ISO-8601 'basic format'.")
	}
	again, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+r.Host+r.URL.RequestURI(), nil)
	if err != nil {
		return s, invalid("the request's address is none: %v", err)
	}
	for _, h := range headers {
		if h == "content-length" {
			again.ContentLength = r.ContentLength
			continue
		}
		if v := r.Header.Values(h); len(v) > 0 && h != "x-amz-date" && h != "x-amz-security-token" {
			again.Header[http.CanonicalHeaderKey(h)] = v
		}
	}
	sum := sha256.Sum256(body)
	creds := aws.Credentials{AccessKeyID: key, SecretAccessKey: who.secret, SessionToken: who.token}
	if err := v4.NewSigner().SignHTTP(r.Context(), creds, again, hex.EncodeToString(sum[:]), service, region, at); err != nil {
		return s, faultf(500, "InternalFailure", "sign the request again: %v", err)
	}
	want := authorization.FindStringSubmatch(again.Header.Get("Authorization"))
	if want == nil || !hmac.Equal([]byte(want[6]), []byte(signature)) {
		return s, faultf(403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	return s, nil
}
