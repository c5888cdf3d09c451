package main

import (
	"context"
	"encoding/json"
	"maps"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

func loadedPod(namespace, name, app string, ready corev1.ConditionStatus) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": app}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}, {Name: "sidecar"}}},
		Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}},
	}
}

func configMap(namespace string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: loadName}, Data: data}
}

func TestMetrics(t *testing.T) {
	ending := loadedPod("a", "ending", "web", corev1.ConditionTrue)
	ending.DeletionTimestamp = &metav1.Time{}
	objects := []runtime.Object{
		loadedPod("a", "w1", "web", corev1.ConditionTrue), loadedPod("a", "w2", "web", corev1.ConditionTrue),
		loadedPod("a", "d1", "db", corev1.ConditionTrue), loadedPod("a", "starting", "web", corev1.ConditionFalse), ending,
		loadedPod("b", "b1", "web", corev1.ConditionTrue), loadedPod("c", "c1", "web", corev1.ConditionTrue),
		configMap("a", map[string]string{"milli": "600"}),
		configMap("b", map[string]string{"milli": "900", "selector": "app=db"}),
	}
	api := metricsAPI{fake.NewClientset(objects...)}
	for path, want := range map[string]map[string]int64{
		"namespaces/a/pods":                       {"w1": 200, "w2": 200, "d1": 200},
		"namespaces/a/pods?labelSelector=app=web": {"w1": 300, "w2": 300},
		"namespaces/a/pods?labelSelector=app=no":  {},
		"namespaces/b/pods":                       {"b1": 0},
		"namespaces/c/pods":                       {"c1": 0},
		"pods?labelSelector=app%3Dweb":            {"w1": 300, "w2": 300, "b1": 0, "c1": 0},
	} {
		t.Run(path, func(t *testing.T) {
			if got := used(t, api, path); !maps.Equal(got, want) {
				t.Errorf("used %v, want %v", got, want)
			}
		})
	}
}

func TestLoadOfSomePods(t *testing.T) {
	api := metricsAPI{fake.NewClientset(
		loadedPod("a", "w1", "web", corev1.ConditionTrue), loadedPod("a", "d1", "db", corev1.ConditionTrue),
		configMap("a", map[string]string{"milli": "600", "selector": "app in (web)"}),
	)}
	if got, want := used(t, api, "namespaces/a/pods"), map[string]int64{"w1": 600, "d1": 0}; !maps.Equal(got, want) {
		t.Errorf("used %v, want %v", got, want)
	}
}

func TestWrongLoad(t *testing.T) {
	api := metricsAPI{fake.NewClientset(loadedPod("a", "w1", "web", corev1.ConditionTrue), configMap("a", map[string]string{"milli": "1.5"}))}
	answer := get(api, "/apis/metrics.k8s.io/v1beta1/namespaces/a/pods")
	if answer.Code != 500 || !strings.Contains(answer.Body.String(), "ConfigMap a/load") {
		t.Errorf("answers %d %s", answer.Code, answer.Body)
	}
}

func TestDiscovery(t *testing.T) {
	for path, want := range map[string]string{
		"/apis":                         "APIGroupList",
		"/apis/metrics.k8s.io":          "APIGroup",
		"/apis/metrics.k8s.io/v1beta1":  "APIResourceList",
		"/apis/metrics.k8s.io/v1alpha1": "",
	} {
		var kind metav1.TypeMeta
		_ = json.Unmarshal(get(metricsAPI{}, path).Body.Bytes(), &kind)
		if kind.Kind != want {
			t.Errorf("%s is %q, want %q", path, kind.Kind, want)
		}
	}
}

// used is the CPU that each pod of an answer uses.
func used(t *testing.T, api metricsAPI, path string) map[string]int64 {
	t.Helper()
	answer := get(api, "/apis/metrics.k8s.io/v1beta1/"+path)
	var list v1beta1.PodMetricsList
	if err := json.Unmarshal(answer.Body.Bytes(), &list); err != nil || answer.Code != 200 {
		t.Fatalf("answers %d %s", answer.Code, answer.Body)
	}
	used := map[string]int64{}
	for _, pod := range list.Items {
		for _, container := range pod.Containers {
			used[pod.Name] += container.Usage.Cpu().MilliValue()
		}
	}
	return used
}

func get(api metricsAPI, path string) *httptest.ResponseRecorder {
	answer := httptest.NewRecorder()
	api.handler().ServeHTTP(answer, httptest.NewRequestWithContext(context.Background(), "GET", path, nil))
	return answer
}
