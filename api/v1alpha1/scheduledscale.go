package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ScheduledScale says how many pods a workload has at least and at most, by the calendar.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=sched,categories=dhow
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=`.spec.target.name`
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`
// +kubebuilder:printcolumn:name="Window",type=string,JSONPath=`.status.now.window`
// +kubebuilder:printcolumn:name="Min",type=integer,JSONPath=`.status.now.min`
// +kubebuilder:printcolumn:name="Max",type=integer,JSONPath=`.status.now.max`
// +kubebuilder:printcolumn:name="Until",type=string,JSONPath=`.status.now.until`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Next",type=string,JSONPath=`.status.next.window`,priority=1
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
type ScheduledScale struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec ScheduledScaleSpec `json:"spec"`
	// +optional
	Status ScheduledScaleStatus `json:"status,omitempty"`
}

// ScheduledScaleList is a list of them.
//
// +kubebuilder:object:root=true
type ScheduledScaleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ScheduledScale `json:"items"`
}

// Mode says whether something is done, or only told.
//
// +kubebuilder:validation:Enum=DryRun;Apply
type Mode string

// The modes.
const (
	DryRun Mode = "DryRun"
	Apply  Mode = "Apply"
)

// ScheduledScaleSpec is what is wanted.
//
// +kubebuilder:validation:XValidation:rule="self.target.kind in ['Deployment', 'StatefulSet', 'Rollout'] || self.windows.all(w, (!has(w.min) || w.min > 0) && (!has(w.max) || w.max > 0))",message="an autoscaler keeps one pod at least: for none at all, let the target be the workload itself"
// +kubebuilder:validation:XValidation:rule="self.target.kind in ['Deployment', 'StatefulSet', 'Rollout'] || !has(self.otherwise) || ((!has(self.otherwise.min) || self.otherwise.min > 0) && (!has(self.otherwise.max) || self.otherwise.max > 0))",message="an autoscaler keeps one pod at least: for none at all, let the target be the workload itself"
type ScheduledScaleSpec struct {
	// target is what is scaled, in the ScheduledScale's namespace.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the target can not be changed: make another ScheduledScale, and delete this one"
	// +required
	Target ScaleTarget `json:"target"`
	// timeZone in which the windows are meant, by its name of the IANA, as Asia/Dubai.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^(UTC|[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)+)$`
	// +kubebuilder:validation:XValidation:rule="timestamp('2026-01-01T00:00:00Z').getFullYear(self) > 0",message="there is no such time zone: name one of the IANA, as Asia/Dubai"
	// +required
	TimeZone string `json:"timeZone"`
	// mode DryRun tells in the status what would be done, and does nothing.
	// +kubebuilder:default=DryRun
	// +optional
	Mode Mode `json:"mode,omitempty"`
	// windows are times, and what holds in them. Where several hold, that of the highest
	// priority does; of the same priority, the one with the larger min, then with the larger
	// max, then the first by name.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +required
	Windows []ScaleWindow `json:"windows"`
	// otherwise holds where no window does; without it, what the target has by itself.
	// +optional
	Otherwise *ScaleBounds `json:"otherwise,omitempty"`
	// holidays are days that are not as others: each window says what it makes of them.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	// +optional
	Holidays []Holiday `json:"holidays,omitempty"`
	// adopt lets it take the numbers of a target that another program has set. It takes them
	// once a window: who sets them again keeps them until the next.
	// +optional
	Adopt bool `json:"adopt,omitempty"`
}

// ScaleTarget names what is scaled.
type ScaleTarget struct {
	// kind Exposure or HorizontalPodAutoscaler is what adds and removes pods within bounds; a
	// workload that nothing scales has its number of pods brought into the bounds.
	// +kubebuilder:validation:Enum=Exposure;HorizontalPodAutoscaler;Deployment;StatefulSet;Rollout
	// +kubebuilder:default=Exposure
	// +optional
	Kind string `json:"kind,omitempty"`
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name"`
}

// ScaleBounds are the least and the largest number of pods. What is left out is the
// target's own, moved only where the other one demands it.
//
// +kubebuilder:validation:XValidation:rule="has(self.min) || has(self.max)",message="give min, max, or both"
// +kubebuilder:validation:XValidation:rule="!has(self.min) || !has(self.max) || self.min <= self.max",message="min must not be above max"
type ScaleBounds struct {
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	// +optional
	Min *int32 `json:"min,omitempty"`
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	// +optional
	Max *int32 `json:"max,omitempty"`
}

