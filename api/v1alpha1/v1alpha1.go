// Package v1alpha1 is the operator's API: the group dhow.dev in its first version.
// An Exposure says who may reach a workload and how its requests are spread; everything
// that this takes in the cluster is made from it. A ScheduledScale says how many pods a
// workload has by the calendar. The types decide nothing: what may stand in them is checked
// by the API server, by rules that the definitions carry.
//
// +kubebuilder:object:generate=true
// +groupName=dhow.dev
package v1alpha1

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

//go:generate go tool controller-gen object crd:crdVersions=v1 paths=. output:crd:dir=../../deploy/crd output:object:dir=.

// Group and Version are those of this package's kinds.
const (
	Group   = "dhow.dev"
	Version = "v1alpha1"
)

// GroupVersion is both.
//
//nolint:gochecknoglobals // a constant, as every API package has it
var GroupVersion = schema.GroupVersion{Group: Group, Version: Version}

// AddToScheme lets a client know the kinds of this package.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &Exposure{}, &ExposureList{}, &ScheduledScale{}, &ScheduledScaleList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
