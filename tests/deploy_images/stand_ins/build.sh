#!/bin/sh
# Builds the stand-ins of images that this machine's podman does not have. PIP_CONF and CA as in deploy/images/build.sh.
set -eu
cd "$(dirname "$0")"
sed -n 's/^    image: \(docker.io[^ ]*\)$/\1/p' ../../../deploy/compose.yaml | while read -r image; do
    name=$(basename "${image%%:*}")
    [ "$name" != seaweedfs ] || name=s3
    case $name in grafana | airflow) continue ;; esac # there is no other build of these
    podman image exists "$image" || podman build --quiet --network host --format docker ${PIP_CONF:+--secret "id=pip,src=$PIP_CONF"} \
        ${CA:+--secret "id=ca,src=$CA"} --target "$name" --tag "$image" .
done
