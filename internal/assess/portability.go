package assess

import (
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"dhow/internal/inventory"
)

// portabilityRules are about what ties an application to one cloud or to an old cluster.
func portabilityRules() []Rule {
	const g = GroupPortability
	return []Rule{
		{ID: "removed-api", Group: g, Severity: High, Title: "An object is written in a version of the API that Kubernetes has removed.",
			Why: "A current cluster refuses it.", Fix: "Write it in today's version.", check: removedAPI},
		{ID: "disk-of-a-cloud", Group: g, Severity: High, Title: "A volume is a disk of one cloud, by its name.",
			Why: "It exists in no other cloud, and the built-in drivers for it are gone from Kubernetes.", Fix: "Use a claim with a storage class, and copy the data.", check: diskOfACloud},
		{ID: "node-of-a-cloud", Group: g, Severity: Medium, Title: "Pods want nodes with a label that only one cloud gives.",
			Why: "Elsewhere they find no node, and wait for ever.", Fix: "Select by a label of your own, or by one that Kubernetes defines.", check: nodeOfACloud},
		{ID: "cloud-identity", Group: g, Severity: Medium, Title: "An account is tied to an identity of one cloud.",
			Why: "Elsewhere the pods have no rights to the cloud's services: storage, queues, secrets.", Fix: "Map it to an IAM role by EKS Pod Identity, and list what it may do.", check: cloudIdentities},
		{ID: "cloud-kind", Group: g, Severity: Medium, Title: "An object is of a kind that only one cloud has.",
			Why: "Another cluster refuses it, and what it did is missing.", Fix: "Say the same in the Gateway API or by the AWS Load Balancer Controller's kinds.", check: cloudKind},
		{ID: "foreign-ingress", Group: g, Severity: Medium, Title: "An Ingress is for a controller that only one cloud has.",
			Why: "Elsewhere nothing serves it.", Fix: "Write it as routes of a Gateway.", check: foreignIngress},
		{ID: "metadata-of-a-cloud", Group: g, Severity: Medium, Title: "A program asks one cloud's metadata server.",
			Why: "Elsewhere nothing answers at that name.", Fix: "Give the program the value by a setting.", check: metadataOfACloud},
		{ID: "cloud-annotation", Group: g, Severity: Low, Title: "An annotation is understood by one cloud alone.",
			Why: "Elsewhere it does nothing, and nobody is told.", Fix: "Replace it by what the new load balancer or driver understands, or remove it.", check: cloudAnnotation},
		{ID: "foreign-storage-class", Group: g, Severity: Low, Title: "A claim names a storage class that only one cloud has.",
			Why: "Elsewhere the volume is never made, and the pod waits.", Fix: "Name a class of the new cluster.", check: foreignStorageClass},
		{ID: "foreign-registry", Group: g, Severity: Low, Title: "An image lies in another cloud's registry.",
			Why: "Pulls cross the internet with credentials of another cloud, and end when that account does.", Fix: "Copy it to ECR, and name it there by its digest.", check: foreignRegistry},
		{ID: "public-registry", Group: g, Severity: Low, Title: "An image is pulled from Docker Hub.",
			Why: "Pulls are limited by address: on a day with many starts nodes are refused.", Fix: "Copy it to ECR, or pull through its cache.", check: publicRegistry},
		{ID: "fixed-address", Group: g, Severity: Low, Title: "A load balancer names its own address.",
			Why: "The field is obsolete, and the address is not yours in another place.", Fix: "Name the load balancer by DNS.", check: fixedAddress},
		{ID: "classic-load-balancer", Group: g, Severity: Medium, Title: "A Service on AWS gets a Classic Load Balancer.",
			Why: "It is of the last generation: no targets by IP, no static addresses, slow to see new pods.", Fix: "Set loadBalancerClass to service.k8s.aws/nlb, or use a Gateway.", check: classicLoadBalancer},
		{ID: "long-load-balancer-name", Group: g, Severity: Medium, Title: "A load balancer's name is longer than AWS allows.",
			Why: "It is never made: names have at most 32 characters.", Fix: "Shorten the name.", check: longName},
	}
}

