package orphan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// made is what the controller makes for a stack; more are further tags, in pairs.
func made(kind, name, prefix, stack string, more ...string) Resource {
	part := "LoadBalancer"
	if kind == TargetGroup {
		part = "shop/cart:80"
	}
	r := Resource{Kind: kind, Name: name, ARN: "arn:" + kind + ":" + name, Facts: &Facts{}, Tags: map[string]string{ClusterTag: "bank", prefix + stackEnd: stack, prefix + resourceEnd: part}}
	for i := 0; i+1 < len(more); i += 2 {
		r.Tags[more[i]] = more[i+1]
	}
	return r
}

func without(r Resource, tag string) Resource { delete(r.Tags, tag); return r }

func behind(r Resource, balancers ...string) Resource {
	for _, name := range balancers {
		r.LoadBalancers = append(r.LoadBalancers, "arn:LoadBalancer:"+name)
	}
	return r
}

func with(r Resource, f Facts) Resource { r.Facts = &f; return r }

// proof is a target group that shows whose cluster it is.
func proof() Resource { return made(TargetGroup, "proof", "service.k8s.aws", "shop/proof") }

// living is a cluster with one object of each kind.
func living() Cluster {
	one := func(name string) map[string]bool { return map[string]bool{name: true} }
	return Cluster{Name: "bank", Ingresses: one("shop/web"), Gateways: one("dhow-system/public"), Groups: one("edge"), Services: map[string]bool{"shop/db": true, "shop/proof": true}, Bound: map[string]bool{"arn:TargetGroup:proof": true, "by-name": true}}
}

