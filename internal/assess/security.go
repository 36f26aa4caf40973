package assess

import (
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"dhow/internal/inventory"
)

// securityRules are about Pod Security Standards, rights, and secrets.
func securityRules() []Rule {
	const g = GroupSecurity
	return []Rule{
		{ID: "cluster-admin", Group: g, Severity: Critical, Title: "An account is the cluster's administrator.",
			Why: "Whoever gets into one of its pods, or takes its token, has the whole cluster.", Fix: "Bind a Role with the verbs and resources that it needs.", check: clusterAdmin},
		{ID: "everybody-may-look", Group: g, Severity: Critical, Title: "Who is not signed in has rights to the cluster's objects.",
			Why: "Addresses, images and settings, with the passwords in them, are open to the network.", Fix: "Remove the binding.", check: everybodyMayLook},
		{ID: "node-socket", Group: g, Severity: Critical, Title: "A pod mounts the socket of the container runtime, or the node's root.",
			Why: "With it the pod is the node's administrator: it may start any container, and read every other pod's secrets.", Fix: "Remove the mount.", check: nodeSocket},
		{ID: "privileged", Group: g, Severity: High, Title: "A container is privileged.",
			Why: "To break out of it takes nothing: it has the node's devices and all capabilities.", Fix: "Remove privileged; add the one capability that it needs, if any.", check: privileged},
		{ID: "host-processes", Group: g, Severity: High, Title: "A pod shares the node's processes or their communication.",
			Why: "It sees and may stop other pods' processes, and reads their environments.", Fix: "Remove hostPID and hostIPC.", check: hostProcesses},
		{ID: "dangerous-capabilities", Group: g, Severity: High, Title: "A container has capabilities that amount to the node's administrator.",
			Why: "With them a process loads modules, traces others, or changes the node's network.", Fix: "Drop them.", check: dangerousCapabilities},
		{ID: "host-path", Group: g, Severity: High, Title: "A folder of the node is mounted.",
			Why: "The pod reads what is others', such as their logs, and what it writes fills the node.", Fix: "Use a volume of its own, an emptyDir, or write logs to standard output.", check: hostPath},
		{ID: "role-for-everything", Group: g, Severity: High, Title: "A role allows every verb on every resource.",
			Why: "One lost laptop or token can delete all and read every Secret.", Fix: "Name the resources and the verbs that are needed.", check: roleForEverything},
		{ID: "role-may-escalate", Group: g, Severity: High, Title: "A role lets its holder take more rights than it gives.",
			Why: "Whoever may bind or escalate roles, impersonate, or run commands in pods has in effect all rights of those.",
			Fix: "Remove the verbs escalate, bind and impersonate, and the right to pods/exec.", check: roleMayEscalate},
		{ID: "secret-in-configmap", Group: g, Severity: High, Title: "A password or key stands in a ConfigMap.",
			Why: "All who may read settings read it; ConfigMaps are neither encrypted nor watched.", Fix: "Move it to a Secret that is kept outside of the manifests, and change it: it is known.", check: secretInConfigMap},
		{ID: "secret-in-literal", Group: g, Severity: High, Title: "A password or key stands in an object's specification.",
			Why: "It is in every copy of the manifest and in every `kubectl describe`.", Fix: "Move it to a Secret, refer to that by secretKeyRef, and change it: it is known.", check: secretInLiteral},
		{ID: "secret-in-arguments", Group: g, Severity: High, Title: "A password or key is an argument of a program.",
			Why: "It stands in the node's list of processes and in every copy of the manifest.", Fix: "Give it by a file or a variable from a Secret, and change it: it is known.", check: secretInArguments},
		{ID: "secret-in-manifest", Group: g, Severity: High, Title: "A Secret lies in the repository with its values.",
			Why: "Whoever can read the repository, now or in its history, has them.", Fix: "Keep them in a secret store, let them be synced into the cluster, and change them: they are known.", check: secretInManifest},
		{ID: "secret-in-file", Group: g, Severity: High, Title: "A password or key stands in a file beside the manifests.",
			Why: "Whoever can read the repository, now or in its history, has it.", Fix: "Take it out of the file, and change it: it is known.", check: secretInFile},
		{ID: "secret-reused", Group: g, Severity: High, Title: "One password stands in several places.",
			Why: "Who learns it at one place has all, and it can not be changed for one alone.", Fix: "Give each its own.", check: secretReused},
		{ID: "runs-as-root", Group: g, Severity: High, Title: "A container is told to run as root.",
			Why: "A hole in the program is one in the node's defences.", Fix: "Run as a user of its own.", check: runsAsRoot},
		{ID: "may-be-root", Group: g, Severity: Medium, Title: "Nothing keeps a container from running as root.",
			Why: "An image that does is not noticed.", Fix: "Set runAsNonRoot to true.", check: mayBeRoot},
		{ID: "may-gain-rights", Group: g, Severity: Medium, Title: "Processes may gain rights beyond their parent's.",
			Why: "A setuid binary makes root of anyone.", Fix: "Set allowPrivilegeEscalation to false.", check: mayGainRights},
		{ID: "unconfined", Group: g, Severity: Medium, Title: "A container is taken out of the kernel's confinement.",
			Why: "Every system call, and every file that root may open, is there for an attack.", Fix: "Use the profile RuntimeDefault.", check: unconfined},
		{ID: "unsafe-sysctls", Group: g, Severity: Medium, Title: "A pod sets unsafe settings of the kernel.",
			Why: "They act beyond the pod, and a node refuses it unless it is told to allow them.", Fix: "Remove them.", check: unsafeSysctls},
		{ID: "namespace-without-standard", Group: g, Severity: Medium, Title: "A namespace enforces no Pod Security Standard.",
			Why: "Privileged pods are let in without a word.", Fix: "Label it pod-security.kubernetes.io/enforce=restricted, or baseline.", check: namespaceWithoutStandard},
		{ID: "role-reads-secrets", Group: g, Severity: Medium, Title: "A cluster-wide role may read all Secrets.",
			Why: "Its holder has every password of every namespace.", Fix: "Bind it in single namespaces, or name the Secrets by resourceNames.", check: roleReadsSecrets},
		{ID: "token-in-pod", Group: g, Severity: Medium, Title: "A token of the cluster's API lies in pods that have no use for it.",
			Why: "It is there for who breaks in.", Fix: "Set automountServiceAccountToken to false.", check: tokenInPod},
		{ID: "proxy-snippet", Group: g, Severity: Medium, Title: "An Ingress writes the controller's own configuration.",
			Why: "Whoever may write an Ingress can read the controller's files and token by it, and no other controller understands it.", Fix: "Use the annotations or filters that do the same.", check: proxySnippet},
		{ID: "default-account", Group: g, Severity: Low, Title: "Pods run as the namespace's default account.",
			Why: "Rights that are given to one are given to all, and no log tells them apart.", Fix: "Make a ServiceAccount for the workload.", check: defaultAccount},
		{ID: "keeps-capabilities", Group: g, Severity: Low, Title: "A container keeps the kernel's capabilities that runtimes give.",
			Why: "Programs that need none can forge packets and change owners of files.", Fix: "Drop ALL.", check: keepsCapabilities},
		{ID: "writable-root", Group: g, Severity: Low, Title: "A container's root file system can be written.",
			Why: "Who breaks in can leave tools there and change the program.", Fix: "Set readOnlyRootFilesystem to true, and mount an emptyDir where it writes.", check: writableRoot},
		{ID: "no-seccomp", Group: g, Severity: Low, Title: "No seccomp profile is set.",
			Why: "Every system call of the kernel is open to an attack.", Fix: "Set seccompProfile to RuntimeDefault.", check: noSeccomp},
		{ID: "unused-secret", Group: g, Severity: Low, Title: "A Secret is used by no pod.",
			Why: "A password lies about that may still open something.", Fix: "Revoke what it opens, and remove it.", check: unusedSecret},
	}
}