// removed are versions that Kubernetes has removed, with the version that did.
var removed = map[string]string{
	"extensions/v1beta1": "1.22", "apps/v1beta1": "1.16", "apps/v1beta2": "1.16", "batch/v2alpha1": "1.21", "batch/v1beta1": "1.25", "networking.k8s.io/v1beta1": "1.22",
	"policy/v1beta1": "1.25", "autoscaling/v2beta1": "1.25", "autoscaling/v2beta2": "1.26", "rbac.authorization.k8s.io/v1beta1": "1.22", "rbac.authorization.k8s.io/v1alpha1": "1.22",
	"storage.k8s.io/v1beta1": "1.22", "scheduling.k8s.io/v1beta1": "1.22", "discovery.k8s.io/v1beta1": "1.25", "apiextensions.k8s.io/v1beta1": "1.22",
	"admissionregistration.k8s.io/v1beta1": "1.22", "certificates.k8s.io/v1beta1": "1.22", "coordination.k8s.io/v1beta1": "1.22",
}

func removedAPI(p *pass) {
	for _, o := range p.inv.Objects {
		in := removed[o.APIVersion]
		if in == "" || o.Source.File == "" || o.Kind == "CSIStorageCapacity" {
			continue
		}
		p.at(o, "apiVersion", o.APIVersion+" of "+o.Kind+" was removed in Kubernetes "+in)
	}
}

func diskOfACloud(p *pass) {
	what := func(gce, aws, azureDisk, azureFile bool) string {
		switch {
		case gce:
			return "gcePersistentDisk"
		case aws:
			return "awsElasticBlockStore"
		case azureDisk:
			return "azureDisk"
		case azureFile:
			return "azureFile"
		}
		return ""
	}
	p.pods(func(w *inventory.Workload, spec *corev1.PodSpec) {
		for n, v := range spec.Volumes {
			if kind := what(v.GCEPersistentDisk != nil, v.AWSElasticBlockStore != nil, v.AzureDisk != nil, v.AzureFile != nil); kind != "" {
				p.at(w.Object, index(w.SpecPath+".volumes", n)+"."+kind, "the volume is a "+kind)
			}
		}
	})
	for o, v := range inventory.Of[*corev1.PersistentVolume](p.inv) {
		s := v.Spec
		if kind := what(s.GCEPersistentDisk != nil, s.AWSElasticBlockStore != nil, s.AzureDisk != nil, s.AzureFile != nil); kind != "" {
			p.at(o, "spec."+kind, "the volume is a "+kind)
		}
	}
}

var cloudLabel = regexp.MustCompile(`^(cloud\.google\.com|iam\.gke\.io|kubernetes\.azure\.com|agentpool$|doks\.digitalocean\.com|oci\.oraclecloud\.com|ibm-cloud\.kubernetes\.io|alpha\.eksctl\.io)`)

func nodeOfACloud(p *pass) {
	p.pods(func(w *inventory.Workload, spec *corev1.PodSpec) {
		for _, k := range sortedKeys(spec.NodeSelector) {
			if cloudLabel.MatchString(k) {
				p.at(w.Object, inventory.KeyPath(w.SpecPath+".nodeSelector", k), "it wants "+k+"="+spec.NodeSelector[k])
			}
		}
		if spec.Affinity == nil || spec.Affinity.NodeAffinity == nil || spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
			return
		}
		at := w.SpecPath + ".affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
		for n, t := range spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
			for m, e := range t.MatchExpressions {
				if cloudLabel.MatchString(e.Key) {
					p.at(w.Object, index(at+".nodeSelectorTerms", n)+"."+index("matchExpressions", m)+".key", "it wants a node by its label "+e.Key)
				}
			}
		}
	})
}

