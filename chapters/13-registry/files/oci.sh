# An OCI image layout by hand: blobs named by their SHA-256, and JSON that names them.

# blob FILE: keep it, print its descriptor.
blob() { # FILE MEDIATYPE
	local hex
	hex=$(sha256sum <"$1" | cut -c1-64)
	mkdir -p "$LAYOUT/blobs/sha256"
	cp "$1" "$LAYOUT/blobs/sha256/$hex"
	printf '{"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%s","size":%d}' "$2" "$hex" "$(stat -c %s "$1")"
}

# image TAR...: lowest layer first. Makes the layers' blobs, the config, the manifest, the index.
image() {
	local layers='' diffs='' tar
	for tar in "$@"; do
		gzip -nc "$tar" >"$LAYOUT/tmp"
		layers+=${layers:+,}$(blob "$LAYOUT/tmp" layer.v1.tar+gzip)
		diffs+=${diffs:+,}'"sha256:'$(sha256sum <"$tar" | cut -c1-64)'"'
	done
	printf '{"architecture":"amd64","os":"linux","config":{"Cmd":["/bin/sh"]},"rootfs":{"type":"layers","diff_ids":[%s]}}' "$diffs" >"$LAYOUT/tmp"
	local config
	config=$(blob "$LAYOUT/tmp" config.v1+json)
	printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s,"layers":[%s]}' "$config" "$layers" >"$LAYOUT/tmp"
	printf '{"schemaVersion":2,"manifests":[%s]}' "$(blob "$LAYOUT/tmp" manifest.v1+json)" >"$LAYOUT/index.json"
	printf '{"imageLayoutVersion":"1.0.0"}' >"$LAYOUT/oci-layout"
	rm "$LAYOUT/tmp"
}

# digests: the digests that a JSON file names, in its order.
digests() { grep -o '"digest":"sha256:[0-9a-f]*"' "$1" | cut -d'"' -f4; }
