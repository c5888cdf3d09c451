package story

import (
	"fmt"
	"maps"
	"strings"
)

// app is what every story releases, and appHost is its host.
const (
	app      = "checkout"
	appHost  = "checkout.shop.svc.cluster.local"
	replicas = 4
)

// Ways in which a Rollout leads requests, and the one without a Rollout.
const (
	owned    = "owned"    // the whole route is Serin's
	delegate = "delegate" // Git holds a root, which delegates to a route that is Serin's
	inPlace  = "in-place" // Git holds the VirtualService and the DestinationRule
	hosts    = "hosts"    // Git holds the VirtualService, and the weights lie between two Services
	none     = "none"     // a Deployment, and a route without weights

	httpRoute = "http-route" // Git holds an HTTPRoute of the Gateway API, and the weights lie between two Services
	waypoint  = "waypoint"   // the same for a Service alone, and a waypoint follows it
)

// modes are those of a Rollout, in the order of the table.
var modes = []string{owned, delegate, inPlace, hosts, httpRoute, waypoint}

// vips are the addresses of Services that are asked for through a waypoint: some of those that the API server gives away.
var vips = map[string]string{appHost: "10.0.200.1", webHost: "10.0.200.2"}

// ofIstio are those that have more than weights.
var ofIstio = []string{owned, delegate, inPlace, hosts}

type object = map[string]any

// place is the path of each object that a story may have, by its kind and name.
func place(kind, name string) string {
	group := map[string]string{
		"Service":          "/api/v1/namespaces/shop/services/",
		"Deployment":       "/apis/apps/v1/namespaces/shop/deployments/",
		"VirtualService":   "/apis/networking.istio.io/v1/namespaces/shop/virtualservices/",
		"DestinationRule":  "/apis/networking.istio.io/v1/namespaces/shop/destinationrules/",
		"HTTPRoute":        "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/",
		"Rollout":          "/apis/serin.dev/v1alpha1/namespaces/shop/rollouts/",
		"AnalysisTemplate": "/apis/serin.dev/v1alpha1/namespaces/shop/analysistemplates/",
	}[kind]
	return group + name
}

// placed is an object's own path.
func placed(o object) string {
	return place(o["kind"].(string), o["metadata"].(object)["name"].(string))
}

// stays are the objects of all modes that are no Rollout: what a reset takes away.
func stays() []string {
	return []string{
		place("VirtualService", app), place("VirtualService", "root"), place("DestinationRule", app), place("Deployment", app), place("HTTPRoute", app),
		place("Service", app), place("Service", app+"-stable"), place("Service", app+"-canary"), place("AnalysisTemplate", "errors"), place("AnalysisTemplate", "compared"), place("AnalysisTemplate", "threshold"),
	}
}

// setting is what the objects of a story differ by.
type setting struct {
	mode        string
	steps       []any
	canary      object // further fields of strategy.canary
	annotations object // of the pods
	lines       bool   // a TCP route is released in place of the HTTP one
	calls       bool   // the Services' port is gRPC
	second      bool   // the Services have a second port, which is no HTTP, so that a destination has to name the one that is meant
}

func named(version, kind, name string, spec object) object {
	return object{"apiVersion": version, "kind": kind, "metadata": object{"name": name, "namespace": "shop"}, "spec": spec}
}

// template is that of the pods.
func (s setting) template(image int) object {
	return object{
		"metadata": object{"labels": object{"app": app}, "annotations": s.annotations},
		"spec": object{"containers": []any{object{
			"name": "app", "image": fmt.Sprintf("%s:%d", app, image), "ports": []any{object{"containerPort": 8080}, object{"containerPort": 9000}},
		}}},
	}
}

// service has one port by default: of several, a destination that names none means the one that the proxy listens on.
func (s setting) service(name string) object {
	port := object{"name": "http", "port": 80, "targetPort": 8080}
	if s.calls {
		port["name"] = "grpc"
	}
	if s.lines {
		port = object{"name": "tcp", "port": 9000, "targetPort": 9000}
	}
	ports := []any{port}
	if s.second {
		ports = append(ports, object{"name": "tcp-lines", "port": 8081, "targetPort": 9000})
	}
	spec := object{"selector": object{"app": app}, "ports": ports}
	if s.mode == waypoint && name == app {
		spec["clusterIP"] = vips[appHost]
	}
	return named("v1", "Service", name, spec)
}

var gateways = []any{"istio-system/gw-1", "istio-system/gw-2", "mesh"}

func virtualService(name string, spec object) object {
	return named("networking.istio.io/v1", "VirtualService", name, spec)
}

// to is a destination with all or none of the weight.
func (s setting) to(host, subset string, weight int) object {
	destination := object{"host": host}
	if s.second {
		destination["port"] = object{"number": 80}
	}
	if subset != "" {
		destination["subset"] = subset
	}
	return object{"destination": destination, "weight": weight}
}

// weighted is the route that Git holds of the weighted destinations.
func (s setting) weighted(route ...any) object {
	spec := object{"hosts": []any{appHost}, "gateways": gateways}
	if s.lines {
		spec["tcp"] = []any{object{"match": []any{object{"port": 9000}}, "route": route}}
	} else {
		spec["http"] = []any{object{"name": "primary", "route": route}}
	}
	return virtualService(app, spec)
}

