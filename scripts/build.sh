#!/usr/bin/env bash
# Builds dist/action and dist/agent: tsc strips the types, ncc bundles. Two builds are byte-identical.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PWD/node_modules/.bin:$PATH

rm -rf build dist
tsc --project tsconfig.build.json
# Without this the emitted files would be read as CommonJS, and ncc would exit 0 with a bundle that throws.
cp package.json build/package.json
for bundle in action/main:action agent/cli:agent; do
  ncc build "build/${bundle%%:*}.js" --out "dist/${bundle##*:}" --license licenses.txt --minify --quiet
done
chmod +x dist/agent/index.js
rm -rf build
node scripts/sbom.ts dist/sbom.cdx.json
node scripts/source-digest.ts
