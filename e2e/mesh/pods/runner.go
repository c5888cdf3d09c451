// Package pods runs an echo process for every pod of the API server, on the pod's address, as a container runtime would:
// SIGTERM when the pod is deleted, SIGKILL when its grace period is over or its object gone.
package pods

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"serin.dev/e2e/mesh/echo"
	"serin.dev/e2e/mesh/kube"
)

// restartAfter is the pause before a process that ended by itself is started again.
const restartAfter = time.Second

// runner has the processes, by the pods' uids.
type runner struct {
	ctx    context.Context
	client *kube.Client

	lock      sync.Mutex
	processes map[string]*process
	listed    map[string]bool
}

// process is the echo process of one pod.
type process struct {
	stop sync.Once
	// terminate is closed when the pod is deleted, kill when its time is over, ended when nothing runs any more.
	terminate, kill, ended chan struct{}
	killOnce               sync.Once
}

// Command runs pods until the context is done.
func Command(ctx context.Context, arguments []string) error {
	_ = flag.NewFlagSet("pods", flag.ExitOnError).Parse(arguments)
	client, err := kube.FromEnvironment()
	if err != nil {
		return err
	}
	r := &runner{ctx: ctx, client: client, processes: map[string]*process{}}
	client.Watch(ctx, "/api/v1/pods", r.see)
	r.lock.Lock()
	defer r.lock.Unlock()
	for _, process := range r.processes {
		process.killNow()
		<-process.ended
	}
	return nil
}

// see does what a change of a pod asks for.
func (r *runner) see(event kube.Event) {
	r.lock.Lock()
	defer r.lock.Unlock()
	if event.Type == kube.Synced {
		r.forgetUnlisted()
		return
	}
	var p pod
	if err := json.Unmarshal(event.Object, &p); err != nil || p.Metadata.UID == "" {
		return
	}
	uid := p.Metadata.UID
	if event.Type == kube.Listed {
		r.mark(uid)
	}
	running := r.processes[uid]
	switch {
	case event.Type == "DELETED":
		if running != nil {
			running.killNow()
			delete(r.processes, uid)
		}
	case p.Metadata.Deletion != nil && running != nil:
		running.stop.Do(func() {
			close(running.terminate)
			go r.remove(p, running)
		})
	case p.Metadata.Deletion != nil:
		go r.removeObject(p)
	case running == nil:
		settings, can, err := p.settings()
		if err != nil {
			fmt.Printf("%s pod %s: %v\n", now(), p.Metadata.Name, err)
		}
		if can && err == nil {
			running = &process{terminate: make(chan struct{}), kill: make(chan struct{}), ended: make(chan struct{})}
			r.processes[uid] = running
			go running.run(settings)
		}
	}
}

// mark notes a pod of the list that is being read.
func (r *runner) mark(uid string) {
	if r.listed == nil {
		r.listed = map[string]bool{}
	}
	r.listed[uid] = true
}

// forgetUnlisted kills the processes of pods that a new list does not have.
func (r *runner) forgetUnlisted() {
	for uid, running := range r.processes {
		if !r.listed[uid] {
			running.killNow()
			delete(r.processes, uid)
		}
	}
	r.listed = nil
}

// remove waits until a deleted pod's process has ended, at most its grace period, and removes the object.
func (r *runner) remove(p pod, running *process) {
	select {
	case <-running.ended:
	case <-time.After(time.Duration(p.Metadata.Grace) * time.Second):
		running.killNow()
		<-running.ended
	}
	r.removeObject(p)
}

func (r *runner) removeObject(p pod) {
	if err := r.client.Remove(r.ctx, p.path(), p.Metadata.UID); err != nil && !kube.IsGone(err) && r.ctx.Err() == nil {
		fmt.Printf("%s pod %s is not removed: %v\n", now(), p.Metadata.Name, err)
	}
}

func (p *process) killNow() { p.killOnce.Do(func() { close(p.kill) }) }

// run keeps the process running until the pod is deleted.
func (p *process) run(settings echo.Settings) {
	defer close(p.ended)
	for {
		if p.once(settings) {
			return
		}
		select {
		case <-p.terminate:
			return
		case <-p.kill:
			return
		case <-time.After(restartAfter):
		}
	}
}

// once runs the process once, and says whether that was the last time.
func (p *process) once(settings echo.Settings) bool {
	command := exec.Command("/proc/self/exe", append([]string{"echo"}, settings.Arguments()...)...)
	command.Stderr = os.Stderr
	// It ends with its standard input, and so with this process, however that ends.
	input, err := command.StdinPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		fmt.Printf("%s pod %s does not start: %v\n", now(), settings.Pod, err)
		return false
	}
	defer input.Close()
	fmt.Printf("%s pod %s started on %s\n", now(), settings.Pod, settings.Address)
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	terminate := p.terminate
	for {
		select {
		case err := <-ended:
			fmt.Printf("%s pod %s ended: %v\n", now(), settings.Pod, err)
			return terminate == nil
		case <-terminate:
			fmt.Printf("%s pod %s gets SIGTERM\n", now(), settings.Pod)
			_ = command.Process.Signal(syscall.SIGTERM)
			terminate = nil
		case <-p.kill:
			_ = command.Process.Kill()
			<-ended
			fmt.Printf("%s pod %s was killed\n", now(), settings.Pod)
			return true
		}
	}
}

func now() string { return time.Now().Format("15:04:05.000") }