// cloudIdentity is the annotation that ties an account to an identity of a cloud.
func cloudIdentity(annotations map[string]string) string {
	for _, k := range []string{"iam.gke.io/gcp-service-account", "azure.workload.identity/client-id", "eks.amazonaws.com/role-arn", "pod-identity.alibabacloud.com/role-name"} {
		if annotations[k] != "" {
			return k
		}
	}
	return ""
}

func cloudIdentities(p *pass) {
	for o, a := range inventory.Of[*corev1.ServiceAccount](p.inv) {
		if k := cloudIdentity(a.Annotations); k != "" && k != "eks.amazonaws.com/role-arn" {
			p.at(o, inventory.KeyPath("metadata.annotations", k), k+" is "+a.Annotations[k])
		}
	}
}

var cloudGroup = regexp.MustCompile(`(^|\.)(gke\.io|cloud\.google\.com|azure\.com|azure\.io|alibabacloud\.com|cnrm\.cloud\.google\.com|oraclecloud\.com)$`)

func cloudKind(p *pass) {
	for _, o := range p.inv.Objects {
		if cloudGroup.MatchString(o.Group) && o.Kind != "CustomResourceDefinition" {
			p.at(o, "kind", o.Kind+" is of the group "+o.Group)
		}
	}
}

func foreignIngress(p *pass) {
	for o, in := range inventory.Of[*networkingv1.Ingress](p.inv) {
		at, class := inventory.KeyPath("metadata.annotations", "kubernetes.io/ingress.class"), annotation(in, "kubernetes.io/ingress.class")
		if in.Spec.IngressClassName != nil {
			at, class = "spec.ingressClassName", *in.Spec.IngressClassName
		}
		switch class {
		case "gce", "gce-internal", "azure-application-gateway", "azure/application-gateway", "webapprouting.kubernetes.azure.com":
			p.at(o, at, "the class is "+class)
		}
	}
}

var metadataHost = regexp.MustCompile(`metadata\.google\.internal|metadata\.azure\.|100\.100\.100\.200`)

func metadataOfACloud(p *pass) {
	p.everyContainer(func(w *inventory.Workload, c *inventory.Container) {
		for _, s := range c.Env {
			if m := metadataHost.FindString(s.Value); m != "" {
				p.on(s.Object, s.Path, s.Name+" names "+m).about(w.Ref.String() + c.Name)
			}
		}
		for n, a := range c.Args {
			if m := metadataHost.FindString(a); m != "" {
				p.at(w.Object, c.Path+"."+index("args", n), "an argument names "+m)
			}
		}
	})
}

var cloudNote = regexp.MustCompile(`^(networking\.gke\.io|cloud\.google\.com|beta\.cloud\.google\.com|ingress\.gcp\.kubernetes\.io|kubernetes\.io/ingress\.(global|regional)-static-ip-name$|` +
	`service\.beta\.kubernetes\.io/(azure|oci|do|ibm|alibaba|openstack|linode|ovh)-|appgw\.ingress\.kubernetes\.io|autopilot\.gke\.io)`)

// ownNotes are those that a cluster writes by itself.
var ownNotes = regexp.MustCompile(`^(cloud\.google\.com/neg-status|ingress\.kubernetes\.io/(backends|forwarding-rule|target-proxy|url-map)|autopilot\.gke\.io/(resource-adjustment|warden-version))`)

func cloudAnnotation(p *pass) {
	for _, o := range p.inv.Objects {
		switch o.Kind {
		case "Node", "Namespace":
			continue
		}
		notes := o.Content.GetAnnotations()
		if len(notes) == 0 {
			continue
		}
		for _, k := range sortedKeys(notes) {
			if cloudNote.MatchString(k) && !ownNotes.MatchString(k) {
				p.at(o, inventory.KeyPath("metadata.annotations", k), "it has the annotation "+k)
			}
		}
	}
}

