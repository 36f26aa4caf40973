package inventory

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// roleName is the ClusterRole's.
const roleName = "dhow-inventory"

// Role is the least that FromCluster needs with these Options, as the YAML of a
// ClusterRole: only the verb list, and on Secrets only unless SecretsNone. With Namespaces,
// bind it there by a RoleBinding, and what is in no namespace by a ClusterRoleBinding.
func Role(o Options) ([]byte, error) {
	byGroup := map[string][]string{"apiextensions.k8s.io": {"customresourcedefinitions"}, "metrics.k8s.io": {"pods"}}
	for _, k := range kinds() {
		if k.resource == "secrets" && o.Secrets == SecretsNone {
			continue
		}
		byGroup[k.group] = append(byGroup[k.group], k.resource)
	}
	for _, g := range customGroups() {
		byGroup[g] = []string{"*"} // whatever kinds the versions of its definitions have
	}
	// Groups with the same resources, such as "*", share a rule.
	sets := map[string][]string{}
	for group, resources := range byGroup {
		slices.Sort(resources)
		set := strings.Join(resources, ",")
		sets[set] = append(sets[set], group)
	}
	role := rbacv1.ClusterRole{TypeMeta: metav1.TypeMeta{APIVersion: rbacGroup + "/v1", Kind: "ClusterRole"}, ObjectMeta: metav1.ObjectMeta{Name: roleName}}
	for set, groups := range sets {
		slices.Sort(groups)
		role.Rules = append(role.Rules, rbacv1.PolicyRule{APIGroups: groups, Resources: strings.Split(set, ","), Verbs: []string{"list"}})
	}
	slices.SortFunc(role.Rules, func(a, b rbacv1.PolicyRule) int { return strings.Compare(a.APIGroups[0], b.APIGroups[0]) })
	return yaml.Marshal(role)
}