// bindings gives both kinds, with the kind and name of the role.
func bindings(p *pass, look func(o *inventory.Object, role rbacv1.RoleRef, subjects []rbacv1.Subject)) {
	for o, b := range inventory.Of[*rbacv1.ClusterRoleBinding](p.inv) {
		if !builtIn(o) {
			look(o, b.RoleRef, b.Subjects)
		}
	}
	for o, b := range inventory.Of[*rbacv1.RoleBinding](p.inv) {
		if !builtIn(o) {
			look(o, b.RoleRef, b.Subjects)
		}
	}
}

// builtIn says whether a cluster makes an object for itself.
func builtIn(o *inventory.Object) bool {
	return strings.HasPrefix(o.Name, "system:") || o.Content.GetLabels()["kubernetes.io/bootstrapping"] != ""
}

func clusterAdmin(p *pass) {
	bindings(p, func(o *inventory.Object, role rbacv1.RoleRef, subjects []rbacv1.Subject) {
		if role.Kind != "ClusterRole" || role.Name != "cluster-admin" || o.Kind != "ClusterRoleBinding" {
			return
		}
		var facts []string
		for _, s := range subjects {
			if s.Name != "system:masters" {
				facts = append(facts, subjectText(s)+" gets cluster-admin")
			}
		}
		if len(facts) > 0 {
			p.at(o, "roleRef.name", facts...)
		}
	})
}

