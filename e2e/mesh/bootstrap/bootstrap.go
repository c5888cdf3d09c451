// Package bootstrap renders the bootstrap of an Envoy that takes its configuration from istiod.
package bootstrap

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strconv"
)

// Proxy is one Envoy.
type Proxy struct {
	// Kind is router for a gateway, sidecar for a client's proxy, waypoint for that of Services in ambient mode.
	Kind      string
	Name      string
	Namespace string
	// Address is where it listens and who it is to istiod.
	Address string
	// Admin and Discovery are addresses with ports.
	Admin, Discovery string
	// Label is the value of its label `app`, by which Gateways select it.
	Label string
	// Secrets is the socket of who gives it its certificates; a waypoint alone has some.
	Secrets string
}

// Command prints the bootstrap of one proxy.
func Command(arguments []string) error {
	flags := flag.NewFlagSet("bootstrap", flag.ExitOnError)
	var p Proxy
	flags.StringVar(&p.Kind, "kind", "router", "router for a gateway, sidecar for a client's proxy, waypoint for that of Services")
	flags.StringVar(&p.Name, "name", "", "name of its pod")
	flags.StringVar(&p.Namespace, "namespace", "istio-system", "namespace of its pod")
	flags.StringVar(&p.Address, "address", "", "its address")
	flags.StringVar(&p.Admin, "admin", "127.0.0.1:15000", "address of its admin port")
	flags.StringVar(&p.Discovery, "discovery", "127.0.0.1:15010", "address of istiod")
	flags.StringVar(&p.Label, "label", "", "value of its label app; its name by default")
	flags.StringVar(&p.Secrets, "secrets", "", "socket of its certificates, which a waypoint needs")
	_ = flags.Parse(arguments)
	text, err := Render(p)
	if err == nil {
		_, err = os.Stdout.Write(text)
	}
	return err
}

type object = map[string]any

// Render is the bootstrap as JSON.
func Render(p Proxy) ([]byte, error) {
	if p.Kind != "router" && p.Kind != "sidecar" && p.Kind != waypoint {
		return nil, fmt.Errorf("kind %q is neither router, sidecar nor waypoint", p.Kind)
	}
	if (p.Kind == waypoint) != (p.Secrets != "") {
		return nil, errors.New("a waypoint, and nobody else, has certificates")
	}
	if net.ParseIP(p.Address) == nil || p.Name == "" {
		return nil, fmt.Errorf("a name and an address are needed: %+v", p)
	}
	if p.Label == "" {
		p.Label = p.Name
	}
	admin, err := socket(p.Admin)
	if err != nil {
		return nil, err
	}
	discovery, err := socket(p.Discovery)
	if err != nil {
		return nil, err
	}
	fromIstiod := object{"ads": object{}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
	clusters := []object{static("xds-grpc", discovery)}
	rendered := object{
		"node":  p.node(),
		"admin": object{"address": admin},
		"stats_config": object{
			"use_all_default_tags": false,
			"stats_tags":           statsTags,
		},
		"dynamic_resources": object{
			"lds_config": fromIstiod,
			"cds_config": fromIstiod,
			"ads_config": object{
				"api_type": "DELTA_GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": true,
				"grpc_services": []object{{"envoy_grpc": object{"cluster_name": "xds-grpc"}}},
			},
		},
	}
	if p.Kind == waypoint {
		clusters = append(clusters, static("sds-grpc", object{"pipe": object{"path": p.Secrets}}))
		// What comes out of a tunnel goes on to listeners inside.
		rendered["bootstrap_extensions"] = []object{{
			"name": "envoy.bootstrap.internal_listener",
			"typed_config": object{
				"@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
			},
		}}
	}
	rendered["static_resources"] = object{"clusters": clusters}
	return json.MarshalIndent(rendered, "", "  ")
}

const waypoint = "waypoint"

// static is a cluster of one address that speaks HTTP/2.
func static(name string, address object) object {
	return object{
		"name": name, "alt_stat_name": name + ";", "type": "STATIC", "connect_timeout": "1s",
		"typed_extension_protocol_options": object{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": object{
				"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
				"explicit_http_config": object{"http2_protocol_options": object{}},
			},
		},
		"load_assignment": object{
			"cluster_name": name,
			"endpoints":    []object{{"lb_endpoints": []object{{"endpoint": object{"address": address}}}}},
		},
	}
}

// statsTags take what varies out of the names of statistics; istiod ends the names that it gives by a semicolon.
var statsTags = []object{
	{"tag_name": "cluster_name", "regex": `^cluster\.((.+?);\.)`},
	{"tag_name": "http_conn_manager_prefix", "regex": `^http\.((.+?);\.)`},
	{"tag_name": "response_code", "regex": `upstream_rq(_(\d{3}))$`},
	{"tag_name": "response_code_class", "regex": `_rq(_(\dxx))$`},
}

// node is who the proxy is to istiod.
func (p Proxy) node() object {
	domain := p.Namespace + ".svc.cluster.local"
	metadata := object{
		"CLUSTER_ID":      "Kubernetes",
		"MESH_ID":         "cluster.local",
		"ISTIO_VERSION":   "1.31.0",
		"NAMESPACE":       p.Namespace,
		"NAME":            p.Name,
		"INSTANCE_IPS":    p.Address,
		"OWNER":           "kubernetes://apis/apps/v1/namespaces/" + p.Namespace + "/deployments/" + p.Label,
		"WORKLOAD_NAME":   p.Label,
		"SERVICE_ACCOUNT": p.Label,
		"LABELS":          object{"app": p.Label},
		"PROXY_CONFIG":    object{"discoveryAddress": p.Discovery},
	}
	if p.Kind == "sidecar" {
		metadata["INTERCEPTION_MODE"] = "NONE"
	}
	if p.Kind == waypoint {
		// What istiod sends waypoints of 1.29.2 and later, plain Envoy has no means for.
		metadata["ISTIO_VERSION"] = "1.29.1"
		metadata["LABELS"].(object)["gateway.networking.k8s.io/gateway-name"] = p.Label
	}
	return object{
		"id":       p.Kind + "~" + p.Address + "~" + p.Name + "." + p.Namespace + "~" + domain,
		"cluster":  p.Label + "." + p.Namespace,
		"metadata": metadata,
	}
}

// socket is Envoy's form of an address with a port.
func socket(address string) (object, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("address %s: %w", address, err)
	}
	return object{"socket_address": object{"address": host, "port_value": port}}, nil
}
