package v1alpha1

// Access says who may call, and whom the workload may call.
type Access struct {
	// sourceRanges are the networks from which a load balancer lets clients in; without any, all.
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +optional
	SourceRanges []CIDR `json:"sourceRanges,omitempty"`
	// webACL is the ARN of a web ACL of AWS WAF.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^arn:aws[a-z-]*:wafv2:[a-z0-9-]+:[0-9]{12}:regional/webacl/[^/]+/[a-f0-9-]+$`
	// +optional
	WebACL string `json:"webACL,omitempty"`
	// authentication is done by the load balancer before a request comes to a pod.
	// +optional
	Authentication *Authentication `json:"authentication,omitempty"`
	// from are the workloads that may call it, and nobody else in the cluster; without any, those of its namespace.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +optional
	From []Peer `json:"from,omitempty"`
	// to are those that the workload may call. Where it is given, it may call nobody else but the DNS; without it, anybody.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +optional
	To []Destination `json:"to,omitempty"`
}

// CIDR is a network, as 10.0.0.0/8.
//
// +kubebuilder:validation:MaxLength=43
// +kubebuilder:validation:XValidation:rule="isCIDR(self)",message="want a network as 10.0.0.0/8"
type CIDR string

// Authentication is one of three.
//
// +kubebuilder:validation:XValidation:rule="[has(self.oidc), has(self.cognito), has(self.jwt)].filter(x, x).size() == 1",message="give oidc, cognito or jwt: one of them"
type Authentication struct {
	// +optional
	OIDC *OIDC `json:"oidc,omitempty"`
	// +optional
	Cognito *Cognito `json:"cognito,omitempty"`
	// +optional
	JWT *JWT `json:"jwt,omitempty"`
}

// URL is one of HTTPS.
//
// +kubebuilder:validation:MaxLength=256
// +kubebuilder:validation:Pattern=`^https://[^\s/]+`
type URL string

// OIDC sends users to a provider of OpenID Connect.
type OIDC struct {
	// +required
	Issuer URL `json:"issuer"`
	// +required
	AuthorizationEndpoint URL `json:"authorizationEndpoint"`
	// +required
	TokenEndpoint URL `json:"tokenEndpoint"`
	// +required
	UserInfoEndpoint URL `json:"userInfoEndpoint"`
	// secret is the name of a Secret with clientID and clientSecret.
	// +kubebuilder:validation:MinLength=1
	// +required
	Secret string `json:"secret"`
	// +optional
	Scope string `json:"scope,omitempty"`
}

// Cognito sends users to a user pool of Amazon Cognito.
type Cognito struct {
	// +kubebuilder:validation:Pattern=`^arn:aws[a-z-]*:cognito-idp:[a-z0-9-]+:[0-9]{12}:userpool/.+$`
	// +required
	UserPoolARN string `json:"userPoolARN"`
	// +kubebuilder:validation:MinLength=1
	// +required
	UserPoolClientID string `json:"userPoolClientID"`
	// +kubebuilder:validation:MinLength=1
	// +required
	UserPoolDomain string `json:"userPoolDomain"`
	// +optional
	Scope string `json:"scope,omitempty"`
}

// JWT lets in whoever shows a token that the issuer signed.
type JWT struct {
	// +required
	Issuer URL `json:"issuer"`
	// +required
	JWKSEndpoint URL `json:"jwksEndpoint"`
}

// Peer is a workload that may call.
//
// +kubebuilder:validation:XValidation:rule="has(self.labels) || has(self.namespace)",message="name the labels of pods, a namespace, or both"
type Peer struct {
	// namespace of the pods; without it, the Exposure's.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// labels of the pods; without any, all of the namespace.
	// +kubebuilder:validation:MaxProperties=16
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
}

// Destination is what a workload may call.
//
// +kubebuilder:validation:XValidation:rule="has(self.cidr) != (has(self.labels) || has(self.namespace))",message="name pods by labels or namespace, or a network: one of them"
type Destination struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// +kubebuilder:validation:MaxProperties=16
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
	// +optional
	CIDR CIDR `json:"cidr,omitempty"`
	// ports that are called there; without any, all.
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:Minimum=1
	// +kubebuilder:validation:items:Maximum=65535
	// +optional
	Ports []int32 `json:"ports,omitempty"`
}
