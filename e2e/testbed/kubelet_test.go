package main

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const gate = corev1.PodConditionType("example.dev/gate")

// played is a pod after its first status was written at the given time.
func played(t *testing.T, pod *corev1.Pod, at time.Time) *corev1.Pod {
	t.Helper()
	status, _ := nextStatus(pod, "10.244.0.1", at, true)
	if status == nil {
		t.Fatal("a new pod has no status to write")
	}
	pod.Status = *status
	return pod
}

func newPod(annotations map[string]string, gates ...corev1.PodReadinessGate) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Annotations: annotations},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}, ReadinessGates: gates},
	}
}

func TestReadiness(t *testing.T) {
	start := time.Unix(1000, 0)
	for name, want := range map[string]struct {
		pod   *corev1.Pod
		after time.Duration
		ready bool
		again bool
	}{
		"not at once":              {newPod(nil), 0, false, true},
		"after its delay":          {newPod(nil), time.Second, true, false},
		"a longer delay":           {newPod(map[string]string{readyAfter: "12s"}), 11 * time.Second, false, true},
		"never":                    {newPod(map[string]string{neverReady: "true"}), time.Hour, false, false},
		"waiting":                  {newPod(map[string]string{waitingReason: "CrashLoopBackOff"}), time.Hour, false, false},
		"a gate that nobody opens": {newPod(nil, corev1.PodReadinessGate{ConditionType: gate}), time.Second, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			pod := played(t, want.pod, start)
			status, again := nextStatus(pod, "10.244.0.1", start.Add(want.after), true)
			if status != nil {
				pod.Status = *status
			}
			if got := isTrue(pod, corev1.PodReady); got != want.ready {
				t.Errorf("ready is %v, want %v", got, want.ready)
			}
			if (again > 0) != want.again {
				t.Errorf("looks again after %v", again)
			}
		})
	}
}

func TestGateOpensAndForeignConditionsStay(t *testing.T) {
	start := time.Unix(1000, 0)
	pod := played(t, newPod(nil, corev1.PodReadinessGate{ConditionType: gate}), start)
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: gate, Status: corev1.ConditionTrue})
	status, _ := nextStatus(pod, "10.244.0.1", start.Add(time.Second), true)
	pod.Status = *status
	if !isTrue(pod, corev1.PodReady) || !isTrue(pod, gate) {
		t.Errorf("conditions are %v", pod.Status.Conditions)
	}
}

func TestNothingToWriteTwice(t *testing.T) {
	start := time.Unix(1000, 0)
	pod := played(t, newPod(nil), start)
	status, _ := nextStatus(pod, "10.244.0.1", start.Add(time.Second), true)
	pod.Status = *status
	if again, _ := nextStatus(pod, "10.244.0.1", start.Add(2*time.Second), true); again != nil {
		t.Errorf("writes again: %v", again)
	}
}

func TestPodThatDoesNotListenIsNotReady(t *testing.T) {
	start := time.Unix(1000, 0)
	pod := played(t, newPod(nil), start)
	later := start.Add(time.Second)
	if _, again := nextStatus(pod, "10.244.0.1", later, false); again != probeUnready {
		t.Errorf("tries again after %v", again)
	}
	status, _ := nextStatus(pod, "10.244.0.1", later, true)
	pod.Status = *status
	status, _ = nextStatus(pod, "10.244.0.1", later.Add(time.Second), false)
	if status == nil {
		t.Fatal("a pod that stopped listening stays ready")
	}
	pod.Status = *status
	if isTrue(pod, corev1.PodReady) {
		t.Error("a pod that does not listen is ready")
	}
}

func TestProbedPortIsTheFirst(t *testing.T) {
	pod := newPod(nil)
	if port := probedPort(pod); port != 0 {
		t.Errorf("a pod without ports is probed at %d", port)
	}
	pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 8080}, {ContainerPort: 9090}}
	if port := probedPort(pod); port != 8080 {
		t.Errorf("probed at %d", port)
	}
}

func TestExit(t *testing.T) {
	start := time.Unix(1000, 0)
	for name, want := range map[string]struct {
		annotations map[string]string
		after       time.Duration
		phase       corev1.PodPhase
		again       bool
	}{
		"runs on":            {nil, time.Hour, corev1.PodRunning, false},
		"at once":            {map[string]string{exitCode: "0"}, 0, corev1.PodSucceeded, false},
		"not before its end": {map[string]string{exitCode: "0", exitAfter: "5s"}, 4 * time.Second, corev1.PodRunning, true},
		"well":               {map[string]string{exitCode: "0", exitAfter: "5s"}, 5 * time.Second, corev1.PodSucceeded, false},
		"badly":              {map[string]string{exitCode: "3", exitAfter: "5s"}, 6 * time.Second, corev1.PodFailed, false},
	} {
		t.Run(name, func(t *testing.T) {
			pod := played(t, newPod(want.annotations), start)
			status, again := nextStatus(pod, "10.244.0.1", start.Add(want.after), true)
			if status != nil {
				pod.Status = *status
			}
			if pod.Status.Phase != want.phase || (again > 0) != want.again {
				t.Errorf("phase %v, looks again after %v", pod.Status.Phase, again)
			}
			if want.phase != corev1.PodRunning && (isTrue(pod, corev1.PodReady) || pod.Status.ContainerStatuses[0].State.Terminated == nil) {
				t.Errorf("it has ended: %+v", pod.Status)
			}
		})
	}
}
