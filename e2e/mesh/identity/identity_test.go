package identity

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// bundle is a file with a key, a certificate and the root that signed it.
func bundle(t *testing.T) (string, Bundle) {
	t.Helper()
	must := func(der []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"}, NotAfter: time.Now().Add(time.Hour)}
	b := Bundle{
		Key:   block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key))),
		Chain: block("CERTIFICATE", must(x509.CreateCertificate(rand.Reader, leaf, root, &key.PublicKey, key))),
		Roots: block("CERTIFICATE", must(x509.CreateCertificate(rand.Reader, root, root, &key.PublicKey, key))),
	}
	path := filepath.Join(t.TempDir(), "one.pem")
	if err := os.WriteFile(path, bytes.Join([][]byte{b.Key, b.Chain, b.Roots}, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, b
}

func TestABundleIsReadAsItWasPrinted(t *testing.T) {
	path, want := bundle(t)
	got, err := Read(path)
	if err != nil || !bytes.Equal(got.Key, want.Key) || !bytes.Equal(got.Chain, want.Chain) || !bytes.Equal(got.Roots, want.Roots) {
		t.Errorf("%v: %s %s %s", err, got.Key, got.Chain, got.Roots)
	}
	if err := os.WriteFile(path, want.Key, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil {
		t.Error("a key alone is a bundle")
	}
}

func TestSecretsAreGivenOnAStream(t *testing.T) {
	path, want := bundle(t)
	socket := filepath.Join(t.TempDir(), "s")
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Secrets(ctx, []string{"-of", path, "-socket", socket}) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			break
		}
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
		Protocols: new(http.Protocols),
	}
	transport.Protocols.SetUnencryptedHTTP2(true)
	read, write := io.Pipe()
	request, err := http.NewRequest(http.MethodPost, "http://secrets"+streaming, read)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = write.Write(framed(append(text(3, own), text(3, roots)...)))
		// It acknowledges what it got, and asks for nothing else.
		_, _ = write.Write(framed(append(text(3, own), text(5, "1")...)))
		write.Close()
	}()
	answer, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	message, err := unframed(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	response, err := fields(message)
	if err != nil || len(response[2]) != 2 || string(response[4][0]) != secretType {
		t.Fatal(response, err)
	}
	for at, parts := range [][][]byte{{[]byte(own), want.Chain, want.Key}, {[]byte(roots), want.Roots}} {
		for _, part := range parts {
			if !bytes.Contains(response[2][at], part) {
				t.Errorf("%s is not in secret %d", part, at)
			}
		}
	}
	if rest, err := io.ReadAll(answer.Body); err != nil || len(rest) != 0 {
		t.Errorf("%d more bytes, %v", len(rest), err)
	}
}

func TestTheChainOfAnAnswerEndsBeforeTheRoot(t *testing.T) {
	for want, answer := range map[string][]byte{
		"leaf":         framed(text(1, "leaf")),
		"leaf\nmiddle": framed(append(append(text(1, "leaf"), text(1, "middle")...), text(1, "root")...)),
	} {
		if chain, err := chainOf(answer); err != nil || string(chain) != want {
			t.Errorf("%s: %q, %v", want, chain, err)
		}
	}
	for _, broken := range [][]byte{nil, framed(nil), framed([]byte{0x0a, 9}), framed([]byte{0x0f})} {
		if chain, err := chainOf(broken); err == nil {
			t.Errorf("%v is %q", broken, chain)
		}
	}
}
