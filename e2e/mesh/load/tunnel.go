package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"serin.dev/e2e/mesh/identity"
)

// Tunnel is the way of ztunnel to a waypoint: HTTP/2 with mutual TLS, and a CONNECT for each connection of an application.
type Tunnel struct {
	// Authority is the address of the Service that is asked for, with its port.
	Authority string
	// Identity is a file of `mesh identity`: whose requests these are.
	Identity string
	// Waypoint is who must answer.
	Waypoint string
}

// dialer opens connections through the waypoint at the address that is dialled. Ended is called when none is needed any more.
func (t *Tunnel) dialer() (dial func(context.Context, string, string) (net.Conn, error), ended func(), err error) {
	bundle, err := identity.Read(t.Identity)
	if err != nil {
		return nil, nil, err
	}
	certificate, err := tls.X509KeyPair(bundle.Chain, bundle.Key)
	if err != nil {
		return nil, nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle.Roots)
	transport := &http.Transport{
		ForceAttemptHTTP2:   true,
		TLSHandshakeTimeout: 5 * time.Second,
		TLSClientConfig: &tls.Config{
			Certificates: []tls.Certificate{certificate},
			MinVersion:   tls.VersionTLS12,
			// Its certificate has no name of a host: who it is is looked at in its place.
			InsecureSkipVerify: true,
			VerifyConnection:   func(state tls.ConnectionState) error { return t.isWaypoint(state, roots) },
		},
	}
	dial = func(ctx context.Context, _, waypoint string) (net.Conn, error) {
		return t.connect(ctx, transport, waypoint)
	}
	return dial, transport.CloseIdleConnections, nil
}

// isWaypoint refuses who is not the waypoint, as istiod certifies.
func (t *Tunnel) isWaypoint(state tls.ConnectionState, roots *x509.CertPool) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the waypoint shows no certificate")
	}
	intermediates := x509.NewCertPool()
	for _, one := range state.PeerCertificates[1:] {
		intermediates.AddCert(one)
	}
	its := state.PeerCertificates[0]
	if _, err := its.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates}); err != nil {
		return err
	}
	if len(its.URIs) != 1 || its.URIs[0].String() != t.Waypoint {
		return fmt.Errorf("%v in the place of %s", its.URIs, t.Waypoint)
	}
	return nil
}

// connect opens one tunnel; it outlives the context.
func (t *Tunnel) connect(ctx context.Context, transport *http.Transport, waypoint string) (net.Conn, error) {
	read, write := io.Pipe()
	open, end := context.WithCancel(context.WithoutCancel(ctx))
	request := (&http.Request{
		Method: http.MethodConnect, URL: &url.URL{Scheme: "https", Host: waypoint}, Host: t.Authority,
		Header: http.Header{}, Body: read, ContentLength: -1,
	}).WithContext(open)
	stop := context.AfterFunc(ctx, end)
	answer, err := transport.RoundTrip(request)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		end()
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		end()
		_ = answer.Body.Close()
		return nil, fmt.Errorf("the waypoint answers CONNECT by %s", answer.Status)
	}
	return &tunnelled{answer.Body, write, end, waypoint}, nil
}

// tunnelled is a connection through a waypoint.
type tunnelled struct {
	io.ReadCloser
	write *io.PipeWriter
	end   context.CancelFunc
	to    string
}

func (c *tunnelled) Write(bytes []byte) (int, error) { return c.write.Write(bytes) }

func (c *tunnelled) Close() error {
	err := errors.Join(c.write.Close(), c.ReadCloser.Close())
	c.end()
	return err
}

func (c *tunnelled) LocalAddr() net.Addr  { return nowhere("here") }
func (c *tunnelled) RemoteAddr() net.Addr { return nowhere(c.to) }

// Deadlines are those of the requests.
func (*tunnelled) SetDeadline(time.Time) error      { return nil }
func (*tunnelled) SetReadDeadline(time.Time) error  { return nil }
func (*tunnelled) SetWriteDeadline(time.Time) error { return nil }

// nowhere is the end of a tunnel.
type nowhere string

func (nowhere) Network() string  { return "hbone" }
func (n nowhere) String() string { return string(n) }
