# The controller as a static binary, with the certificates that HTTPS needs and nothing else: docker build -t registry.example/serin:0.1.0 .
FROM rust:1.95.0-slim-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates musl-tools && rm -rf /var/lib/apt/lists/*
WORKDIR /serin
# The image's own Rust, without the tools that rust-toolchain.toml asks for.
ENV RUSTUP_TOOLCHAIN=1.95.0
RUN rustup target add "$(uname -m)-unknown-linux-musl"
COPY Cargo.toml Cargo.lock ./
COPY src src
RUN cargo build --release --locked --bin serin --target "$(uname -m)-unknown-linux-musl" \
  && cp "target/$(uname -m)-unknown-linux-musl/release/serin" /serin/serin

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /serin/serin /serin
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/serin"]
CMD ["run"]
