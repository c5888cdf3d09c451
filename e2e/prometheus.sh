# Sourced by e2e/run and e2e/mesh/run, which set cache and dir: sets prometheus, Debian's if the machine has none.
if ! command -v prometheus >/dev/null && [ ! -x "$cache/prometheus/usr/bin/prometheus" ]; then
  echo "fetching Debian's prometheus package"
  (cd "$dir" && { apt-get download prometheus >/dev/null 2>&1 || { apt-get update >/dev/null && apt-get download prometheus >/dev/null; }; } && dpkg -x prometheus_*.deb "$cache/prometheus")
fi
prometheus=$(command -v prometheus || echo "$cache/prometheus/usr/bin/prometheus")