// classes are storage classes that clusters of other clouds come with.
var classes = []string{"standard-rwo", "premium-rwo", "standard-rwx", "premium-rwx", "enterprise-rwx", "zonal-rwx", "default-class", "managed", "managed-premium", "managed-csi", "managed-csi-premium",
	"azurefile", "azurefile-premium", "azurefile-csi", "azurefile-csi-premium", "azureblob-nfs-premium", "do-block-storage", "oci-bv", "alicloud-disk-ssd", "linode-block-storage"}

func foreignStorageClass(p *pass) {
	for _, u := range p.inv.Uses {
		if u.Of.Kind == "StorageClass" && slices.Contains(classes, u.Of.Name) {
			p.on(u.By, u.Path, "the class is "+u.Of.Name)
		}
	}
	for _, w := range p.inv.Workloads {
		claims(w, func(at string, c *corev1.PersistentVolumeClaim) {
			if c.Spec.StorageClassName != nil && slices.Contains(classes, *c.Spec.StorageClassName) && len(p.inv.UsesBy(w.Ref)) > 0 &&
				!slices.ContainsFunc(p.inv.UsesBy(w.Ref), func(u inventory.Use) bool { return u.Of.Kind == "StorageClass" }) {
				p.at(w.Object, at+".spec.storageClassName", "the class is "+*c.Spec.StorageClassName)
			}
		})
	}
}

var otherClouds = regexp.MustCompile(`(^|\.)(gcr\.io|pkg\.dev|azurecr\.io|mcr\.microsoft\.com|aliyuncs\.com|ocir\.io|icr\.io|registry\.digitalocean\.com)$`)

func foreignRegistry(p *pass) {
	p.everyContainer(func(w *inventory.Workload, c *inventory.Container) {
		if otherClouds.MatchString(c.Image.Registry) && c.Image.Registry != "mcr.microsoft.com" {
			p.at(w.Object, c.Path+".image", "the registry is "+c.Image.Registry)
		}
	})
}

func publicRegistry(p *pass) {
	p.everyContainer(func(w *inventory.Workload, c *inventory.Container) {
		if c.Image.Registry == "docker.io" || c.Image.Registry == "index.docker.io" {
			p.at(w.Object, c.Path+".image", "the image is "+c.Image.Text+", which means docker.io/"+c.Image.Repository)
		}
	})
}

func fixedAddress(p *pass) {
	for _, s := range p.inv.Services {
		if s.Spec.LoadBalancerIP != "" {
			p.at(s.Object, "spec.loadBalancerIP", "loadBalancerIP is "+s.Spec.LoadBalancerIP)
		}
	}
}

func classicLoadBalancer(p *pass) {
	const prefix = "service.beta.kubernetes.io/aws-load-balancer-"
	for _, s := range p.inv.Services {
		kind := annotation(s.Service, prefix+"type")
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer || s.Spec.LoadBalancerClass != nil || kind != "" {
			continue
		}
		onAWS := p.inv.Cluster != nil && p.inv.Cluster.Provider == "aws"
		for k := range s.Annotations {
			onAWS = onAWS || strings.HasPrefix(k, prefix)
		}
		if onAWS {
			p.at(s.Object, "spec.loadBalancerClass", "neither loadBalancerClass nor the annotation aws-load-balancer-type is set")
		}
	}
}

// longestName is how many characters the name of a load balancer on AWS may have.
const longestName = 32

func longName(p *pass) {
	for _, kind := range []string{"Service", "Ingress"} {
		for _, o := range p.inv.Kind(kind) {
			for _, k := range []string{"service.beta.kubernetes.io/aws-load-balancer-name", "alb.ingress.kubernetes.io/load-balancer-name"} {
				if v := o.Content.GetAnnotations()[k]; len(v) > longestName {
					p.at(o, inventory.KeyPath("metadata.annotations", k), k+" is "+v)
				}
			}
		}
	}
}
