package identity

import (
	"context"
	"errors"
	"flag"
	"net"
	"net/http"
	"strconv"
)

// What Envoy asks for, and the names by which istiod's configuration asks for it.
const (
	streaming  = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets"
	secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
	own        = "default"
	roots      = "ROOTCA"
)

// Secrets gives an Envoy its certificate and istiod's roots on a socket, by its protocol of secrets, until the context is done.
func Secrets(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("secrets", flag.ExitOnError)
	path := flags.String("of", "", "what `mesh identity` printed")
	socket := flags.String("socket", "", "path of the socket")
	_ = flags.Parse(arguments)
	bundle, err := Read(*path)
	if err != nil {
		return err
	}
	listener, err := net.Listen("unix", *socket)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: bundle, Protocols: new(http.Protocols)}
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ServeHTTP answers one stream: what is asked for first is sent once, since it never changes.
func (b Bundle) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	answer.Header().Set("Content-Type", "application/grpc")
	answer.Header().Set("Trailer", "Grpc-Status")
	if request.URL.Path != streaming {
		answer.Header().Set("Grpc-Status", "12")
		return
	}
	for version := 1; ; version++ {
		message, err := unframed(request.Body)
		if err != nil {
			answer.Header().Set("Grpc-Status", "0")
			return
		}
		asked, err := fields(message)
		if err != nil {
			answer.Header().Set("Grpc-Status", "3")
			return
		}
		if len(asked[5]) > 0 && len(asked[5][0]) > 0 {
			continue // It has what it asked for.
		}
		if _, err := answer.Write(framed(b.response(asked[3], strconv.Itoa(version)))); err != nil {
			return
		}
		answer.(http.Flusher).Flush()
	}
}

// response has the secrets of these names.
func (b Bundle) response(names [][]byte, version string) []byte {
	out := text(1, version)
	for _, name := range names {
		if secret := b.secret(string(name)); secret != nil {
			out = append(out, field(2, append(text(1, secretType), field(2, secret)...))...)
		}
	}
	return append(append(out, text(4, secretType)...), text(5, version)...)
}

// secret is one secret; bytes inline are the second field of what may be a file, too.
func (b Bundle) secret(name string) []byte {
	inline := func(number int, bytes []byte) []byte { return field(number, field(2, bytes)) }
	switch name {
	case own:
		return append(text(1, name), field(2, append(inline(1, b.Chain), inline(2, b.Key)...))...)
	case roots:
		return append(text(1, name), field(4, inline(1, b.Roots))...)
	}
	return nil
}
