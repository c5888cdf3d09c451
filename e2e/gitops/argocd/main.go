// Command argocd is Argo CD: its application controller and its repository server as the module has them, in one process.
//
// What compares, syncs, prunes and heals is unchanged. This program adds what the cobra command of the controller adds, with
// other numbers: an Application is healed a second after the last sync, and never later each time. Redis is miniredis. Argo
// CD's server, its user interface and its other controllers are left out: they take no part in a sync. So nobody asks for a
// refresh when Git has a commit; e2e/gitops does, each second, by the annotation that the server would write.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
	server "github.com/argoproj/argo-cd/v3/cmd/argocd-repo-server/commands"
	commits "github.com/argoproj/argo-cd/v3/commitserver/apiclient"
	"github.com/argoproj/argo-cd/v3/common"
	"github.com/argoproj/argo-cd/v3/controller"
	"github.com/argoproj/argo-cd/v3/controller/sharding"
	"github.com/argoproj/argo-cd/v3/pkg/apis/application/v1alpha1"
	applications "github.com/argoproj/argo-cd/v3/pkg/client/clientset/versioned"
	"github.com/argoproj/argo-cd/v3/pkg/ratelimiter"
	"github.com/argoproj/argo-cd/v3/reposerver/apiclient"
	"github.com/argoproj/argo-cd/v3/util/argo/normalizers"
	"github.com/argoproj/argo-cd/v3/util/cache"
	"github.com/argoproj/argo-cd/v3/util/cache/appstate"
	"github.com/argoproj/argo-cd/v3/util/kube"
	"github.com/argoproj/argo-cd/v3/util/settings"
	log "github.com/sirupsen/logrus"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	namespace = "argocd"
	// healAfter is how long after a sync what others write is undone; Argo CD's default is a back-off from 2 s to 5 min.
	healAfter = time.Second
	resync    = 3 * time.Minute
	patience  = 30 * time.Second
	expiry    = time.Hour
	workers   = 4
)

func main() {
	redis := flag.String("redis", "", "loopback address of the cache")
	repository := flag.Int("repository", 0, "loopback port of the repository server")
	health := flag.Int("repository-health", 0, "loopback port of the repository server's metrics")
	metrics := flag.String("metrics", "", "loopback address of the controller's metrics")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *redis, *repository, *health, *metrics); err != nil {
		fmt.Fprintln(os.Stderr, "argocd:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, redis string, repository, health int, metrics string) error {
	store := miniredis.NewMiniRedis()
	if err := store.StartAddr(redis); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	defer store.Close()
	command := server.NewCommand()
	command.SetArgs([]string{
		"--address=127.0.0.1", fmt.Sprintf("--port=%d", repository), "--metrics-address=127.0.0.1", fmt.Sprintf("--metrics-port=%d", health),
		"--redis=" + redis, "--disable-tls", "--loglevel=warn",
	})
	go func() {
		if err := command.ExecuteContext(ctx); err != nil {
			log.Fatal(err)
		}
	}()
	made, err := newController(ctx, fmt.Sprintf("127.0.0.1:%d", repository))
	if err != nil {
		return err
	}
	made.GetMetricsServer().Addr = metrics
	made.Run(ctx, workers, workers)
	return nil
}

func newController(ctx context.Context, repository string) (*controller.ApplicationController, error) {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return nil, err
	}
	if err := v1alpha1.SetK8SConfigDefaults(config); err != nil {
		return nil, err
	}
	config.UserAgent = common.DefaultApplicationControllerName
	client := kubernetes.NewForConfigOrDie(config)
	var made *controller.ApplicationController
	manager := settings.NewSettingsManager(ctx, client, namespace, settings.WithRepoOrClusterChangedHandler(func() { made.InvalidateProjectsCache() }))
	shards, err := sharding.GetClusterSharding(client, manager, common.DefaultShardingAlgorithm, false)
	if err != nil {
		return nil, err
	}
	made, err = controller.NewApplicationController(
		namespace, manager, client, applications.NewForConfigOrDie(config),
		apiclient.NewRepoServerClientset(repository, int(patience.Seconds()), apiclient.TLSConfiguration{DisableTLS: true}),
		commits.NewCommitServerClientset(common.DefaultCommitServerAddr),
		appstate.NewCache(cache.NewCache(cache.NewInMemoryCache(expiry)), expiry), kube.NewKubectl(),
		resync, 0, 0, healAfter, nil, 0, 0, 0,
		common.DefaultPortArgoCDMetrics, 0, nil, nil, nil,
		0, false, shards, nil, ratelimiter.GetDefaultAppRateLimiterConfig(),
		false, false, normalizers.IgnoreNormalizerOpts{}, nil, false)
	return made, err
}