func subjectText(s rbacv1.Subject) string {
	if s.Namespace != "" {
		return s.Kind + "/" + s.Namespace + "/" + s.Name
	}
	return s.Kind + " " + s.Name
}

func everybodyMayLook(p *pass) {
	bindings(p, func(o *inventory.Object, role rbacv1.RoleRef, subjects []rbacv1.Subject) {
		for n, s := range subjects {
			if s.Name == "system:unauthenticated" || s.Name == "system:anonymous" {
				p.at(o, index("subjects", n)+".name", subjectText(s)+" gets "+role.Kind+" "+role.Name).operate("remove", index("subjects", n), nil)
			}
		}
	})
}

func hostPaths(p *pass, look func(w *inventory.Workload, at string, host string)) {
	p.pods(func(w *inventory.Workload, spec *corev1.PodSpec) {
		for n, v := range spec.Volumes {
			if v.HostPath != nil {
				look(w, index(w.SpecPath+".volumes", n)+".hostPath", v.HostPath.Path)
			}
		}
	})
}

// rules the runtime: its sockets, and folders that have them.
func isSocket(host string) bool {
	host = path.Clean(host)
	switch host {
	case "/", "/var/run", "/run", "/var/lib/kubelet", "/etc/kubernetes", "/proc":
		return true
	}
	return slices.Contains([]string{"docker.sock", "containerd.sock", "crio.sock"}, path.Base(host))
}

func nodeSocket(p *pass) {
	hostPaths(p, func(w *inventory.Workload, at, host string) {
		if isSocket(host) {
			p.at(w.Object, at, "it mounts "+host+" of the node")
		}
	})
}

func hostPath(p *pass) {
	hostPaths(p, func(w *inventory.Workload, at, host string) {
		if !isSocket(host) {
			p.at(w.Object, at, "it mounts "+host+" of the node")
		}
	})
}

func securityOf(c *inventory.Container) corev1.SecurityContext {
	if c.SecurityContext == nil {
		return corev1.SecurityContext{}
	}
	return *c.SecurityContext
}

func podSecurity(w *inventory.Workload) corev1.PodSecurityContext {
	if s := w.Template.Spec.SecurityContext; s != nil {
		return *s
	}
	return corev1.PodSecurityContext{}
}

// at gives containers the chance to be wrong: a rule of Windows' own is left out.
func eachSecurity(p *pass, wrong func(w *inventory.Workload, c *inventory.Container, s corev1.SecurityContext)) {
	p.containers(func(w *inventory.Workload, c *inventory.Container) {
		if os := w.Template.Spec.OS; os == nil || os.Name != corev1.Windows {
			wrong(w, c, securityOf(c))
		}
	})
}

