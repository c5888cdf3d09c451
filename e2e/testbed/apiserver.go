package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// apiServerCommand as the first argument makes this binary kube-apiserver: it cannot start twice in one process, so it
// is a child.
const apiServerCommand = "kube-apiserver"

const (
	restartFile = "restart-apiserver"
	downtime    = time.Second
)

// auditPolicy writes down what Serin asks, without bodies, once it is answered; a watch, once it has begun.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  userGroups: ["system:serviceaccounts:serin-system"]
`

// server is a running kube-apiserver and how to reach it.
type server struct {
	config      *rest.Config
	kubeconfig  string
	key         string
	certificate string
	certKey     string

	dir       string
	arguments []string
	failed    chan<- error
	stop      func()
}

// runAPIServer is kube-apiserver with upstream's own command line.
func runAPIServer(arguments []string) int {
	command := apiserver.NewAPIServerCommand()
	command.SetArgs(arguments)
	return cli.Run(command)
}

// startAPIServer starts kube-apiserver with RBAC on, and writes the administrator's kubeconfig.
func startAPIServer(ctx context.Context, dir string, settings settings, etcd string, failed chan error) (*server, error) {
	port, err := reservePort(settings.port)
	if err != nil {
		return nil, err
	}
	key := filepath.Join(dir, "service-account.key")
	if err := writeKey(key); err != nil {
		return nil, err
	}
	token, tokens, err := writeToken(dir)
	if err != nil {
		return nil, err
	}
	certificates := filepath.Join(dir, "certificates")
	s := &server{
		key:         key,
		certificate: filepath.Join(certificates, "apiserver.crt"),
		certKey:     filepath.Join(certificates, "apiserver.key"),
		dir:         dir,
		arguments: []string{
			apiServerCommand,
			"--etcd-servers=" + etcd,
			"--cert-dir=" + certificates,
			"--bind-address=127.0.0.1",
			// Without it the default route's interface is asked, which a network namespace need not have.
			"--advertise-address=127.0.0.1",
			fmt.Sprintf("--secure-port=%d", port),
			"--permit-port-sharing=true",
			"--authorization-mode=RBAC",
			"--token-auth-file=" + tokens,
			"--service-account-issuer=https://testbed.serin.dev",
			"--service-account-key-file=" + key,
			"--service-account-signing-key-file=" + key,
			"--service-cluster-ip-range=10.0.0.0/16",
			"--endpoint-reconciler-type=none",
			// Routing by endpoints refuses ExternalName, by which the metrics API is found.
			"--enable-aggregator-routing=false",
			"--max-requests-inflight=2000",
			"--max-mutating-requests-inflight=1000",
		},
		failed: failed,
	}
	if settings.audit != "" {
		policy := filepath.Join(dir, "audit-policy.yaml")
		if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
			return nil, err
		}
		s.arguments = append(s.arguments, "--audit-policy-file="+policy, "--audit-log-path="+settings.audit)
	}
	if err := s.start(); err != nil {
		return nil, err
	}
	if err := s.connect(ctx, fmt.Sprintf("https://127.0.0.1:%d", port), token, failed); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// start starts the child. The kernel kills it with the thread that started it, so that thread must be the main one.
func (s *server) start() error {
	log, err := os.OpenFile(filepath.Join(s.dir, "kube-apiserver.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	ctx, kill := context.WithCancel(context.Background())
	command := exec.CommandContext(ctx, "/proc/self/exe", s.arguments...)
	command.Stdout, command.Stderr = log, log
	// A process group of its own keeps the terminal's Ctrl-C from it: this process decides when it ends.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		kill()
		return err
	}
	dead := make(chan struct{})
	go func() {
		defer close(dead)
		_ = command.Wait()
		if ctx.Err() == nil {
			s.failed <- fmt.Errorf("kube-apiserver ended, see kube-apiserver.log: %s", command.ProcessState)
		}
	}()
	s.stop = func() {
		kill()
		<-dead
	}
	return nil
}

// restartAsked says whether somebody wants kube-apiserver to restart.
func (s *server) restartAsked() bool {
	_, err := os.Stat(filepath.Join(s.dir, restartFile))
	return err == nil
}

// restart kills kube-apiserver, leaves its clients without it for a while, and waits until it is back.
func (s *server) restart(ctx context.Context, failed <-chan error) error {
	s.stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(downtime):
	}
	if err := s.start(); err != nil {
		return err
	}
	if err := s.waitReady(ctx, failed); err != nil {
		return err
	}
	return os.Remove(filepath.Join(s.dir, restartFile))
}

// connect waits for the server's certificate and writes a kubeconfig that trusts it.
func (s *server) connect(ctx context.Context, host, token string, failed <-chan error) error {
	// The key is written after the certificate, which is whole then.
	err := poll(ctx, failed, func() error {
		_, err := os.Stat(s.certKey)
		return err
	})
	if err != nil {
		return err
	}
	authority, err := os.ReadFile(s.certificate)
	if err != nil {
		return err
	}
	s.kubeconfig = filepath.Join(s.dir, "admin.kubeconfig")
	config := clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"testbed": {Server: host, CertificateAuthorityData: authority}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"admin": {Token: token}},
		Contexts:       map[string]*clientcmdapi.Context{"testbed": {Cluster: "testbed", AuthInfo: "admin", Namespace: "default"}},
		CurrentContext: "testbed",
	}
	s.config = &rest.Config{Host: host, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAData: authority}, QPS: 1000, Burst: 2000}
	return clientcmd.WriteToFile(config, s.kubeconfig)
}

// waitReady waits until the API server says it is ready.
func (s *server) waitReady(ctx context.Context, failed <-chan error) error {
	client, err := kubernetes.NewForConfig(s.config)
	if err != nil {
		return err
	}
	return poll(ctx, failed, func() error {
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}

// patience asks again for half a minute where a restarting kube-apiserver does not answer: client-go's watches pause
// longer after each failure, and would miss a minute after the third restart.
type patience struct{ next http.RoundTripper }

func (p patience) RoundTrip(request *http.Request) (*http.Response, error) {
	for deadline := time.Now().Add(30 * time.Second); ; {
		response, err := p.next.RoundTrip(request)
		if err == nil || request.Body != nil || time.Now().After(deadline) {
			return response, err
		}
		select {
		case <-request.Context().Done():
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// patient is a configuration for components that should go on at once when kube-apiserver is back.
func patient(config *rest.Config) *rest.Config {
	patient := rest.CopyConfig(config)
	patient.Wrap(func(next http.RoundTripper) http.RoundTripper { return patience{next} })
	return patient
}

// reservePort binds a free port and never listens: kube-apiserver shares it, and nobody else takes it while that restarts.
func reservePort(wanted int) (int, error) {
	port, err := freePort(wanted)
	if err != nil {
		return 0, err
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return 0, err
	}
	return port, unix.Bind(socket, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
}

// writeKey writes a new key that signs service account tokens.
func writeKey(path string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	return os.WriteFile(path, pem.EncodeToMemory(block), 0o600)
}

// writeToken writes the administrator's random token to a file that kube-apiserver reads.
func writeToken(dir string) (token, path string, err error) {
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return "", "", err
	}
	token = hex.EncodeToString(random)
	path = filepath.Join(dir, "tokens.csv")
	line := fmt.Sprintf("%s,admin,admin,\"system:masters\"\n", token)
	return token, path, os.WriteFile(path, []byte(line), 0o600)
}
