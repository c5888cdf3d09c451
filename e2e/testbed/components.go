package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/server/v3/embed"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	apiserveroptions "k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	controllermanageroptions "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
)

// controllers are those that the stories need; the others would only cost time.
const controllers = "deployment-controller,replicaset-controller,endpointslice-controller,garbage-collector-controller," +
	"namespace-controller,serviceaccount-controller,serviceaccount-token-controller,clusterrole-aggregation-controller," +
	"disruption-controller,job-controller,resourcequota-controller,root-ca-certificate-publisher-controller"

// server is a running kube-apiserver and how to reach it.
type server struct {
	config     *rest.Config
	kubeconfig string
	key        string
}

// startEtcd starts etcd without fsync and with a fast tick: nothing here outlives the process.
func startEtcd(dir string) (string, error) {
	config := embed.NewConfig()
	config.Dir = filepath.Join(dir, "etcd")
	config.UnsafeNoFsync = true
	config.TickMs = 10
	config.ElectionMs = 100
	config.LogLevel = "error"
	config.LogOutputs = []string{filepath.Join(dir, "etcd.log")}
	client, err := freePort()
	if err != nil {
		return "", err
	}
	peer, err := freePort()
	if err != nil {
		return "", err
	}
	local := func(port int) []url.URL {
		return []url.URL{{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", port)}}
	}
	config.ListenClientUrls, config.AdvertiseClientUrls = local(client), local(client)
	config.ListenPeerUrls, config.AdvertisePeerUrls = local(peer), local(peer)
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return "", err
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return local(client)[0].String(), nil
	case err := <-etcd.Err():
		return "", err
	case <-time.After(30 * time.Second):
		return "", errors.New("not ready after 30 s")
	}
}

// startAPIServer starts kube-apiserver with RBAC on, and writes the administrator's kubeconfig.
func startAPIServer(ctx context.Context, s settings, etcd string, failed chan<- error) (*server, error) {
	port := s.port
	if port == 0 {
		free, err := freePort()
		if err != nil {
			return nil, err
		}
		port = free
	}
	key := filepath.Join(s.dir, "service-account.key")
	if err := writeKey(key); err != nil {
		return nil, err
	}
	token, tokens, err := writeToken(s.dir)
	if err != nil {
		return nil, err
	}
	options := apiserveroptions.NewServerRunOptions()
	flags := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
	for _, set := range options.Flags().FlagSets {
		flags.AddFlagSet(set)
	}
	certificates := filepath.Join(s.dir, "certificates")
	err = flags.Parse([]string{
		"--etcd-servers=" + etcd,
		"--cert-dir=" + certificates,
		"--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", port),
		"--authorization-mode=RBAC",
		"--token-auth-file=" + tokens,
		"--service-account-issuer=https://testbed.serin.dev",
		"--service-account-key-file=" + key,
		"--service-account-signing-key-file=" + key,
		"--service-cluster-ip-range=10.0.0.0/16",
		"--endpoint-reconciler-type=none",
		"--enable-aggregator-routing=true",
		"--max-requests-inflight=2000",
		"--max-mutating-requests-inflight=1000",
	})
	if err != nil {
		return nil, err
	}
	if err := options.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return nil, err
	}
	completed, err := options.Complete(ctx)
	if err != nil {
		return nil, err
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	go func() {
		if err := apiserver.Run(ctx, completed); err != nil && ctx.Err() == nil {
			failed <- fmt.Errorf("kube-apiserver: %w", err)
		}
	}()
	host := fmt.Sprintf("https://127.0.0.1:%d", port)
	return connect(s.dir, host, token, filepath.Join(certificates, "apiserver.crt"), key)
}

// connect waits for the server's certificate and writes a kubeconfig that trusts it.
func connect(dir, host, token, certificate, key string) (*server, error) {
	var authority []byte
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		read, err := os.ReadFile(certificate)
		if err == nil {
			authority = read
			break
		}
		if time.Now().After(deadline) {
			return nil, err
		}
	}
	path := filepath.Join(dir, "admin.kubeconfig")
	config := clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"testbed": {Server: host, CertificateAuthorityData: authority}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"admin": {Token: token}},
		Contexts:       map[string]*clientcmdapi.Context{"testbed": {Cluster: "testbed", AuthInfo: "admin", Namespace: "default"}},
		CurrentContext: "testbed",
	}
	if err := clientcmd.WriteToFile(config, path); err != nil {
		return nil, err
	}
	client := &rest.Config{Host: host, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAData: authority}, QPS: 1000, Burst: 2000}
	return &server{config: client, kubeconfig: path, key: key}, nil
}

// startControllers runs the controllers of kube-controller-manager.
func startControllers(ctx context.Context, s *server, failed chan<- error) {
	go func() {
		if err := runControllers(ctx, s); err != nil && ctx.Err() == nil {
			failed <- fmt.Errorf("kube-controller-manager: %w", err)
		}
	}()
}

func runControllers(ctx context.Context, s *server) error {
	options, err := controllermanageroptions.NewKubeControllerManagerOptions()
	if err != nil {
		return err
	}
	known, disabled, aliases := controllermanager.KnownControllers(), controllermanager.ControllersDisabledByDefault(), controllermanager.ControllerAliases()
	flags := pflag.NewFlagSet("kube-controller-manager", pflag.ContinueOnError)
	sets := options.Flags(known, disabled, aliases)
	options.ParsedFlags = &sets
	for _, set := range sets.FlagSets {
		flags.AddFlagSet(set)
	}
	err = flags.Parse([]string{
		"--kubeconfig=" + s.kubeconfig,
		"--authentication-kubeconfig=" + s.kubeconfig,
		"--authorization-kubeconfig=" + s.kubeconfig,
		"--service-account-private-key-file=" + s.key,
		"--controllers=" + controllers,
		"--leader-elect=false",
		"--secure-port=0",
		"--use-service-account-credentials=false",
		"--kube-api-qps=1000",
		"--kube-api-burst=2000",
		"--concurrent-replicaset-syncs=20",
		"--min-resync-period=1h",
	})
	if err != nil {
		return err
	}
	config, err := options.Config(ctx, known, disabled, aliases)
	if err != nil {
		return err
	}
	return controllermanager.Run(ctx, config.Complete())
}

// waitReady waits until the API server says it is ready.
func waitReady(ctx context.Context, s *server, failed <-chan error) error {
	client, err := kubernetes.NewForConfig(s.config)
	if err != nil {
		return err
	}
	return poll(ctx, failed, func() error {
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}

// waitServiceAccount waits for what the service account controller makes, the sign that the controllers run.
func waitServiceAccount(ctx context.Context, config *rest.Config, failed <-chan error) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	return poll(ctx, failed, func() error {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// poll tries every 50 ms for a minute.
func poll(ctx context.Context, failed <-chan error, try func() error) error {
	deadline := time.Now().Add(time.Minute)
	for {
		err := try()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
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
