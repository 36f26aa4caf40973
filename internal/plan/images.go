package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"dhow/internal/inventory"
)

const (
	// unknownAccount and unknownDigest stand where a value is to be filled in: of the right
	// form, so that the manifests are whole.
	unknownAccount = "000000000000"
	unknownDigest  = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
)

// copyImages gives each image its place in ECR, and the digest by which it is named.
func (m *maker) copyImages() error {
	byText := map[string]*Image{}
	taken := map[string]string{}
	for _, u := range m.units {
		for _, b := range u.containers {
			i := &b.c.Image
			one := byText[i.Text]
			if one == nil {
				one = &Image{Source: i.Text, Repository: m.repository(i, taken), Digest: m.digest(i)}
				byText[i.Text] = one
			}
			if !slices.Contains(one.UsedBy, u.id()) {
				one.UsedBy = append(one.UsedBy, u.id())
			}
			b.image = m.registry() + "/" + one.Repository + "@" + cmp.Or(one.Digest, unknownDigest)
			for _, key := range []string{i.Text, u.id(), u.name} {
				// A workload's name stands for its first container that stays.
				if given := m.o.Images[key]; given != "" && (key == i.Text || b == u.mainBox()) {
					b.image = given
					_, one.Digest, _ = strings.Cut(given, "@")
					break
				}
			}
			if b.c.ImagePullPolicy == "Always" {
				u.change("imagePullPolicy of "+b.name, "Always", "IfNotPresent", "a digest always names the same image: no start needs the registry")
			}
			if i.Digest == "" {
				u.change("image of "+b.name, i.Text, "by digest, in "+one.Repository, "a tag may name another image tomorrow")
			}
		}
	}
	var unknown []string
	for _, one := range byText {
		if one.Digest == "" {
			one.Note = "nobody has said which image it is: `dhow plan --context` reads what runs, or name it under images in the options"
			unknown = append(unknown, one.Source)
		}
		slices.Sort(one.UsedBy)
		m.plan.Images = append(m.plan.Images, *one)
	}
	if len(unknown) > 0 {
		m.decide(Decision{What: fmt.Sprintf("%s named without a digest: in the manifests it is all zeros", map[bool]string{true: "1 image is", false: fmt.Sprintf("%d images are", len(unknown))}[len(unknown) == 1]),
			Do: "let `dhow plan` read the live cluster too, which knows what runs, or name each under images in the options", Blocks: true})
	}
	slices.SortFunc(m.plan.Images, func(a, b Image) int { return strings.Compare(a.Source, b.Source) })
	return nil
}

// registry is ECR's of the production account, in the primary region.
func (m *maker) registry() string {
	return cmp.Or(m.o.Accounts[production], unknownAccount) + ".dkr.ecr." + m.primary.Name + ".amazonaws.com"
}

// repository is an image's in ECR: as it was, or below the plan's name where it had no
// folder; two registries' images of one name get the registry's in front.
func (m *maker) repository(i *inventory.Image, taken map[string]string) string {
	name := strings.ToLower(strings.TrimPrefix(i.Repository, "library/"))
	if !strings.Contains(name, "/") {
		name = m.plan.Name + "/" + name
	}
	whole := i.Registry + "/" + i.Repository
	if of, ok := taken[name]; ok && of != whole {
		name = label(i.Registry) + "/" + name
	}
	taken[name] = whole
	return name
}

// digest is which image a name means: as it is written, or as all pods run it.
func (m *maker) digest(i *inventory.Image) string {
	if i.Digest != "" {
		return i.Digest
	}
	for _, known := range m.inv.Images {
		if known.Text == i.Text && len(known.Running) == 1 {
			return known.Running[0]
		}
	}
	return ""
}

// mainBox is a unit's first container that stays, nil without one.
func (u *unit) mainBox() *box {
	for _, b := range u.containers {
		if !b.c.Init {
			return b
		}
	}
	return nil
}
