// Command testbed starts a real Kubernetes control plane on loopback: etcd, kube-apiserver as a child process, the
// controllers of kube-controller-manager, and a small kubelet that makes pods ready without running anything.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"k8s.io/klog/v2"
)

// settings is what the command line says.
type settings struct {
	dir    string
	port   int
	parent int
	crds   paths
	// runtime says that something else runs the pods: see kubelet.
	runtime bool
	// audit is the file of what Serin's service accounts ask; empty: none.
	audit string
}

// paths is a repeatable flag.
type paths []string

func (p *paths) String() string { return strings.Join(*p, ",") }

func (p *paths) Set(path string) error {
	*p = append(*p, path)
	return nil
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == apiServerCommand {
		os.Exit(runAPIServer(os.Args[2:]))
	}
	// The flags are private: component-base registers its own in the global set.
	flags := flag.NewFlagSet("testbed", flag.ExitOnError)
	var s settings
	flags.StringVar(&s.dir, "dir", "", "folder for all state; required")
	flags.IntVar(&s.port, "port", 0, "port of the API server on 127.0.0.1; 0 picks a free one")
	flags.IntVar(&s.parent, "parent", 0, "exit when this process is gone")
	flags.BoolVar(&s.runtime, "runtime", false, "something else runs the pods: ready when their first port listens, removed by it")
	flags.StringVar(&s.audit, "audit", "", "file to which kube-apiserver writes what the service accounts of serin-system ask")
	flags.Var(&s.crds, "crds", "file or folder with CustomResourceDefinitions to apply first; repeatable")
	_ = flags.Parse(os.Args[1:])
	if s.dir == "" {
		fmt.Fprintln(os.Stderr, "testbed: --dir is required")
		os.Exit(2)
	}
	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "testbed:", err)
		os.Exit(1)
	}
}

func run(s settings) error {
	runtime.LockOSThread() // The main thread lives as long as the process, and kube-apiserver as long as its thread.
	started := time.Now()
	say := func(format string, args ...any) {
		fmt.Printf("%5.1fs  %s\n", time.Since(started).Seconds(), fmt.Sprintf(format, args...))
	}
	dir, err := filepath.Abs(s.dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := logTo(filepath.Join(dir, "testbed.log")); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go watchParent(s.parent, stop)
	failed := make(chan error, 4)

	etcd, err := startEtcd(dir)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	say("etcd is up at %s", etcd)
	server, err := startAPIServer(ctx, dir, s, etcd, failed)
	if err != nil {
		return fmt.Errorf("start kube-apiserver: %w", err)
	}
	// It must not outlive this process, nor write into its folder afterwards.
	defer func() { server.stop() }()
	if err := server.waitReady(ctx, failed); err != nil {
		return fmt.Errorf("wait for kube-apiserver: %w", err)
	}
	say("kube-apiserver is ready at %s", server.config.Host)
	count, err := applyCRDs(ctx, server.config, s.crds)
	if err != nil {
		return fmt.Errorf("apply CustomResourceDefinitions: %w", err)
	}
	say("%d CustomResourceDefinitions are established", count)
	if err := startMetricsAPI(ctx, server, failed); err != nil {
		return fmt.Errorf("start the metrics API: %w", err)
	}
	say("metrics.k8s.io is available")
	startControllers(ctx, server, failed)
	if err := startKubelet(ctx, patient(server.config), s.runtime); err != nil {
		return fmt.Errorf("start the kubelet: %w", err)
	}
	if err := waitServiceAccount(ctx, server.config, failed); err != nil {
		return fmt.Errorf("wait for the controllers: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ready"), []byte(server.config.Host+"\n"), 0o600); err != nil {
		return err
	}
	say("ready: export KUBECONFIG=%s", server.kubeconfig)

	for {
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			say("stopped")
			return nil
		case <-time.After(100 * time.Millisecond):
		}
		if !server.restartAsked() {
			continue
		}
		err := server.restart(ctx, failed)
		switch {
		case err == nil:
			say("kube-apiserver has restarted")
		case ctx.Err() == nil:
			return fmt.Errorf("restart kube-apiserver: %w", err)
		}
	}
}

// logTo sends the components' logs to a file, so that standard output stays readable.
func logTo(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	for _, arg := range [][2]string{{"logtostderr", "false"}, {"alsologtostderr", "false"}, {"stderrthreshold", "FATAL"}} {
		if err := flags.Set(arg[0], arg[1]); err != nil {
			return err
		}
	}
	klog.SetOutput(io.Writer(file))
	return nil
}

// watchParent stops the testbed when the process that started it is gone.
func watchParent(pid int, stop func()) {
	for pid > 0 {
		if syscall.Kill(pid, 0) != nil {
			stop()
			return
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// freePort is a port of 127.0.0.1 that nobody uses: the wanted one, or any where that is 0.
func freePort(wanted int) (int, error) {
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", wanted))
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
