package operator

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"dhow/api/v1alpha1"
	"dhow/internal/operator/expiry"
	"dhow/internal/operator/render"
)

const (
	// expiryEvery is how often certificates are looked at; expirySoon where one could not be.
	expiryEvery, expirySoon = 6 * time.Hour, 10 * time.Minute
	// expiryWorkers is how many Exposures' certificates are looked at at once.
	expiryWorkers = 2
	// httpsPort is where load balancers of requests listen.
	httpsPort = 443
	oneDay    = 24 * time.Hour
)

// expiryReconciler looks at the certificates that clients of an Exposure see. Where the policy
// does not ask for it, it looks at none, and takes away what an earlier one has said.
type expiryReconciler struct {
	client client.Client
	events events.EventRecorder
	count  *counters
	policy render.Policy
	now    func() time.Time
	dial   expiry.Dial
	ends   *prometheus.GaugeVec
}

// Reconcile looks at the certificates of one Exposure.
func (r *expiryReconciler) Reconcile(ctx context.Context, at reconcile.Request) (reconcile.Result, error) {
	e := &v1alpha1.Exposure{}
	if err := r.client.Get(ctx, at.NamespacedName, e); err != nil {
		if apierrors.IsNotFound(err) {
			r.ends.DeletePartialMatch(prometheus.Labels{"namespace": at.Namespace, "exposure": at.Name})
		}
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if e.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	var all []v1alpha1.CertificateState
	var again time.Duration
	for _, s := range servers(e, r.policy) {
		state := s.Look(ctx, r.dial, r.now(), time.Duration(r.policy.ExpiryDays)*oneDay)
		if err := ctx.Err(); err != nil {
			return reconcile.Result{}, err
		}
		one := v1alpha1.CertificateState{Host: s.Name, State: state.State, Message: state.Message}
		next := expirySoon
		if state.State != expiry.Unknown {
			next = expiryEvery
			one.NotAfter = ptr.To(metav1.NewTime(state.NotAfter))
		}
		if again == 0 || next < again {
			again = next
		}
		all = append(all, one)
	}
	r.ends.DeletePartialMatch(prometheus.Labels{"namespace": e.Namespace, "exposure": e.Name})
	for _, c := range all {
		if c.NotAfter != nil {
			r.ends.WithLabelValues(e.Namespace, e.Name, c.Host).Set(float64(c.NotAfter.Unix()))
		}
	}
	if equality.Semantic.DeepEqual(e.Status.Certificates, all) {
		return reconcile.Result{RequeueAfter: again}, nil
	}
	o := e.DeepCopy()
	o.Status.Certificates = all
	if err := r.client.Status().Patch(ctx, o, client.MergeFrom(e), client.FieldOwner(render.Manager)); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(fmt.Errorf("write the certificates of Exposure %s: %w", at, err))
	}
	r.count.statuses.Inc()
	for _, c := range all {
		was := slices.IndexFunc(e.Status.Certificates, func(x v1alpha1.CertificateState) bool { return x.Host == c.Host })
		if c.Message == "" || was >= 0 && e.Status.Certificates[was].State == c.State {
			continue
		}
		kind := corev1.EventTypeWarning
		if c.State == expiry.Unknown {
			kind = corev1.EventTypeNormal
		}
		r.events.Eventf(e, nil, kind, "Certificate"+c.State, "LookAtCertificate", "the certificate of %s: %s", c.Host, c.Message)
	}
	return reconcile.Result{RequeueAfter: again}, nil
}

