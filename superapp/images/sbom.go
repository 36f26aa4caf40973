package images

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"runtime/debug"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	spdxMediaType  = "application/spdx+json"
	emptyMediaType = "application/vnd.oci.empty.v1+json"
	emptyConfig    = "{}"
	// spdxCreated stands where SPDX demands a time: the bill depends on no clock.
	spdxCreated = "1970-01-01T00:00:00Z"
	noAssertion = "NOASSERTION"
)

// spdx is the part of SPDX 2.3's document that is written here.
type spdx struct {
	Version     string `json:"spdxVersion"`
	DataLicense string `json:"dataLicense"`
	ID          string `json:"SPDXID"`
	Name        string `json:"name"`
	// Namespace makes the document's name unique; here it follows from the binary.
	Namespace     string             `json:"documentNamespace"`
	Creation      spdxCreation       `json:"creationInfo"`
	Packages      []spdxPackage      `json:"packages"`
	Relationships []spdxRelationship `json:"relationships"`
}

type spdxCreation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	ID       string `json:"SPDXID"`
	Name     string `json:"name"`
	Version  string `json:"versionInfo"`
	Download string `json:"downloadLocation"`
	Analyzed bool   `json:"filesAnalyzed"`
	License  string `json:"licenseConcluded"`
	Declared string `json:"licenseDeclared"`
	Copy     string `json:"copyrightText"`
	// Source holds a module's checksum as go.sum writes it, which is none of a file.
	Source    string         `json:"sourceInfo,omitempty"`
	Checksums []spdxChecksum `json:"checksums,omitempty"`
	Purpose   string         `json:"primaryPackagePurpose"`
	External  []spdxExternal `json:"externalRefs,omitempty"`
}

type spdxChecksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type spdxExternal struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type spdxRelationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

// bill is the bill of materials of a binary, from what the linker wrote into it:
// the modules that it is made of, and the toolchain's own library.
func bill(info *debug.BuildInfo, content []byte) ([]byte, error) {
	sum := sha256.Sum256(content)
	digest := hex.EncodeToString(sum[:])
	name := path.Base(info.Path)
	d := spdx{
		Version: "SPDX-2.3", DataLicense: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: name,
		Namespace: "https://spdx.org/spdxdocs/" + name + "-" + digest,
		Creation:  spdxCreation{Created: spdxCreated, Creators: []string{"Tool: dhow-images"}},
	}
	binary := newPackage(info.Path, info.Main.Version, "APPLICATION")
	binary.Checksums = []spdxChecksum{{"SHA256", digest}}
	d.Packages = append(d.Packages, binary)
	d.relate(d.ID, "DESCRIBES", binary.ID)
	for _, m := range info.Deps {
		from := ""
		if m.Replace != nil {
			m, from = m.Replace, "in the place of "+m.Path+" "+m.Version+"; "
		}
		p := newPackage(m.Path, m.Version, "LIBRARY")
		p.Source = strings.TrimSpace(from + "go.sum " + m.Sum)
		p.External = []spdxExternal{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + m.Path + "@" + m.Version}}
		d.Packages = append(d.Packages, p)
		d.relate(binary.ID, "DEPENDS_ON", p.ID)
	}
	library := newPackage("stdlib", strings.TrimPrefix(info.GoVersion, "go"), "LIBRARY")
	library.External = []spdxExternal{{"PACKAGE-MANAGER", "purl", "pkg:golang/stdlib@" + library.Version}}
	d.Packages = append(d.Packages, library)
	d.relate(binary.ID, "DEPENDS_ON", library.ID)
	text, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the bill of materials of %s: %w", info.Path, err)
	}
	return append(text, '\n'), nil
}

// withFiles adds the files that are not the program's own to its bill of
// materials: each with its checksum, and the package that it is from.
func withFiles(sbom []byte, files []File) ([]byte, error) {
	if len(files) == 0 {
		return sbom, nil
	}
	var d spdx
	if err := json.Unmarshal(sbom, &d); err != nil {
		return nil, fmt.Errorf("read the bill of materials again: %w", err)
	}
	binary := d.Packages[0].ID
	for _, f := range files {
		sum := sha256.Sum256(f.Content)
		p := newPackage("/"+f.Name, f.Version, "FILE")
		p.Checksums = []spdxChecksum{{"SHA256", hex.EncodeToString(sum[:])}}
		if f.Origin != "" {
			p.Source = "of the package " + f.Origin + " " + f.Version
		}
		d.Packages = append(d.Packages, p)
		d.relate(binary, "DEPENDS_ON", p.ID)
	}
	text, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the bill of materials: %w", err)
	}
	return append(text, '\n'), nil
}

func (d *spdx) relate(element, kind, related string) {
	d.Relationships = append(d.Relationships, spdxRelationship{element, kind, related})
}

// notInID are the characters that an SPDX identifier can not have.
var notInID = regexp.MustCompile(`[^a-zA-Z0-9.-]`)

func newPackage(name, version, purpose string) spdxPackage {
	return spdxPackage{
		ID:   "SPDXRef-" + notInID.ReplaceAllString(name+"-"+version, "-"),
		Name: name, Version: version, Purpose: purpose,
		Download: noAssertion, License: noAssertion, Declared: noAssertion, Copy: noAssertion,
	}
}

// attached is the bill of materials as a registry keeps it: an artifact that
// refers to the image.
func (i Image) attached() (v1.Image, error) {
	layer := static.NewLayer(i.SBOM, spdxMediaType)
	subject, err := partial.Descriptor(i.Image)
	if err != nil {
		return nil, fmt.Errorf("describe the image %s: %w", i.Name, err)
	}
	// A referrer names its subject by these three, see the specification of OCI images.
	subject = &v1.Descriptor{MediaType: subject.MediaType, Size: subject.Size, Digest: subject.Digest}
	content, err := partial.Descriptor(layer)
	if err != nil {
		return nil, fmt.Errorf("describe the bill of materials of %s: %w", i.Name, err)
	}
	digest, size, err := v1.SHA256(strings.NewReader(emptyConfig))
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal(v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		ArtifactType:  spdxMediaType,
		Config:        v1.Descriptor{MediaType: emptyMediaType, Size: size, Digest: digest},
		Layers:        []v1.Descriptor{*content},
		Subject:       subject,
	})
	if err != nil {
		return nil, fmt.Errorf("write the manifest of the bill of materials of %s: %w", i.Name, err)
	}
	return partial.CompressedToImage(artifact{manifest: manifest, layer: layer})
}

// artifact is what a registry keeps that is no image: one file, and no configuration.
type artifact struct {
	manifest []byte
	layer    v1.Layer
}

func (a artifact) RawManifest() ([]byte, error)        { return bytes.Clone(a.manifest), nil }
func (a artifact) RawConfigFile() ([]byte, error)      { return []byte(emptyConfig), nil }
func (a artifact) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (a artifact) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	if digest, err := a.layer.Digest(); err != nil || digest != h {
		return nil, fmt.Errorf("the artifact has no layer %s", h)
	}
	return a.layer, nil
}