func privileged(p *pass) {
	p.everyContainer(func(w *inventory.Workload, c *inventory.Container) {
		if !isTrue(securityOf(c).Privileged) {
			return
		}
		at := c.Path + ".securityContext.privileged"
		f := p.at(w.Object, at, "privileged is true")
		if w.Kind != inventory.KindCompose {
			f.set(at, false)
		}
	})
}

func hostProcesses(p *pass) {
	p.pods(func(w *inventory.Workload, spec *corev1.PodSpec) {
		for field, on := range map[string]bool{"hostPID": spec.HostPID, "hostIPC": spec.HostIPC} {
			if on {
				p.at(w.Object, w.SpecPath+"."+field, field+" is true").set(w.SpecPath+"."+field, nil)
			}
		}
	})
}

func dangerousCapabilities(p *pass) {
	dangerous := []string{"ALL", "SYS_ADMIN", "SYS_MODULE", "SYS_RAWIO", "DAC_READ_SEARCH", "BPF", "SYS_BOOT", "SYS_TIME"}
	eachSecurity(p, func(w *inventory.Workload, c *inventory.Container, s corev1.SecurityContext) {
		if s.Capabilities == nil {
			return
		}
		var facts []string
		for _, a := range s.Capabilities.Add {
			name := strings.TrimPrefix(strings.ToUpper(string(a)), "CAP_")
			// These two reach no further than the pod's own network and processes.
			spec := &w.Template.Spec
			if slices.Contains(dangerous, name) || name == "NET_ADMIN" && spec.HostNetwork || name == "SYS_PTRACE" && spec.HostPID {
				facts = append(facts, "it adds "+string(a))
			}
		}
		if len(facts) > 0 {
			p.at(w.Object, c.Path+".securityContext.capabilities.add", facts...)
		}
	})
}

func runsAsRoot(p *pass) {
	eachSecurity(p, func(w *inventory.Workload, c *inventory.Container, s corev1.SecurityContext) {
		if s.RunAsUser != nil && *s.RunAsUser == 0 {
			p.at(w.Object, c.Path+".securityContext.runAsUser", "runAsUser is 0")
		} else if pod := podSecurity(w); s.RunAsUser == nil && pod.RunAsUser != nil && *pod.RunAsUser == 0 {
			p.at(w.Object, w.SpecPath+".securityContext.runAsUser", "runAsUser of the pod is 0, and container "+c.Name+" does not override it").about(c.Name)
		}
	})
}

func mayBeRoot(p *pass) {
	eachSecurity(p, func(w *inventory.Workload, c *inventory.Container, s corev1.SecurityContext) {
		pod := podSecurity(w)
		user, non := or(s.RunAsUser, pod.RunAsUser), or(s.RunAsNonRoot, pod.RunAsNonRoot)
		if isTrue(non) || user != nil && *user != 0 {
			return
		}
		at := c.Path + ".securityContext.runAsNonRoot"
		f := p.at(w.Object, at, "neither runAsNonRoot nor a user is set")
		if user != nil {
			f.Evidence[0] = "runAsUser is 0, and runAsNonRoot is not set"
		} else {
			f.set(at, true)
		}
	})
}

func mayGainRights(p *pass) {
	eachSecurity(p, func(w *inventory.Workload, c *inventory.Container, s corev1.SecurityContext) {
		if !isFalse(s.AllowPrivilegeEscalation) {
			at := c.Path + ".securityContext.allowPrivilegeEscalation"
			f := p.at(w.Object, at, "allowPrivilegeEscalation is not false")
			if !isTrue(s.Privileged) {
				f.set(at, false)
			}
		}
	})
}

func keepsCapabilities(p *pass) {
	eachSecurity(p, func(w *inventory.Workload, c *inventory.Container, s corev1.SecurityContext) {
		if s.Capabilities == nil || !slices.ContainsFunc(s.Capabilities.Drop, func(d corev1.Capability) bool { return strings.EqualFold(string(d), "ALL") }) {
			at := c.Path + ".securityContext.capabilities.drop"
			p.at(w.Object, at, "it does not drop ALL").set(at, []any{"ALL"})
		}
	})
}