func TestJudge(t *testing.T) {
	const ing, svc, alb, nlb = "ingress.k8s.aws", "service.k8s.aws", "gateway.k8s.aws.alb", "gateway.k8s.aws.nlb"
	foreign := without(made(TargetGroup, "blue", svc, "shop/gone"), ClusterTag)
	for _, c := range []struct {
		name string
		of   Resource
		with []Resource
		want State
		why  string
	}{
		{"of an Ingress", made(LoadBalancer, "x", ing, "shop/web"), nil, Owned, ""},
		{"of an Ingress that is gone", made(LoadBalancer, "x", ing, "shop/gone"), nil, Orphan, "the Ingress shop/gone is not there"},
		{"of an Ingress of another namespace", made(LoadBalancer, "x", ing, "till/web"), nil, Orphan, "Ingress till/web"},
		{"of a group", made(LoadBalancer, "x", ing, "edge"), nil, Owned, ""},
		{"of a group that nobody names", made(LoadBalancer, "x", ing, "inner"), nil, Orphan, "the Ingress group inner is not there"},
		{"before a load balancer", made(LoadBalancer, "x", ing, "shop/gone", ing+resourceEnd, "FrontendNlb"), nil, Orphan, ""},
		{"of a Service", made(LoadBalancer, "x", svc, "shop/db"), nil, Owned, ""},
		{"of a Service that is gone", made(TargetGroup, "x", svc, "shop/gone"), nil, Orphan, "the Service shop/gone is not there"},
		{"of a Gateway", made(LoadBalancer, "x", alb, "dhow-system/public"), nil, Owned, ""},
		{"of a Gateway that is gone", made(LoadBalancer, "x", alb, "dhow-system/old"), nil, Orphan, "Gateway dhow-system/old"},
		{"of a Gateway of connections that is gone", made(LoadBalancer, "x", nlb, "dhow-system/old"), nil, Orphan, ""},

		{"nothing says for what", without(without(made(LoadBalancer, "x", svc, "shop/gone"), svc+stackEnd), svc+resourceEnd), nil, NotUnderstood, "no tag"},
		{"for two", made(LoadBalancer, "x", svc, "shop/gone", ing+stackEnd, "shop/gone"), nil, NotUnderstood, "several"},
		{"for a kind to come", made(LoadBalancer, "x", "mesh.k8s.aws", "shop/gone"), nil, NotUnderstood, "does not know the tag mesh.k8s.aws/stack"},
		{"no part", without(made(LoadBalancer, "x", svc, "shop/gone"), svc+resourceEnd), nil, NotUnderstood, "service.k8s.aws/resource"},
		{"another part", made(LoadBalancer, "x", svc, "shop/gone", svc+resourceEnd, "Second"), nil, NotUnderstood, `"Second"`},
		{"a Service without a namespace", made(LoadBalancer, "x", svc, "gone"), nil, NotUnderstood, `"gone"`},
		{"an empty name", made(LoadBalancer, "x", ing, "shop/"), nil, NotUnderstood, `"shop/"`},
		{"nothing", made(LoadBalancer, "x", ing, ""), nil, NotUnderstood, `""`},
		{"too many words", made(LoadBalancer, "x", ing, "a/b/c"), nil, NotUnderstood, `"a/b/c"`},

		{"nobody asked", Resource{Kind: LoadBalancer, Name: "x", ARN: "arn:x", Tags: made(LoadBalancer, "x", svc, "shop/gone").Tags}, nil, Kept, "was not asked"},
		{"protected", with(made(LoadBalancer, "x", svc, "shop/gone"), Facts{Protected: true}), nil, Kept, "protected"},
		{"leads to what is another's", made(LoadBalancer, "x", svc, "shop/gone"), []Resource{behind(foreign, "x")}, Kept, "blue, which is not the cluster's"},
		{"leads to what has an owner", made(LoadBalancer, "x", svc, "shop/gone"), []Resource{behind(made(TargetGroup, "y", svc, "shop/db"), "x")}, Kept, "y, which is no orphan"},
		{"leads to what is bound", made(LoadBalancer, "x", svc, "shop/gone"), []Resource{behind(made(TargetGroup, "by-name", svc, "shop/gone"), "x")}, Kept, "by-name, which is no orphan"},
		{"leads to healthy targets", made(LoadBalancer, "x", svc, "shop/gone"), []Resource{behind(with(made(TargetGroup, "y", svc, "shop/gone"), Facts{Targets: 3, Healthy: 2}), "x")}, Kept, "2 healthy targets"},
		{"leads to dead targets", made(LoadBalancer, "x", svc, "shop/gone"), []Resource{behind(with(made(TargetGroup, "y", svc, "shop/gone"), Facts{Targets: 3}), "x")}, Orphan, ""},
		{"leads to what nobody asked about", made(LoadBalancer, "x", svc, "shop/gone"), []Resource{behind(Resource{Kind: TargetGroup, Name: "y", ARN: "arn:y", Tags: made(TargetGroup, "y", svc, "shop/gone").Tags}, "x")}, Kept, "was not asked"},

		{"bound by its name", made(TargetGroup, "by-name", svc, "shop/gone"), nil, Kept, "a TargetGroupBinding names it"},
		{"targets are registered", with(made(TargetGroup, "x", svc, "shop/gone"), Facts{Targets: 2}), nil, Kept, "2 targets"},
		{"an orphan leads to it", behind(made(TargetGroup, "x", svc, "shop/gone"), "y"), []Resource{made(LoadBalancer, "y", svc, "shop/gone")}, Orphan, ""},
		{"one with an owner leads to it", behind(made(TargetGroup, "x", svc, "shop/gone"), "y"), []Resource{made(LoadBalancer, "y", svc, "shop/db")}, Kept, "arn:LoadBalancer:y"},
		{"a protected one leads to it", behind(made(TargetGroup, "x", svc, "shop/gone"), "y"), []Resource{with(made(LoadBalancer, "y", svc, "shop/gone"), Facts{Protected: true})}, Kept, "arn:LoadBalancer:y"},
		{"another's leads to it", behind(made(TargetGroup, "x", svc, "shop/gone"), "y"), nil, Kept, "arn:LoadBalancer:y"},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := Judge(append(c.with, c.of, proof()), living())
			i := slices.IndexFunc(j.Findings, func(f Finding) bool { return f.ARN == c.of.ARN })
			if i < 0 || j.Refusal != "" {
				t.Fatalf("got %+v", j)
			}
			if f := j.Findings[i]; f.State != c.want || !strings.Contains(f.Why, c.why) {
				t.Errorf("got %d, %q: want %d, %q", f.State, f.Why, c.want, c.why)
			}
		})
	}
	t.Run("the kind is gone", func(t *testing.T) {
		c := living()
		c.NoGateways, c.Gateways = true, nil
		j := Judge([]Resource{made(LoadBalancer, "x", alb, "dhow-system/public"), proof()}, c)
		if f := j.Findings[0]; f.State != Kept || !strings.Contains(f.Why, "nor is the kind") {
			t.Errorf("got %+v", f)
		}
	})
	t.Run("another cluster's", func(t *testing.T) {
		if j := Judge([]Resource{made(LoadBalancer, "x", svc, "shop/gone", ClusterTag, "bank-2"), foreign}, living()); len(j.Findings) != 0 {
			t.Errorf("got %+v", j)
		}
	})
}

