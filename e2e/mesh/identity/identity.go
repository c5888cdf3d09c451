// Package identity has the certificates of workloads: as istiod signs them, and as Envoy takes them.
//
// It does what Istio's agent does beside an Envoy, and ztunnel for the pods of its node.
package identity

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"serin.dev/e2e/mesh/kube"
)

const (
	// signing is the method of istiod that signs a request for a certificate.
	signing = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
	// audience is whom the token is for.
	audience = "istio-ca"
	// rootsAfter is how long istiod may take to publish its roots.
	rootsAfter = 30 * time.Second
)

// Of is who a workload is, as mutual TLS tells it.
func Of(namespace, account string) string {
	return "spiffe://cluster.local/ns/" + namespace + "/sa/" + account
}

// Command prints the key, the certificates and istiod's roots of one service account as PEM, in this order.
func Command(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("identity", flag.ExitOnError)
	namespace := flags.String("namespace", "shop", "namespace of the service account")
	account := flags.String("account", "", "name of the service account")
	istiod := flags.String("istiod", "10.244.255.1:15012", "address of istiod's certificate authority")
	_ = flags.Parse(arguments)
	client, err := kube.FromEnvironment()
	if err != nil {
		return err
	}
	bundle, err := Signed(ctx, client, *istiod, *namespace, *account)
	if err == nil {
		_, err = os.Stdout.Write(bundle)
	}
	return err
}

// Signed is a new key of a service account, what istiod certifies of it, and istiod's roots, as PEM.
func Signed(ctx context.Context, client *kube.Client, istiod, namespace, account string) ([]byte, error) {
	roots, err := rootsOf(ctx, client, namespace)
	if err != nil {
		return nil, err
	}
	token, err := tokenOf(ctx, client, namespace, account)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	id, err := url.Parse(Of(namespace, account))
	if err != nil {
		return nil, err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{id}}, key)
	if err != nil {
		return nil, err
	}
	chain, err := sign(ctx, istiod, roots, token, block("CERTIFICATE REQUEST", request))
	if err != nil {
		return nil, fmt.Errorf("istiod at %s does not certify %s: %w", istiod, id, err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return bytes.Join([][]byte{block("PRIVATE KEY", private), chain, []byte(roots)}, nil), nil
}

func block(kind string, of []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: of})
}

// rootsOf are the certificates that vouch for istiod, once it has published them.
func rootsOf(ctx context.Context, client *kube.Client, namespace string) (string, error) {
	path := "/api/v1/namespaces/" + namespace + "/configmaps/istio-ca-root-cert"
	for began := time.Now(); ; {
		var published struct{ Data map[string]string }
		err := client.Get(ctx, path, &published)
		if err == nil {
			return published.Data["root-cert.pem"], nil
		}
		if !kube.IsMissing(err) || time.Since(began) > rootsAfter {
			return "", err
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func tokenOf(ctx context.Context, client *kube.Client, namespace, account string) (string, error) {
	var answer struct {
		Status struct{ Token string }
	}
	path := "/api/v1/namespaces/" + namespace + "/serviceaccounts/" + account + "/token"
	err := client.CreateInto(ctx, path, map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": map[string]any{"audiences": []string{audience}},
	}, &answer)
	return answer.Status.Token, err
}

// sign lets istiod sign a request for a certificate; what comes is the chain, as PEM.
func sign(ctx context.Context, istiod, roots, token string, request []byte) ([]byte, error) {
	vouching := x509.NewCertPool()
	if !vouching.AppendCertsFromPEM([]byte(roots)) {
		return nil, errors.New("istiod's roots are not there")
	}
	transport := &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{RootCAs: vouching, ServerName: "istiod.istio-system.svc", MinVersion: tls.VersionTLS12},
	}
	defer transport.CloseIdleConnections()
	call, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+istiod+signing, bytes.NewReader(framed(field(1, request))))
	if err != nil {
		return nil, err
	}
	call.Header = http.Header{
		"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "Authorization": {"Bearer " + token},
	}
	answer, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Do(call)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, frameMost))
	if err != nil {
		return nil, err
	}
	status, message := answer.Trailer.Get("Grpc-Status"), answer.Trailer.Get("Grpc-Message")
	if status == "" {
		status, message = answer.Header.Get("Grpc-Status"), answer.Header.Get("Grpc-Message")
	}
	if status != "0" {
		return nil, fmt.Errorf("HTTP %d, gRPC status %q: %s", answer.StatusCode, status, message)
	}
	return chainOf(body)
}

// chainOf are the certificates of an answer of istiod.
func chainOf(body []byte) ([]byte, error) {
	message, err := unframed(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	all, err := fields(message)
	if err != nil {
		return nil, err
	}
	if len(all[1]) == 0 {
		return nil, errors.New("an answer without certificates")
	}
	// The last one is the root, which is known.
	return bytes.Join(all[1][:max(1, len(all[1])-1)], []byte("\n")), nil
}

// Bundle is what a file of Command has.
type Bundle struct{ Key, Chain, Roots []byte }

// Read reads what Command printed: the roots are those certificates that signed themselves.
func Read(path string) (Bundle, error) {
	var b Bundle
	rest, err := os.ReadFile(path)
	if err != nil {
		return b, err
	}
	for {
		var one *pem.Block
		if one, rest = pem.Decode(rest); one == nil {
			break
		}
		if one.Type != "CERTIFICATE" {
			b.Key = pem.EncodeToMemory(one)
			continue
		}
		certificate, err := x509.ParseCertificate(one.Bytes)
		if err != nil {
			return b, err
		}
		if bytes.Equal(certificate.RawIssuer, certificate.RawSubject) && certificate.IsCA {
			b.Roots = append(b.Roots, pem.EncodeToMemory(one)...)
		} else {
			b.Chain = append(b.Chain, pem.EncodeToMemory(one)...)
		}
	}
	if len(b.Key) == 0 || len(b.Chain) == 0 || len(b.Roots) == 0 {
		return b, fmt.Errorf("%s has no key, no certificate or no root", path)
	}
	return b, nil
}