func writableRoot(p *pass) {
	eachSecurity(p, func(w *inventory.Workload, c *inventory.Container, s corev1.SecurityContext) {
		if !isTrue(s.ReadOnlyRootFilesystem) {
			at := c.Path + ".securityContext.readOnlyRootFilesystem"
			p.at(w.Object, at, "readOnlyRootFilesystem is not true").set(at, true)
		}
	})
}

func noSeccomp(p *pass) {
	p.pods(func(w *inventory.Workload, spec *corev1.PodSpec) {
		if podSecurity(w).SeccompProfile != nil || w.Template.Annotations["seccomp.security.alpha.kubernetes.io/pod"] != "" || spec.OS != nil && spec.OS.Name == corev1.Windows {
			return
		}
		for n := range w.Containers {
			if securityOf(&w.Containers[n]).SeccompProfile == nil {
				at := w.SpecPath + ".securityContext.seccompProfile"
				p.at(w.Object, at, "neither the pod nor container "+w.Containers[n].Name+" has a seccompProfile").set(at, map[string]any{"type": "RuntimeDefault"})
				return
			}
		}
	})
}

func unconfined(p *pass) {
	check := func(w *inventory.Workload, at string, s *corev1.SeccompProfile, a *corev1.AppArmorProfile) {
		if s != nil && s.Type == corev1.SeccompProfileTypeUnconfined {
			p.at(w.Object, at+".seccompProfile.type", "the seccomp profile is Unconfined").set(at+".seccompProfile.type", "RuntimeDefault")
		}
		if a != nil && a.Type == corev1.AppArmorProfileTypeUnconfined {
			p.at(w.Object, at+".appArmorProfile.type", "the AppArmor profile is Unconfined").set(at+".appArmorProfile.type", "RuntimeDefault")
		}
	}
	p.pods(func(w *inventory.Workload, spec *corev1.PodSpec) {
		if s := spec.SecurityContext; s != nil {
			check(w, w.SpecPath+".securityContext", s.SeccompProfile, s.AppArmorProfile)
		}
		for n := range w.Containers {
			if s := w.Containers[n].SecurityContext; s != nil {
				check(w, w.Containers[n].Path+".securityContext", s.SeccompProfile, s.AppArmorProfile)
			}
		}
	})
}

// safeSysctls are those that act within a pod alone.
var safeSysctls = []string{"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start",
	"net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"}

func unsafeSysctls(p *pass) {
	p.pods(func(w *inventory.Workload, _ *corev1.PodSpec) {
		var facts []string
		for _, s := range podSecurity(w).Sysctls {
			if !slices.Contains(safeSysctls, s.Name) {
				facts = append(facts, "it sets "+s.Name)
			}
		}
		if len(facts) > 0 {
			p.at(w.Object, w.SpecPath+".securityContext.sysctls", facts...)
		}
	})
}

func namespaceWithoutStandard(p *pass) {
	const label = "pod-security.kubernetes.io/enforce"
	for o := range inventory.Of[*corev1.Namespace](p.inv) {
		level := o.Content.GetLabels()[label]
		if level == "restricted" || level == "baseline" || strings.HasPrefix(o.Name, "kube-") || o.Name == inventory.DefaultNamespace && len(p.workloads[o.Name]) == 0 { // every cluster has it
			continue
		}
		fact := "it has no label " + label
		if level != "" {
			fact = label + " is " + level
		}
		p.at(o, "metadata.labels", fact).set(inventory.KeyPath("metadata.labels", label), "baseline")
	}
}