// servers are those that show certificates for an Exposure: a load balancer's, and pods'
// through one.
func servers(e *v1alpha1.Exposure, p render.Policy) []expiry.Server {
	if p.ExpiryDays <= 0 || e.Spec.Visibility != v1alpha1.Public && e.Spec.Visibility != v1alpha1.Private || len(e.Status.LoadBalancers) == 0 {
		return nil
	}
	at := func(port int32) []string {
		var all []string
		for _, name := range e.Status.LoadBalancers {
			all = append(all, net.JoinHostPort(name, strconv.Itoa(int(port))))
		}
		return all
	}
	port, pods := int32(httpsPort), false
	if len(e.Spec.Ports) > 0 && !slices.ContainsFunc(e.Spec.Ports, func(x v1alpha1.Port) bool {
		return !slices.Contains([]v1alpha1.Protocol{v1alpha1.TCP, v1alpha1.UDP, v1alpha1.TLSPass}, x.Protocol)
	}) {
		i := slices.IndexFunc(e.Spec.Ports, func(x v1alpha1.Port) bool { return x.Protocol == v1alpha1.TLSPass })
		if i < 0 {
			return nil
		}
		port, pods = e.Spec.Ports[i].Port, true
	}
	var all []expiry.Server
	for _, host := range render.Hosts(e, p) {
		all = append(all, expiry.Server{Addresses: at(port), Name: host, Pods: pods})
	}
	return all
}

// certificates says in a condition what is known of the certificates, the worst first.
func (s *state) certificates() {
	all := s.Status.Certificates
	if len(all) == 0 {
		meta.RemoveStatusCondition(&s.Status.Conditions, v1alpha1.CertificatesValid)
		return
	}
	status, reason := metav1.ConditionTrue, expiry.Valid
	var words []string
	for _, worst := range []string{expiry.Ended, expiry.WrongName, expiry.Ending, expiry.Unknown} {
		for _, c := range all {
			if c.State != worst {
				continue
			}
			if len(words) == 0 {
				status, reason = metav1.ConditionFalse, worst
			}
			words = append(words, c.Host+": "+c.Message)
		}
	}
	if reason == expiry.Unknown {
		status = metav1.ConditionUnknown
	}
	if len(words) == 0 {
		words = []string{"clients see certificates that are good"}
	}
	s.set(v1alpha1.CertificatesValid, status, reason, strings.Join(words, "; "))
}

// certificatesChanged lets through what changes the condition of certificates.
func certificatesChanged() predicate.Predicate {
	return predicate.Funcs{CreateFunc: never[event.CreateEvent], DeleteFunc: never[event.DeleteEvent], GenericFunc: never[event.GenericEvent], UpdateFunc: func(e event.UpdateEvent) bool {
		old, ok := e.ObjectOld.(*v1alpha1.Exposure)
		now, alike := e.ObjectNew.(*v1alpha1.Exposure)
		return ok && alike && !equality.Semantic.DeepEqual(old.Status.Certificates, now.Status.Certificates)
	}}
}

func never[E any](E) bool { return false }

// balancersChanged lets through Exposures that got load balancers.
func balancersChanged() predicate.Predicate {
	return predicate.Funcs{CreateFunc: never[event.CreateEvent], DeleteFunc: never[event.DeleteEvent], GenericFunc: never[event.GenericEvent], UpdateFunc: func(e event.UpdateEvent) bool {
		old, ok := e.ObjectOld.(*v1alpha1.Exposure)
		now, alike := e.ObjectNew.(*v1alpha1.Exposure)
		return ok && alike && !slices.Equal(old.Status.LoadBalancers, now.Status.LoadBalancers)
	}}
}

// expiryGauge is the metric of when certificates end.
func expiryGauge() *prometheus.GaugeVec {
	return gauges("certificate_expires_timestamp_seconds", "When the certificate ends that clients of an Exposure see.", "namespace", "exposure", "host")
}

// registerExpiry lets Exposures wake the controller; then it wakes itself.
func registerExpiry(m manager.Manager, r *expiryReconciler) error {
	err := builder.ControllerManagedBy(m).Named("certificates").For(&v1alpha1.Exposure{}, builder.WithPredicates(predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}, balancersChanged()))).
		WithOptions(controller.Options{MaxConcurrentReconciles: expiryWorkers, ReconciliationTimeout: workTime, RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry)}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("make the controller of certificates: %w", err)
	}
	return nil
}
