#!/bin/sh
# Build the images with podman, buildah or docker, and write the packages of each as a CycloneDX file: make images
#   ENGINE         engine to use; the first one that is installed
#   BUILD_FLAGS    flags for the engine's build: --build-arg DEVICE=gpu (serving: cuda or intel), --network host, --isolation chroot, --pull-never
#   PIP_CONF, CA   files that pip needs to reach your package index; mounted for the build, not part of the image
#   IMAGES         list of serving, pipeline, console (after pipeline) and seldon; the first three when absent
#   REGISTRY, TAG  localhost, latest
set -eu
cd "$(dirname "$0")/../.."
engine=${ENGINE:-$(command -v podman || command -v buildah || command -v docker || true)}
[ -n "$engine" ] || { echo "error: podman, buildah and docker are missing; install one: apt-get install podman" >&2; exit 2; }
out=.images
mkdir -p "$out"
# Podman and buildah drop the health check from images in OCI format.
[ "$(basename "$engine")" = docker ] || format=--format=docker
inspect='import runpy, sys; sys.path.append("/sbom"); runpy.run_module("cyclonedx_py", run_name="__main__")'
set_arguments='environment --no-validate --output-reproducible --of JSON /opt/visionops/bin/python'

for name in ${IMAGES:-serving pipeline console}; do
    image=${REGISTRY:-localhost}/visionops-$name:${TAG:-latest}
    folder=deploy/images/$name
    [ -d "$folder" ] || folder=deploy/$name
    base=
    [ "$name" != console ] || base=--build-arg=PIPELINE=${REGISTRY:-localhost}/visionops-pipeline:${TAG:-latest}
    # BUILD_FLAGS must be split into words.
    # shellcheck disable=SC2086
    "$engine" build ${format:-} ${PIP_CONF:+--secret "id=pip,src=$PIP_CONF"} ${CA:+--secret "id=ca,src=$CA"} \
        --build-arg "REVISION=$(git describe --always --dirty --abbrev=40 2>/dev/null || echo unknown)" \
        --build-arg "VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)" \
        ${base:-} ${BUILD_FLAGS:-} --file "$folder/Dockerfile" --tag "$image" .
    sbom=$out/visionops-$name.cdx.json
    # It looks into the image from inside, where nothing of it is installed.
    # shellcheck disable=SC2086
    if [ "$(basename "$engine")" = buildah ]; then
        box=$(buildah from --pull-never "$image")
        buildah run --volume "$PWD/$out/cyclonedx:/sbom:ro" "$box" -- python -c "$inspect" $set_arguments > "$sbom"
        buildah rm "$box" > /dev/null
    else
        "$engine" run --rm --network none --read-only --no-healthcheck --volume "$PWD/$out/cyclonedx:/sbom:ro" \
            --entrypoint python "$image" -c "$inspect" $set_arguments > "$sbom"
    fi
    echo "$image: $sbom"
done
