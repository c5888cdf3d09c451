// Package kubetest stands in for an API server in tests.
package kubetest

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"serin.dev/e2e/mesh/kube"
)

// NewClient is a client, with the token "t", of an API server that answers so.
func NewClient(t *testing.T, answer http.HandlerFunc) *kube.Client {
	t.Helper()
	upstream := httptest.NewTLSServer(answer)
	t.Cleanup(upstream.Close)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: upstream.Certificate().Raw})
	config := fmt.Sprintf(`{"clusters":[{"cluster":{"server":%q,"certificate-authority-data":%q}}],"users":[{"user":{"token":"t"}}]}`,
		upstream.URL, base64.StdEncoding.EncodeToString(authority))
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", path)
	client, err := kube.FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	return client
}
