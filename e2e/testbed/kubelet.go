package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// Annotations of a pod, honoured whenever they change.
const (
	readyAfter     = "testbed.serin.dev/ready-after"
	neverReady     = "testbed.serin.dev/never-ready"
	waitingReason  = "testbed.serin.dev/waiting-reason"
	restartCount   = "testbed.serin.dev/restart-count"
	terminateAfter = "testbed.serin.dev/terminate-after"
	// The containers exit by this code, so long after the pod was seen first.
	exitCode  = "testbed.serin.dev/exit-code"
	exitAfter = "testbed.serin.dev/exit-after"
)

const (
	nodeName          = "node-1"
	readyAfterDefault = 200 * time.Millisecond
	// How often a port is tried until something listens, and afterwards.
	probeUnready = 50 * time.Millisecond
	probeReady   = time.Second
)

// kubelet schedules every pod to one node and plays its containers. With a runtime, something else runs them.
type kubelet struct {
	client  kubernetes.Interface
	pods    cache.SharedIndexInformer
	queue   workqueue.TypedRateLimitingInterface[string]
	address atomic.Int32
	runtime bool
}

// startKubelet creates the node and begins to play pods.
func startKubelet(ctx context.Context, config *rest.Config, runtime bool) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: nodeName},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"}}},
	}
	created, err := client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	if err == nil {
		created.Status = node.Status
		if _, err := client.CoreV1().Nodes().UpdateStatus(ctx, created, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	k := &kubelet{
		client:  client,
		runtime: runtime,
		pods:    factory.Core().V1().Pods().Informer(),
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[string](5*time.Millisecond, time.Second)),
	}
	enqueue := func(object any) {
		if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object); err == nil {
			k.queue.Add(key)
		}
	}
	if _, err := k.pods.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: enqueue, UpdateFunc: func(_, object any) { enqueue(object) }}); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	for range 8 {
		go k.work(ctx)
	}
	go func() {
		<-ctx.Done()
		k.queue.ShutDown()
	}()
	return nil
}

func (k *kubelet) work(ctx context.Context) {
	for {
		key, stopped := k.queue.Get()
		if stopped {
			return
		}
		again, err := k.play(ctx, key)
		switch {
		case err != nil:
			k.queue.AddRateLimited(key)
		case again > 0:
			k.queue.Forget(key)
			k.queue.AddAfter(key, again)
		default:
			k.queue.Forget(key)
		}
		k.queue.Done(key)
	}
}

// play does the next thing to one pod, and says when to look again.
func (k *kubelet) play(ctx context.Context, key string) (time.Duration, error) {
	object, exists, err := k.pods.GetStore().GetByKey(key)
	if err != nil || !exists {
		return 0, err
	}
	pod := object.(*corev1.Pod)
	api := k.client.CoreV1().Pods(pod.Namespace)
	if pod.Spec.NodeName == "" {
		binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, UID: pod.UID}, Target: corev1.ObjectReference{Kind: "Node", Name: nodeName}}
		err := api.Bind(ctx, binding, metav1.CreateOptions{})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return 0, nil
		}
		return 0, err
	}
	if pod.DeletionTimestamp != nil {
		return k.terminate(ctx, pod)
	}
	if hasEnded(pod) {
		return 0, nil
	}
	address := pod.Status.PodIP
	if address == "" {
		n := k.address.Add(1)
		address = fmt.Sprintf("10.244.%d.%d", (n/250)%250, n%250+1)
	}
	port := probedPort(pod)
	probed := k.runtime && port != 0
	status, again := nextStatus(pod, address, time.Now(), !probed || listens(address, port))
	if probed && again == 0 {
		again = probeReady
	}
	if status == nil {
		return again, nil
	}
	return again, k.write(ctx, pod, status)
}

// terminate makes a deleted pod unready, and removes it when its time is over.
func (k *kubelet) terminate(ctx context.Context, pod *corev1.Pod) (time.Duration, error) {
	delay, _ := time.ParseDuration(pod.Annotations[terminateAfter])
	if k.runtime && pod.DeletionGracePeriodSeconds != nil {
		// The runtime removes the pod when its process is gone, at the latest when the grace period is over.
		delay = time.Duration(*pod.DeletionGracePeriodSeconds)*time.Second + time.Second
	}
	// The deletion timestamp lies the grace period in the future.
	asked := pod.DeletionTimestamp.Time
	if pod.DeletionGracePeriodSeconds != nil {
		asked = asked.Add(-time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second)
	}
	if left := time.Until(asked.Add(delay)); delay > 0 && left > 0 {
		return left, nil
	}
	none := int64(0)
	err := k.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &none, Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return 0, nil
	}
	return 0, err
}

func (k *kubelet) write(ctx context.Context, pod *corev1.Pod, status *corev1.PodStatus) error {
	next := pod.DeepCopy()
	next.Status = *status
	_, err := k.client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// probedPort is the first port that a pod's containers declare, 0 for none.
func probedPort(pod *corev1.Pod) int32 {
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			return port.ContainerPort
		}
	}
	return 0
}

// listens says whether something accepts connections there.
func listens(address string, port int32) bool {
	connection, err := net.DialTimeout("tcp", net.JoinHostPort(address, strconv.Itoa(int(port))), time.Second)
	if err != nil {
		return false
	}
	_ = connection.Close()
	return true
}