// ScaleWindow is when something holds: from one time of the day to another, or for a while
// from each time that a cron expression names. A time that the clock does not show, because
// it is put forward over it, is the moment at which it is put forward; one that it shows
// twice is the first of them.
//
// +kubebuilder:validation:XValidation:rule="(has(self.from) && has(self.to) && !has(self.cron) && !has(self.for)) || (!has(self.from) && !has(self.to) && has(self.cron) && has(self.for))",message="give from and to, or cron and for"
// +kubebuilder:validation:XValidation:rule="!has(self.days) || !has(self.cron)",message="a cron expression names the days itself: leave days out"
// +kubebuilder:validation:XValidation:rule="!has(self.from) || !has(self.to) || self.from != self.to",message="from and to are the same: for a whole day, give 00:00 and 24:00"
type ScaleWindow struct {
	// name of the window.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +required
	Name string `json:"name"`
	// days of the week on which it begins; without any, every day.
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=7
	// +optional
	Days []Weekday `json:"days,omitempty"`
	// from is when it begins, as 08:00.
	// +kubebuilder:validation:MaxLength=5
	// +kubebuilder:validation:Pattern=`^([01][0-9]|2[0-3]):[0-5][0-9]$`
	// +optional
	From string `json:"from,omitempty"`
	// to is when it ends, as 20:00 or 24:00; where it is not after from, on the next day.
	// +kubebuilder:validation:MaxLength=5
	// +kubebuilder:validation:Pattern=`^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$`
	// +optional
	To string `json:"to,omitempty"`
	// cron is when it begins: minute, hour, day of the month, month, day of the week. At most
	// 24 times a day.
	// +kubebuilder:validation:MaxLength=100
	// +kubebuilder:validation:Pattern=`^[0-9*/,-]+ [0-9*/,-]+ [0-9*/,?-]+ [0-9A-Za-z*/,-]+ [0-9A-Za-z*/,?-]+$`
	// +optional
	Cron string `json:"cron,omitempty"`
	// for is how long it holds from then on.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('168h')",message="for must be from 1m to 168h"
	// +optional
	For *metav1.Duration `json:"for,omitempty"`
	// between are the days among which it begins; without it, all.
	// +optional
	Between *Days `json:"between,omitempty"`
	// holidays says what it makes of holidays: Skip does not begin on one, Only on no other day.
	// +kubebuilder:validation:Enum=Skip;Keep;Only
	// +kubebuilder:default=Skip
	// +optional
	Holidays string `json:"holidays,omitempty"`
	// priority of the window where several hold: the highest does.
	// +kubebuilder:validation:Minimum=-1000
	// +kubebuilder:validation:Maximum=1000
	// +optional
	Priority int32 `json:"priority,omitempty"`

	ScaleBounds `json:",inline"`
}

// What a window makes of holidays.
const (
	HolidaysSkip = "Skip"
	HolidaysKeep = "Keep"
	HolidaysOnly = "Only"
)

// Weekday is a day of the week.
//
// +kubebuilder:validation:Enum=Mon;Tue;Wed;Thu;Fri;Sat;Sun
type Weekday string

// Day is a day of one year, as 2026-12-02, or of each, as 12-02.
//
// +kubebuilder:validation:MaxLength=10
// +kubebuilder:validation:Pattern=`^([0-9]{4}-)?[0-9]{2}-[0-9]{2}$`
// +kubebuilder:validation:XValidation:rule="timestamp((size(self) == 5 ? '2024-' + self : self) + 'T00:00:00Z').getFullYear() >= 0",message="there is no such day"
type Day string

// Days are days in a row, the first and the last among them.
//
// +kubebuilder:validation:XValidation:rule="!has(self.to) || size(self.from) == size(self.to)",message="give the year in both from and to, or in none"
// +kubebuilder:validation:XValidation:rule="!has(self.to) || size(self.from) != 10 || self.from <= self.to",message="from must not be after to"
type Days struct {
	// from is the first day.
	// +required
	From Day `json:"from"`
	// to is the last; without it, the same. Without years it may be before from: then they
	// are those around a new year.
	// +optional
	To Day `json:"to,omitempty"`
}

// Holiday is one, or several in a row.
type Holiday struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Name string `json:"name"`

	Days `json:",inline"`
}

// ScheduledScaleStatus is what is.
type ScheduledScaleStatus struct {
	// observedGeneration is the generation that this status tells of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// now is what holds.
	// +optional
	Now *ScaleMoment `json:"now,omitempty"`
	// next is what comes after it; without it, nothing changes for more than a year.
	// +optional
	Next *ScaleMoment `json:"next,omitempty"`
	// before are the target's own numbers, which it is given back.
	// +optional
	Before *ScaleNumbers `json:"before,omitempty"`
	// applied are the numbers that the target was given last.
	// +optional
	Applied *ScaleApplied `json:"applied,omitempty"`
}

// ScaleMoment is what holds for a while.
type ScaleMoment struct {
	// window that holds; without one, none does.
	// +optional
	Window string `json:"window,omitempty"`
	// yield are windows of which the time is too, and which yield to it.
	// +listType=atomic
	// +optional
	Yield []string `json:"yield,omitempty"`
	// min and max are the window's; without them, the target's own.
	// +optional
	Min *int32 `json:"min,omitempty"`
	// +optional
	Max *int32 `json:"max,omitempty"`
	// from and until are when it begins and ends, where that is known.
	// +optional
	From *metav1.Time `json:"from,omitempty"`
	// +optional
	Until *metav1.Time `json:"until,omitempty"`
}

// ScaleNumbers are a target's. Those of a workload that nothing scales are both its number of pods.
type ScaleNumbers struct {
	Min int32 `json:"min"`
	Max int32 `json:"max"`
	// manager is the field manager that had set them.
	// +optional
	Manager string `json:"manager,omitempty"`
}

// ScaleApplied are numbers that a target was given.
type ScaleApplied struct {
	// window for which it was given them.
	// +optional
	Window string `json:"window,omitempty"`
	Min    int32  `json:"min"`
	Max    int32  `json:"max"`
}