// TestRefuse: what looks like another cluster, or one that was restored, is not trusted.
func TestRefuse(t *testing.T) {
	orphans := func(n int, prefix string) []Resource {
		var all []Resource
		for i := range n {
			all = append(all, made(LoadBalancer, fmt.Sprint(prefix, i), prefix, fmt.Sprint("gone/", i)))
		}
		return all
	}
	owned := func(n int, prefix string) []Resource {
		var all []Resource
		for i := range n {
			all = append(all, made(LoadBalancer, fmt.Sprint(prefix, "-", i), prefix, "shop/db"))
		}
		return all
	}
	for _, c := range []struct {
		name string
		all  []Resource
		want string
	}{
		{"none", []Resource{proof()}, ""},
		{"none, and no proof", owned(1, "service.k8s.aws"), ""},
		{"no proof", append(orphans(1, "service.k8s.aws"), owned(5, "service.k8s.aws")...), "nothing shows that this cluster's name is bank"},
		{"few, though they are most", append(orphans(3, "service.k8s.aws"), proof()), ""},
		{"more than half", append(orphans(4, "service.k8s.aws"), proof()), "4 of 5 would be orphans, of all"},
		{"half", append(append(orphans(4, "service.k8s.aws"), owned(3, "service.k8s.aws")...), proof()), ""},
		{"more than half of a kind", append(append(orphans(4, "ingress.k8s.aws"), owned(9, "service.k8s.aws")...), proof()), "4 of 4 would be orphans, of what was made for objects of kind Ingress"},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := Judge(c.all, living())
			if (j.Refusal == "") != (c.want == "") || !strings.Contains(j.Refusal, c.want) {
				t.Errorf("got %q: want %q", j.Refusal, c.want)
			}
			if c.want != "" && j.Orphan(c.all[0].ARN) != nil {
				t.Error("it may be deleted all the same")
			}
		})
	}
}

// TestNeverOwned: whatever there is, no orphan has an owner, a binding or targets, or is used
// by what stays.
func TestNeverOwned(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := living()
		c.NoGateways = rapid.Bool().Draw(t, "no gateways")
		prefix := rapid.SampledFrom(slices.Sorted(maps.Keys(prefixes())))
		stack := rapid.SampledFrom([]string{"shop/web", "shop/db", "shop/gone", "dhow-system/public", "edge", "inner", "", "/"})
		names := rapid.SliceOfNDistinct(rapid.StringMatching("[a-f]{1,2}"), 1, 8, rapid.ID).Draw(t, "names")
		all := []Resource{proof()}
		for _, name := range names {
			r := made(rapid.SampledFrom([]string{LoadBalancer, TargetGroup}).Draw(t, "kind"), name, prefix.Draw(t, "prefix"), stack.Draw(t, "stack"))
			r.Tags[ClusterTag] = rapid.SampledFrom([]string{"bank", "bank", "other"}).Draw(t, "cluster")
			if r.Kind == TargetGroup {
				n := rapid.IntRange(0, 2).Draw(t, "targets")
				r = behind(with(r, Facts{Targets: n, Healthy: rapid.IntRange(0, n).Draw(t, "healthy")}), rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 2, rapid.ID).Draw(t, "balancers")...)
				c.Bound[r.ARN] = rapid.Bool().Draw(t, "bound")
			} else {
				r.Facts.Protected = rapid.Bool().Draw(t, "protected")
			}
			all = append(all, r)
		}
		j := Judge(all, c)
		orphan := map[string]bool{}
		for _, f := range j.Findings {
			orphan[f.ARN] = f.State == Orphan
		}
		there := func(r Resource) bool {
			for key, value := range r.Tags {
				switch {
				case strings.HasPrefix(key, "ingress") && (c.Ingresses[value] || c.Groups[value]),
					strings.HasPrefix(key, "service") && c.Services[value],
					strings.HasPrefix(key, "gateway") && (c.Gateways[value] || c.NoGateways):
					return true
				}
			}
			return false
		}
		for _, r := range all {
			if orphan[r.ARN] && (r.Tags[ClusterTag] != c.Name || there(r) || c.Bound[r.ARN] || r.Facts.Targets > 0 || r.Facts.Protected) {
				t.Fatalf("%+v is an orphan", r)
			}
			for _, lb := range r.LoadBalancers {
				if orphan[lb] && (r.Tags[ClusterTag] != c.Name || there(r) || c.Bound[r.ARN] || r.Facts.Healthy > 0) {
					t.Fatalf("%s is an orphan, which leads to %+v", lb, r)
				}
				if orphan[r.ARN] && !orphan[lb] {
					t.Fatalf("%+v is an orphan, and %s stays", r, lb)
				}
			}
		}
		for _, i := range Suspects(all, c) {
			delete(orphan, all[i].ARN)
		}
		for arn, is := range orphan {
			if is {
				t.Fatalf("%s is an orphan and was no suspect", arn)
			}
		}
	})
}