// roles gives the rules of both kinds of roles.
func roles(p *pass, look func(o *inventory.Object, at string, r *rbacv1.PolicyRule)) {
	each := func(o *inventory.Object, rules []rbacv1.PolicyRule) {
		switch o.Name {
		case "cluster-admin", "admin", "edit":
			return
		}
		for n := range rules {
			look(o, index("rules", n), &rules[n])
		}
	}
	for o, r := range inventory.Of[*rbacv1.ClusterRole](p.inv) {
		if !builtIn(o) {
			each(o, r.Rules)
		}
	}
	for o, r := range inventory.Of[*rbacv1.Role](p.inv) {
		if !builtIn(o) {
			each(o, r.Rules)
		}
	}
}

func ruleText(r *rbacv1.PolicyRule) string {
	return strings.Join(r.Verbs, ", ") + " on " + strings.Join(r.Resources, ", ")
}

func everything(r *rbacv1.PolicyRule) bool {
	return slices.Contains(r.Resources, "*") && slices.Contains(r.Verbs, "*") && (slices.Contains(r.APIGroups, "*") || slices.Contains(r.APIGroups, ""))
}

func roleForEverything(p *pass) {
	roles(p, func(o *inventory.Object, at string, r *rbacv1.PolicyRule) {
		if everything(r) {
			p.at(o, at, "it allows "+ruleText(r))
		}
	})
}

func roleMayEscalate(p *pass) {
	roles(p, func(o *inventory.Object, at string, r *rbacv1.PolicyRule) {
		if everything(r) {
			return
		}
		for _, v := range r.Verbs {
			if v == "escalate" || v == "bind" || v == "impersonate" {
				p.at(o, at, "it allows "+ruleText(r))
				return
			}
		}
		if slices.Contains(r.APIGroups, "") && (slices.Contains(r.Resources, "pods/exec") || slices.Contains(r.Resources, "pods/attach")) && (slices.Contains(r.Verbs, "create") || slices.Contains(r.Verbs, "*")) {
			p.at(o, at, "it allows "+ruleText(r))
		}
	})
}

func roleReadsSecrets(p *pass) {
	roles(p, func(o *inventory.Object, at string, r *rbacv1.PolicyRule) {
		reads := slices.ContainsFunc(r.Verbs, func(v string) bool { return v == "get" || v == "list" || v == "watch" || v == "*" })
		if o.Kind == "ClusterRole" && reads && !everything(r) && len(r.ResourceNames) == 0 && slices.Contains(r.Resources, "secrets") && (slices.Contains(r.APIGroups, "") || slices.Contains(r.APIGroups, "*")) {
			p.at(o, at, "it allows "+ruleText(r))
		}
	})
}

// account is the ServiceAccount that pods run as.
func account(w *inventory.Workload) inventory.Ref {
	name := or(or(w.Template.Spec.ServiceAccountName, w.Template.Spec.DeprecatedServiceAccount), "default")
	return inventory.Ref{Kind: "ServiceAccount", Namespace: w.Namespace, Name: name}
}

func defaultAccount(p *pass) {
	p.pods(func(w *inventory.Workload, _ *corev1.PodSpec) {
		if account(w).Name == "default" {
			p.at(w.Object, w.SpecPath+".serviceAccountName", "no serviceAccountName is set")
		}
	})
}

func tokenInPod(p *pass) {
	p.pods(func(w *inventory.Workload, spec *corev1.PodSpec) {
		a := account(w)
		if isFalse(spec.AutomountServiceAccountToken) || p.bound[a] && a.Name != "default" {
			return
		}
		if s, ok := contentOf[*corev1.ServiceAccount](p.inv, a); ok && (isFalse(s.AutomountServiceAccountToken) && spec.AutomountServiceAccountToken == nil || cloudIdentity(s.Annotations) != "") {
			return
		}
		fact := "no binding gives " + a.String() + " any right"
		if a.Name == "default" {
			fact = "the token is that of the namespace's default account"
		}
		at := w.SpecPath + ".automountServiceAccountToken"
		p.at(w.Object, at, "automountServiceAccountToken is not false", fact).set(at, false)
	})
}

// plain gives the secrets that stood in the open.
func plain(p *pass, look func(s *inventory.PlainSecret)) {
	for n := range p.inv.Plain {
		look(&p.inv.Plain[n])
	}
}