// nextStatus is the status that a pod should have now, nil where it has it, and when to look again. A pod that does not
// listen is not ready.
func nextStatus(pod *corev1.Pod, address string, now time.Time, listens bool) (*corev1.PodStatus, time.Duration) {
	delay := readyAfterDefault
	if parsed, err := time.ParseDuration(pod.Annotations[readyAfter]); err == nil {
		delay = parsed
	}
	reason := pod.Annotations[waitingReason]
	// Creation has whole seconds only; the pod's start, which has them too, begins here.
	started := pod.CreationTimestamp.Time
	if begun, err := time.Parse(time.RFC3339Nano, conditionMessage(pod, corev1.PodScheduled)); err == nil {
		started = begun
	} else {
		started = now
	}
	exits, untilExit := exit(pod, started, now)
	left := started.Add(delay).Sub(now)
	runs := pod.Annotations[neverReady] != "true" && reason == "" && left <= 0
	again := time.Duration(0)
	if left > 0 && pod.Annotations[neverReady] != "true" && reason == "" {
		again = left
	}
	if runs && !listens {
		runs, again = false, probeUnready
	}
	if untilExit > 0 && (again == 0 || untilExit < again) {
		again = untilExit
	}
	runs = runs && exits == nil
	ready := runs
	for _, gate := range pod.Spec.ReadinessGates {
		ready = ready && isTrue(pod, gate.ConditionType)
	}
	status := pod.Status.DeepCopy()
	status.Phase = corev1.PodRunning
	status.PodIP = address
	status.PodIPs = []corev1.PodIP{{IP: address}}
	status.HostIP = "127.0.0.1"
	if status.StartTime == nil {
		status.StartTime = &metav1.Time{Time: now}
	}
	status.ContainerStatuses = containerStatuses(pod, runs, reason)
	if exits != nil {
		end(status, *exits, now)
		again = 0
	}
	changed := setCondition(status, corev1.PodScheduled, true, started.Format(time.RFC3339Nano), now)
	changed = setCondition(status, corev1.PodInitialized, true, "", now) || changed
	changed = setCondition(status, corev1.ContainersReady, runs, "", now) || changed
	changed = setCondition(status, corev1.PodReady, ready, "", now) || changed
	changed = changed || pod.Status.Phase != status.Phase || pod.Status.PodIP == "" || restarts(pod.Status.ContainerStatuses) != restarts(status.ContainerStatuses) ||
		waiting(pod.Status.ContainerStatuses) != waiting(status.ContainerStatuses)
	if !changed {
		return nil, again
	}
	return status, again
}

// hasEnded says whether the containers have exited for good.
func hasEnded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// exit is the code that the containers exit by now, nil while they run, and how long they still run.
func exit(pod *corev1.Pod, started, now time.Time) (*int32, time.Duration) {
	code, err := strconv.ParseInt(pod.Annotations[exitCode], 10, 32)
	if err != nil {
		return nil, 0
	}
	after, _ := time.ParseDuration(pod.Annotations[exitAfter])
	if left := started.Add(after).Sub(now); left > 0 {
		return nil, left
	}
	by := int32(code)
	return &by, 0
}

// end makes it the status of a pod whose containers have exited by a code.
func end(status *corev1.PodStatus, code int32, now time.Time) {
	reason := "Completed"
	status.Phase = corev1.PodSucceeded
	if code != 0 {
		reason = "Error"
		status.Phase = corev1.PodFailed
	}
	for i := range status.ContainerStatuses {
		status.ContainerStatuses[i].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: code, Reason: reason, FinishedAt: metav1.Time{Time: now},
		}}
	}
}

func containerStatuses(pod *corev1.Pod, runs bool, reason string) []corev1.ContainerStatus {
	count, _ := strconv.Atoi(pod.Annotations[restartCount])
	var statuses []corev1.ContainerStatus
	for _, container := range pod.Spec.Containers {
		state := corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: pod.CreationTimestamp}}
		if reason != "" {
			state = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
		}
		started := runs
		statuses = append(statuses, corev1.ContainerStatus{
			Name: container.Name, Image: container.Image, ImageID: container.Image, Ready: runs, Started: &started,
			RestartCount: int32(count), State: state,
		})
	}
	return statuses
}

func restarts(statuses []corev1.ContainerStatus) int32 {
	var sum int32
	for _, status := range statuses {
		sum += status.RestartCount
	}
	return sum
}

func waiting(statuses []corev1.ContainerStatus) string {
	for _, status := range statuses {
		if status.State.Waiting != nil {
			return status.State.Waiting.Reason
		}
	}
	return ""
}

func conditionMessage(pod *corev1.Pod, kind corev1.PodConditionType) string {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == kind {
			return condition.Message
		}
	}
	return ""
}

func isTrue(pod *corev1.Pod, kind corev1.PodConditionType) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == kind {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// setCondition sets one condition, leaves all others, and says whether anything changed.
func setCondition(status *corev1.PodStatus, kind corev1.PodConditionType, is bool, message string, now time.Time) bool {
	truth := corev1.ConditionFalse
	if is {
		truth = corev1.ConditionTrue
	}
	for i := range status.Conditions {
		condition := &status.Conditions[i]
		if condition.Type != kind {
			continue
		}
		if condition.Status == truth && condition.Message == message {
			return false
		}
		if condition.Status != truth {
			condition.LastTransitionTime = metav1.Time{Time: now}
		}
		condition.Status, condition.Message = truth, message
		return true
	}
	status.Conditions = append(status.Conditions, corev1.PodCondition{Type: kind, Status: truth, Message: message, LastTransitionTime: metav1.Time{Time: now}})
	return true
}