// route is what Git holds beside the Rollout or Deployment.
func (s setting) route() []object {
	switch s.mode {
	case owned:
		return []object{s.service(app)}
	case delegate:
		return []object{s.service(app), root(object{"delegate": object{"name": app + "-serin", "namespace": "shop"}})}
	case inPlace:
		rule := named("networking.istio.io/v1", "DestinationRule", app, object{
			"host": app, "subsets": []any{object{"name": "stable"}, object{"name": "canary"}},
		})
		return []object{s.service(app), rule, s.weighted(s.to(app, "stable", 100), s.to(app, "canary", 0))}
	case hosts:
		return []object{s.service(app + "-stable"), s.weighted(s.to(app+"-stable", "", 100), s.to(app+"-canary", "", 0))}
	case httpRoute, waypoint:
		return []object{s.service(app), s.service(app + "-stable"), s.httpRoute()}
	}
	return []object{s.service(app), s.weighted(s.to(app, "", 100))}
}

// httpRoute leads what comes by the gateways, and what clients of the mesh send to the Service itself.
func (s setting) httpRoute() object {
	backend := func(side string, weight int) object {
		return object{"name": app + "-" + side, "port": 80, "weight": weight}
	}
	gateway := func(name string) object { return object{"name": name, "namespace": "istio-system"} }
	parents := []any{object{"group": "", "kind": "Service", "name": app, "port": 80}}
	if s.mode == httpRoute {
		parents = append(parents, gateway("gw-1"), gateway("gw-2"))
	}
	return named("gateway.networking.k8s.io/v1", "HTTPRoute", app, object{
		"parentRefs": parents,
		"hostnames":  []any{appHost},
		"rules":      []any{object{"name": "primary", "backendRefs": []any{backend("stable", 100), backend("canary", 0)}}},
	})
}

// root is the VirtualService that holds the host where Serin owns a delegate.
func root(rest object) object {
	route := object{"name": "root"}
	maps.Copy(route, rest)
	return virtualService("root", object{"hosts": []any{appHost}, "gateways": gateways, "http": []any{route}})
}

func (s setting) isOfGatewayAPI() bool { return s.mode == httpRoute || s.mode == waypoint }

// strategy is the Rollout's.
func (s setting) strategy() object {
	reference := object{"name": app, "routes": []any{"primary"}}
	if s.lines {
		reference = object{"name": app, "tcpRoutes": []any{object{"port": 9000}}}
	}
	istio := map[string]object{
		owned:    {"owned": object{"host": app, "hosts": []any{appHost}, "gateways": gateways}},
		delegate: {"owned": object{"host": app}},
		inPlace: {
			"virtualService":  reference,
			"destinationRule": object{"name": app, "stableSubsetName": "stable", "canarySubsetName": "canary"},
		},
		hosts: {"virtualService": reference},
	}[s.mode]
	// In mode owned Serin finds the port that is meant.
	if s.second && s.mode == delegate {
		istio["owned"].(object)["port"] = 80
	}
	canary := object{"steps": s.steps}
	if s.mode == hosts || s.isOfGatewayAPI() {
		canary["stableService"], canary["canaryService"] = app+"-stable", app+"-canary"
	}
	routing := object{"istio": istio}
	if s.isOfGatewayAPI() {
		routing = object{"gatewayAPI": object{"httpRoute": object{"name": app, "rules": []any{"primary"}}}}
	}
	maps.Copy(canary, s.canary)
	// The story's own part of the routing is beside the mode's.
	if more, has := s.canary["trafficRouting"].(object); has {
		maps.Copy(routing, more)
	}
	canary["trafficRouting"] = routing
	return object{"canary": canary}
}

// rollout is the Rollout with a template of its own.
func (s setting) rollout(image int) object {
	return named("serin.dev/v1alpha1", "Rollout", app, object{
		"replicas": replicas,
		"selector": object{"matchLabels": object{"app": app}},
		"template": s.template(image), "strategy": s.strategy(),
	})
}

// follower is the Rollout that takes a Deployment's template.
func (s setting) follower() object {
	return named("serin.dev/v1alpha1", "Rollout", app, object{
		"workloadRef": object{"apiVersion": "apps/v1", "kind": "Deployment", "name": app}, "strategy": s.strategy(),
	})
}

// deployment leaves its replicas out, as Git should where a Rollout takes over.
func (s setting) deployment(image int) object {
	return named("apps/v1", "Deployment", app, object{
		"selector": object{"matchLabels": object{"app": app}}, "template": s.template(image),
	})
}

// cluster is Envoy's name of what carries the canary's weight.
func (s setting) cluster() string {
	switch s.mode {
	case inPlace:
		return "outbound|80|canary|" + appHost
	case hosts, httpRoute:
		return "outbound|80||" + strings.Replace(appHost, app, app+"-canary", 1)
	case waypoint:
		return "inbound-vip|80|http|" + strings.Replace(appHost, app, app+"-canary", 1)
	}
	return "outbound|80|" + app + "-canary|" + appHost
}

// analysis judges the canary by the share of 5xx that the proxies count for it.
func (s setting) analysis() object {
	sum := func(metric, label string) string {
		return fmt.Sprintf(`sum(rate(envoy_cluster_upstream_rq%s{cluster_name="%s"%s}[5s]))`, metric, s.cluster(), label)
	}
	// A class that never came has no counter.
	query := fmt.Sprintf("(%s or 0 * %s) / %[2]s", sum("", `,response_code_class="5xx"`), sum("_completed", ""))
	return named("serin.dev/v1alpha1", "AnalysisTemplate", "errors", object{"metrics": []any{object{
		"name": "errors", "interval": "2s", "count": 3, "failureLimit": 1, "successCondition": "result[0] < 0.05",
		"prometheus": object{"query": query},
	}}})
}