func plainText(s *inventory.PlainSecret) string {
	text := "it is the " + strings.TrimPrefix(string(s.What), "the ")
	if s.Name != "" {
		text += ", " + s.Name
	}
	return text
}

func isArgument(at string) bool {
	return strings.Contains(at, ".args[") || strings.Contains(at, ".command[")
}

func secretInConfigMap(p *pass) {
	plain(p, func(s *inventory.PlainSecret) {
		if s.Object.Kind == "ConfigMap" {
			p.on(s.Object, s.Path, plainText(s)).about(s.Name)
		}
	})
}

func secretInLiteral(p *pass) {
	plain(p, func(s *inventory.PlainSecret) {
		if s.Object.Kind != "" && s.Object.Kind != "ConfigMap" && s.Object.Kind != "Secret" && !isArgument(s.Path) {
			p.on(s.Object, s.Path, plainText(s)).about(s.Name)
		}
	})
}

func secretInArguments(p *pass) {
	plain(p, func(s *inventory.PlainSecret) {
		if s.Object.Kind != "" && s.Object.Kind != "ConfigMap" && isArgument(s.Path) {
			p.on(s.Object, s.Path, plainText(s)).about(s.Name)
		}
	})
}

func secretInManifest(p *pass) {
	type field struct {
		r  inventory.Ref
		at string
	}
	keys := map[field][]string{}
	var order []field
	plain(p, func(s *inventory.PlainSecret) {
		if s.Object.Kind != "Secret" || s.What != inventory.SecretInFile || s.File == "" {
			return
		}
		at, _, _ := strings.Cut(strings.ReplaceAll(s.Path, "[", "."), ".")
		f := field{s.Object, at}
		if keys[f] == nil {
			order = append(order, f)
		}
		keys[f] = append(keys[f], "the key "+s.Name+" has a value")
	})
	for _, f := range order {
		p.on(f.r, f.at, keys[f]...)
	}
}

func secretInFile(p *pass) {
	plain(p, func(s *inventory.PlainSecret) {
		if s.Object.Kind == "" && s.File != "" {
			p.in(s.File, s.Line, plainText(s)).about(s.Name)
		}
	})
}

func secretReused(p *pass) {
	places := map[string][]*inventory.PlainSecret{}
	plain(p, func(s *inventory.PlainSecret) {
		if s.Same != "" && s.What != inventory.SecretInHistory && (s.What != inventory.SecretInFile || strings.Contains(strings.ToLower(s.Name), "pass")) {
			places[s.Same] = append(places[s.Same], s)
		}
	})
	for _, all := range places {
		objects := map[inventory.Ref]bool{}
		for _, s := range all {
			objects[s.Object] = true
		}
		if len(objects) < 2 {
			continue
		}
		for _, s := range all {
			if s.Object.Kind != "" {
				p.on(s.Object, s.Path, fmt.Sprintf("the same value stands in %d objects", len(objects))).about(s.Name)
			}
		}
	}
}

func proxySnippet(p *pass) {
	for o := range inventory.Of[*networkingv1.Ingress](p.inv) {
		for _, k := range sortedKeys(o.Content.GetAnnotations()) {
			if strings.HasSuffix(k, "-snippet") || strings.HasSuffix(k, "-snippets") {
				at := inventory.KeyPath("metadata.annotations", k)
				p.at(o, at, "it has the annotation "+k)
			}
		}
	}
}

func unusedSecret(p *pass) {
	for o, s := range inventory.Of[*corev1.Secret](p.inv) {
		if len(p.inv.UsesOf(o.Ref)) > 0 || len(p.workloads[o.Namespace]) == 0 || readByOthers(o) {
			continue
		}
		switch s.Type {
		case corev1.SecretTypeServiceAccountToken, corev1.SecretTypeBootstrapToken, corev1.SecretTypeTLS, "helm.sh/release.v1":
			continue
		}
		p.at(o, "metadata.name", "no pod of the namespace refers to it")
	}
}
