package estate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"
)

const (
	// secretTimeout bounds the fetch of one secret, with its retries and the
	// search for credentials.
	secretTimeout = 15 * time.Second
	// secretTries are the attempts at one call; the client waits between them, with jitter.
	secretTries = 3
	// passwordField is the field that a secret of a database has by AWS's own convention.
	passwordField = "password"
)

// remedy is what to do about a refusal of Secrets Manager.
func remedy(code string) string {
	switch code {
	case "AccessDeniedException":
		return "allow secretsmanager:GetSecretValue on it, and kms:Decrypt on its key, to the role that dhow runs as"
	case "ResourceNotFoundException":
		return "check the ARN, its region and account, and that the secret has a value"
	case "DecryptionFailure":
		return "allow kms:Decrypt on the secret's key to the role that dhow runs as"
	case "InvalidRequestException":
		return "check that the secret is not marked for deletion"
	case "ExpiredTokenException":
		return "sign in to AWS again"
	case "UnrecognizedClientException":
		return "check AWS_PROFILE or the access key"
	}
	return "see what Secrets Manager says"
}

// fromSecretsManager asks the ARN's region. Credentials, and another endpoint if
// there is one, come from the environment, as for every AWS tool.
func (s Secret) fromSecretsManager(ctx context.Context) (string, error) {
	id, err := arn.Parse(s.ARN)
	if err != nil {
		return "", errors.New(arnFault(s.ARN))
	}
	ctx, cancel := context.WithTimeout(ctx, secretTimeout)
	defer cancel()
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(id.Region), config.WithRetryMaxAttempts(secretTries),
		// One call: a connection kept for another would only leave goroutines behind.
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.DisableKeepAlives = true })))
	if err != nil {
		return "", fmt.Errorf("read the AWS configuration: %w", err)
	}
	out, err := secretsmanager.NewFromConfig(cfg).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String(s.ARN)})
	if err != nil {
		hint := "check the network, and that AWS credentials are set (AWS_PROFILE, AWS_ACCESS_KEY_ID or the machine's role)"
		var refused smithy.APIError
		if errors.As(err, &refused) {
			hint = remedy(refused.ErrorCode())
		}
		return "", fmt.Errorf("fetch %s: %s: %w", s.ARN, hint, err)
	}
	if out.SecretString == nil {
		return "", fmt.Errorf("%s holds bytes, not text: store the secret as text", s.ARN)
	}
	return s.field(*out.SecretString)
}

// field picks the secret out of a JSON object; a secret that is none is taken whole.
func (s Secret) field(text string) (string, error) {
	var object map[string]any
	// The decoder's error would quote the secret, so it is dropped.
	if json.Unmarshal([]byte(text), &object) != nil || object == nil {
		switch {
		case s.Field != "":
			return "", fmt.Errorf("%s is not a JSON object, so it has no field %s: remove field", s.ARN, s.Field)
		case text == "":
			return "", fmt.Errorf("%s is empty: store the secret in it", s.ARN)
		}
		return text, nil
	}
	name := s.Field
	if name == "" {
		name = passwordField
	}
	value, ok := object[name]
	if !ok {
		return "", fmt.Errorf("%s has no field %s: name the one that holds the password under field", s.ARN, name)
	}
	if whole, ok := value.(string); ok && whole != "" {
		return whole, nil
	}
	return "", fmt.Errorf("the field %s of %s is not a text, or empty: store the password there as a text", name, s.ARN)
}
