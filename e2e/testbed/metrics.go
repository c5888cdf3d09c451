package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
	"k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// The ConfigMap of a namespace that says how much CPU its pods use.
const (
	loadName     = "load"
	loadMilli    = "milli"    // thousandths of a CPU, of all pods together
	loadSelector = "selector" // of the pods that share them; where absent, the pods that were asked for
)

// metricsAPI answers metrics.k8s.io with the loads that tests write.
type metricsAPI struct{ client kubernetes.Interface }

// startMetricsAPI serves metrics.k8s.io with the API server's certificate, and has the API server ask here.
func startMetricsAPI(ctx context.Context, s *server, failed chan error) error {
	client, err := kubernetes.NewForConfig(s.config)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		err := http.ServeTLS(listener, (&metricsAPI{client}).handler(), s.certificate, s.certKey)
		failed <- fmt.Errorf("the metrics API: %w", err)
	}()
	if err := createService(ctx, client, failed); err != nil {
		return err
	}
	aggregator, err := aggregator.NewForConfig(s.config)
	if err != nil {
		return err
	}
	return registerMetricsAPI(ctx, aggregator, int32(listener.Addr().(*net.TCPAddr).Port), failed)
}

// createService creates the Service that leads here: only an external name may be on loopback.
func createService(ctx context.Context, client kubernetes.Interface, failed <-chan error) error {
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "metrics"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "localhost"},
	}
	// The namespace appears a moment after the API server is ready.
	return poll(ctx, failed, func() error {
		_, err := client.CoreV1().Services(metav1.NamespaceSystem).Create(ctx, service, metav1.CreateOptions{})
		return err
	})
}

// registerMetricsAPI registers the API and waits until the API server has reached it.
func registerMetricsAPI(ctx context.Context, client aggregator.Interface, port int32, failed <-chan error) error {
	group := v1beta1.SchemeGroupVersion
	api := client.ApiregistrationV1().APIServices()
	registered, err := api.Create(ctx, &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: group.Version + "." + group.Group},
		Spec: apiregistrationv1.APIServiceSpec{
			Service:               &apiregistrationv1.ServiceReference{Namespace: metav1.NamespaceSystem, Name: "metrics", Port: &port},
			Group:                 group.Group,
			Version:               group.Version,
			InsecureSkipTLSVerify: true,
			GroupPriorityMinimum:  100,
			VersionPriority:       100,
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	return poll(ctx, failed, func() error {
		registered, err = api.Get(ctx, registered.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range registered.Status.Conditions {
			if condition.Type == apiregistrationv1.Available && condition.Status == apiregistrationv1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("it is not available: %v", registered.Status.Conditions)
	})
}

// handler answers discovery and lists of pods; who may ask is the API server's business, which asked RBAC.
func (m *metricsAPI) handler() http.Handler {
	version := metav1.GroupVersionForDiscovery{GroupVersion: v1beta1.SchemeGroupVersion.String(), Version: v1beta1.SchemeGroupVersion.Version}
	group := metav1.APIGroup{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}, Name: v1beta1.GroupName,
		Versions: []metav1.GroupVersionForDiscovery{version}, PreferredVersion: version,
	}
	groups := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{group}}
	resources := metav1.APIResourceList{
		TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: version.GroupVersion,
		APIResources: []metav1.APIResource{{Name: "pods", Namespaced: true, Kind: "PodMetrics", Verbs: metav1.Verbs{"list"}}},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /apis", always(groups))
	mux.HandleFunc("GET /apis/"+group.Name, always(group))
	mux.HandleFunc("GET /apis/"+version.GroupVersion, always(resources))
	mux.HandleFunc("GET /apis/"+version.GroupVersion+"/pods", m.servePods)
	mux.HandleFunc("GET /apis/"+version.GroupVersion+"/namespaces/{namespace}/pods", m.servePods)
	return mux
}

func always(answer any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { reply(w, answer) }
}

func reply(w http.ResponseWriter, answer any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

func (m *metricsAPI) servePods(w http.ResponseWriter, r *http.Request) {
	asked, err := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	// The path of all namespaces has no namespace, which lists them all.
	list, err := m.podMetrics(r.Context(), r.PathValue("namespace"), asked, time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	reply(w, list)
}

// podMetrics are those of the ready pods that were asked for.
func (m *metricsAPI) podMetrics(ctx context.Context, namespace string, asked labels.Selector, now time.Time) (*v1beta1.PodMetricsList, error) {
	pods, err := m.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	ready := map[string][]corev1.Pod{}
	for _, pod := range pods.Items {
		// A pod that ends gets no more requests, even if it is ready still.
		if isTrue(&pod, corev1.PodReady) && pod.DeletionTimestamp == nil {
			ready[pod.Namespace] = append(ready[pod.Namespace], pod)
		}
	}
	list := &v1beta1.PodMetricsList{TypeMeta: metav1.TypeMeta{Kind: "PodMetricsList", APIVersion: v1beta1.SchemeGroupVersion.String()}, Items: []v1beta1.PodMetrics{}}
	for namespace, pods := range ready {
		load, err := m.load(ctx, namespace, asked)
		if err != nil {
			return nil, err
		}
		share := load.share(pods)
		for _, pod := range matching(pods, asked) {
			used := int64(0)
			if load.pods.Matches(labels.Set(pod.Labels)) {
				used = share
			}
			list.Items = append(list.Items, metricsOf(&pod, used, now))
		}
	}
	return list, nil
}

// load is what some pods of a namespace use together.
type load struct {
	milli int64
	pods  labels.Selector
}

// load reads a namespace's load, which is none where no ConfigMap says it.
func (m *metricsAPI) load(ctx context.Context, namespace string, asked labels.Selector) (load, error) {
	config, err := m.client.CoreV1().ConfigMaps(namespace).Get(ctx, loadName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return load{0, asked}, nil
	}
	if err != nil {
		return load{}, err
	}
	found := load{0, asked}
	var failures []error
	if text, ok := config.Data[loadMilli]; ok {
		found.milli, err = strconv.ParseInt(text, 10, 64)
		failures = append(failures, err)
	}
	if text, ok := config.Data[loadSelector]; ok {
		found.pods, err = labels.Parse(text)
		failures = append(failures, err)
	}
	if err := errors.Join(failures...); err != nil {
		return load{}, fmt.Errorf("ConfigMap %s/%s: %w", namespace, loadName, err)
	}
	return found, nil
}

// share is what each of the pods that carry the load uses.
func (l load) share(pods []corev1.Pod) int64 {
	return l.milli / max(1, int64(len(matching(pods, l.pods))))
}

func matching(pods []corev1.Pod, selector labels.Selector) []corev1.Pod {
	var found []corev1.Pod
	for _, pod := range pods {
		if selector.Matches(labels.Set(pod.Labels)) {
			found = append(found, pod)
		}
	}
	return found
}

// metricsOf says that a pod's first container used so much CPU in the last second, and the others none.
func metricsOf(pod *corev1.Pod, milli int64, now time.Time) v1beta1.PodMetrics {
	metrics := v1beta1.PodMetrics{
		ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace, Labels: pod.Labels, CreationTimestamp: metav1.NewTime(now)},
		Timestamp:  metav1.NewTime(now), Window: metav1.Duration{Duration: time.Second},
	}
	for _, container := range pod.Spec.Containers {
		usage := corev1.ResourceList{corev1.ResourceCPU: *resource.NewMilliQuantity(milli, resource.DecimalSI)}
		metrics.Containers = append(metrics.Containers, v1beta1.ContainerMetrics{Name: container.Name, Usage: usage})
		milli = 0
	}
	return metrics
}
