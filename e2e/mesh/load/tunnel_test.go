package load

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"serin.dev/e2e/mesh/echo"
)

// authority signs certificates of workloads.
type authority struct {
	t           *testing.T
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"cluster.local"}},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, own, own, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if own, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return authority{t, key, own}
}

// signed is a certificate of a workload, as a file of `mesh identity` and as a server has it.
func (a authority) signed(id string) (string, tls.Certificate) {
	a.t.Helper()
	uri, err := url.Parse(id)
	if err != nil {
		a.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), URIs: []*url.URL{uri},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.certificate, &a.key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	var all []byte
	for _, one := range []pem.Block{
		{Type: "PRIVATE KEY", Bytes: private}, {Type: "CERTIFICATE", Bytes: der}, {Type: "CERTIFICATE", Bytes: a.certificate.Raw},
	} {
		all = append(all, pem.EncodeToMemory(&one)...)
	}
	path := filepath.Join(a.t.TempDir(), "one.pem")
	if err := os.WriteFile(path, all, 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}
}

// aWaypoint takes tunnels for one authority, answers what comes out of them itself, and closes every third one after an answer.
func aWaypoint(t *testing.T, a authority, id string) (address string, tunnels *atomic.Int64) {
	t.Helper()
	_, certificate := a.signed(id)
	clients := x509.NewCertPool()
	clients.AddCert(a.certificate)
	tunnels = new(atomic.Int64)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		if request.Method != http.MethodConnect || request.Host != "10.0.200.1:80" || request.ProtoMajor != 2 {
			answer.WriteHeader(http.StatusNotFound)
			return
		}
		number := tunnels.Add(1)
		answer.WriteHeader(http.StatusOK)
		answer.(http.Flusher).Flush()
		for inner := bufio.NewReader(request.Body); ; {
			asked, err := http.ReadRequest(inner)
			if err != nil {
				return
			}
			_, _ = io.WriteString(answer, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"+echo.RevisionHeader+": "+asked.Host+"\r\n\r\nok")
			answer.(http.Flusher).Flush()
			if number%3 == 0 {
				return
			}
		}
	}))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), tunnels
}

func TestRequestsGoThroughTunnels(t *testing.T) {
	a := newAuthority(t)
	client, _ := a.signed("spiffe://cluster.local/ns/shop/sa/client")
	const id = "spiffe://cluster.local/ns/shop/sa/waypoint"
	address, tunnels := aWaypoint(t, a, id)
	config := Config{
		Targets: []string{address}, Host: "checkout", Rate: 500, Count: 100, Duration: 5 * time.Second, Timeout: 5 * time.Second,
		Tunnel: &Tunnel{Authority: "10.0.200.1:80", Identity: client, Waypoint: id},
	}
	report := NewReport()
	if err := Run(context.Background(), config, report.Add); err != nil {
		t.Fatal(err)
	}
	s := report.Summary()
	if s.Sent != 100 || s.Losses != 0 || s.Answered["checkout"] != 100 {
		t.Errorf("%+v", s)
	}
	if opened := tunnels.Load(); opened < 1 || opened > 100 {
		t.Errorf("%d tunnels", opened)
	}
	config.Tunnel.Authority = "10.0.200.2:80"
	if result := config.Ask(address); result.Error != "the waypoint answers CONNECT by 404 Not Found" {
		t.Error(result.Error)
	}
}

func TestWhoIsNotTheWaypointGetsNothing(t *testing.T) {
	a := newAuthority(t)
	client, _ := a.signed("spiffe://cluster.local/ns/shop/sa/client")
	const id = "spiffe://cluster.local/ns/shop/sa/waypoint"
	tunnel := &Tunnel{Authority: "10.0.200.1:80", Identity: client, Waypoint: id}
	other, _ := aWaypoint(t, a, "spiffe://cluster.local/ns/shop/sa/other")
	foreign, _ := aWaypoint(t, newAuthority(t), id)
	for _, address := range []string{other, foreign} {
		if result := (Config{Host: "checkout", Timeout: 5 * time.Second, Tunnel: tunnel}).Ask(address); result.Status != 0 || result.Error == "" {
			t.Errorf("%+v", result)
		}
	}
}

var _ net.Conn = (*tunnelled)(nil)
